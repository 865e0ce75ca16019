"""What a follower has passed on, as the lead serves it. Apart from `relay`, whose HTTP client only followers need."""

from __future__ import annotations

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

# Who asked, and how: a field that a follower sets, and that it takes from clients.
ORIGIN = b"x-llm-balancer-origin"


class Relayed:
    """The ASGI application of the lead for what followers pass on: `app`, as if the client had come here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = [field for field in scope["headers"] if field[0] != ORIGIN]
        told = next(value for name, value in scope["headers"] if name == ORIGIN)
        client, server, scheme = orjson.loads(told)
        origin = {
            "client": None if client is None else tuple(client),
            "server": None if server is None else tuple(server),
            "scheme": scheme,
        }
        await self._app({**scope, **origin, "headers": headers}, receive, send)
