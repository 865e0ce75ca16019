"""Attempts, verdicts, retries and the admission queue: the use case between the front door and the endpoints."""
