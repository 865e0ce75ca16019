"""Sends what the plan says, over the data plane's connections, and stamps what comes back."""
