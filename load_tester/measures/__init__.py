"""What was measured: every formula of every figure. Pure; times are monotonic nanoseconds and arrive as arguments."""
