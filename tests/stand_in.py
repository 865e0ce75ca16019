"""A stand-in for the network of the control plane's client: a function answers instead of an endpoint."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

import httpx

from balancer.core.endpoints import Endpoint

Handler = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


class StandIn:
    """Gives every request to `handler`, which answers, raises an UpstreamError, or lets wait."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.forgotten: list[int] = []

    async def open(self, endpoint: Endpoint, path: bytes, headers: bytes, body: bytes, *, method: bytes) -> _Answer:
        """Ask the handler."""
        fields = [line.split(": ", 1) for line in headers.decode().splitlines()]
        if endpoint.api_key:
            fields.append(["authorization", f"Bearer {endpoint.api_key}"])
        url = endpoint.base_url + path.decode()
        answer = self._handler(httpx.Request(method.decode(), url, headers=[(k, v) for k, v in fields], content=body))
        return _Answer(await answer if inspect.isawaitable(answer) else answer)

    def forget(self, endpoint_id: int) -> None:
        """Note it."""
        self.forgotten.append(endpoint_id)

    async def close(self) -> None:
        """There is nothing to close."""


class _Answer:
    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        self.headers = [(name.lower(), value) for name, value in answer.headers.raw]
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        self._chunks = aiter(answer.stream)

    async def read(self) -> bytes:
        """The next chunk."""
        return await anext(self._chunks, b"")

    def close(self) -> None:
        """There is nothing to let go of."""
