"""More than one process behind one port: the supervisor, the lead and its followers, and what they tell each other."""
