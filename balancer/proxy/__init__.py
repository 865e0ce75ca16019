"""The data plane's front door: `/v1/*` as raw ASGI endpoints."""
