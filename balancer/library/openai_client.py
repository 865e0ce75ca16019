"""The official `openai` client over a transport that is the balancer itself. Needs the packages openai and httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

import httpx
from openai import AsyncOpenAI, OpenAI

from balancer.core.errors import UpstreamError
from balancer.library.door import Answer, Door
from balancer.library.portal import Portal

# Never resolved, as nothing is sent there.
_BASE_URL = "http://balancer/v1"
_API_KEY = "kept-by-the-balancer"


def async_client(door: Door, options: Mapping[str, Any]) -> AsyncOpenAI:
    """A client for the balancer's event loop. It does not repeat what the balancer has already tried elsewhere."""
    client = httpx.AsyncClient(transport=AsyncTransport(door))
    return AsyncOpenAI(**_with_defaults(options), http_client=cast(Any, client))


def sync_client(door: Door, portal: Portal, options: Mapping[str, Any]) -> OpenAI:
    """A client for any thread but the portal's."""
    client = httpx.Client(transport=SyncTransport(door, portal))
    return OpenAI(**_with_defaults(options), http_client=cast(Any, client))


def _with_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"base_url": _BASE_URL, "api_key": _API_KEY, "max_retries": 0, **options}


class AsyncTransport(httpx.AsyncBaseTransport):
    """Gives requests to the balancer instead of the network."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask, and return as soon as an endpoint's answer has begun."""
        answer = await _asked(self._door, request, await request.aread())
        return httpx.Response(answer.status, headers=answer.headers, stream=_AsyncBody(answer))


class SyncTransport(httpx.BaseTransport):
    """The same for other threads than the event loop's."""

    def __init__(self, door: Door, portal: Portal) -> None:
        self._door = door
        self._portal = portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Ask, and return as soon as an endpoint's answer has begun."""
        answer = self._portal.call(_asked, self._door, request, request.read())
        return httpx.Response(answer.status, headers=answer.headers, stream=_SyncBody(answer, self._portal))


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._answer.body
        while not self._answer.is_whole and (chunk := await _read(self._answer)):
            yield chunk

    async def aclose(self) -> None:
        self._answer.close()


class _SyncBody(httpx.SyncByteStream):
    def __init__(self, answer: Answer, portal: Portal) -> None:
        self._answer = answer
        self._portal = portal

    def __iter__(self) -> Iterator[bytes]:
        yield self._answer.body
        while not self._answer.is_whole and (chunk := self._portal.call(_read, self._answer)):
            yield chunk

    def close(self) -> None:
        if not self._answer.is_whole:
            self._portal.post(self._answer.close)


async def _asked(door: Door, request: httpx.Request, body: bytes) -> Answer:
    timeout = request.extensions.get("timeout", {}).get("read")
    target = request.url.raw_path.decode("ascii")
    try:
        return await door.ask(request.method, target, request.headers.raw, body, timeout)
    except TimeoutError:
        raise httpx.ReadTimeout("no answer in time", request=request) from None


async def _read(answer: Answer) -> bytes:
    try:
        return await answer.read()
    except UpstreamError as error:
        raise httpx.ReadError(str(error)) from None
    except TimeoutError:
        raise httpx.ReadTimeout("the answer did not go on in time") from None
