"""A door for HTTP clients inside the script: takes a request, gives the answer that a server would give."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from itertools import count
from urllib.parse import unquote

import orjson

from balancer.core.errors import BalancerError, InvalidRequest, NoEndpoint, UpstreamError
from balancer.library.calls import Call
from balancer.library.engine import Engine
from balancer.library.requests import Prepared
from balancer.library.results import reason_of
from balancer.wire.headers import Headers, read_client_headers, upstream_headers
from balancer.wire.openai import OPERATIONS, answer_for, error_event, parse
from balancer.wire.stored_responses import StoredResponses

_JSON = (b"content-type", b"application/json")
# What may stand in a header (RFC 9110 section 5); no parser has looked at these fields before.
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class Answer:
    """An answer as it goes to the client: `body` has come with the head, more may come by `read`.

    `timeout` bounds each wait, in seconds; None: the endpoints' own limits alone do.
    """

    def __init__(
        self, status: int, headers: Headers, body: bytes, call: Call | None = None, timeout: float | None = None
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self._call = call
        self._timeout = timeout

    @property
    def is_whole(self) -> bool:
        """Whether nothing comes behind `body`."""
        return self._call is None or self._call.over

    async def read(self) -> bytes:
        """What has come since the last time; b"" at the end. A broken stream of events ends with an error in band.

        Raises UpstreamError where anything else breaks, TimeoutError where it takes too long.
        """
        call = self._call
        if call is None or call.over:
            return b""
        try:
            async with asyncio.timeout(self._timeout):
                return await call.read()
        except UpstreamError as error:
            if not call.is_stream:
                raise
            return error_event(f"endpoint {call.blamed!r}: {error}", mid_event=not call.at_boundary)

    def close(self) -> None:
        """Give the rest up; may be repeated. For the event loop's own thread."""
        if self._call is not None:
            self._call.abandon()


class Door:
    """Serves the paths of the OpenAI API that the balancer knows, without a socket."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._serials = count(1)
        self._stored = StoredResponses()

    async def ask(
        self, method: str, target: str, headers: Iterable[tuple[bytes, bytes]], body: bytes, timeout: float | None
    ) -> Answer:
        """The answer to a request, or the refusal in OpenAI's envelope. Raises TimeoutError."""
        self._engine.start()
        path, _, query = target.partition("?")
        try:
            fields = [_checked_field(name, value) for name, value in headers]
            if method == "GET" and path == "/v1/models":
                return _json({"object": "list", "data": await self._engine.models()})
            if method == "GET" and path.startswith("/v1/models/"):
                return await self._model(unquote(path.removeprefix("/v1/models/")))
            async with asyncio.timeout(timeout):
                call, head, first = await self._forward(method, path, query, fields, body)
                return Answer(call.status, head, first, call, timeout)
        except BalancerError as error:
            return _refusal(error)

    async def _forward(
        self, method: str, path: str, query: str, headers: Headers, body: bytes
    ) -> tuple[Call, Headers, bytes]:
        operation = OPERATIONS.get(path) if method == "POST" else None
        if operation is None:
            known = ", ".join(OPERATIONS)
            raise InvalidRequest(f"{method} {path} is not served; known are: {known}", code="unknown_url", status=404)
        request_id = read_client_headers(headers).request_id or f"call-{next(self._serials):x}"
        lines = upstream_headers(headers, request_id, identity=operation.metered)
        parsed = parse(body, operation)
        keeper = self._stored.keeper(parsed.previous_response_id)
        prepared = Prepared(operation, parsed, body, lines, query.encode())
        call = self._engine.call(prepared, verbatim=False, pinned_to=keeper)
        try:
            await call.open()
            head = [*call.head(), (b"x-request-id", request_id.encode())]
            first = await call.read()
        except UpstreamError as error:
            raise type(error)(f"endpoint {call.blamed!r}: {error}") from None
        if operation.name == "responses" and call.status < 300:
            self._stored.note(first, call.endpoint_id)
        if call.complete:
            call.end()
        return call, head, first

    async def _model(self, name: str) -> Answer:
        for model in await self._engine.models():
            if model["id"] == name:
                return _json(model)
        raise InvalidRequest(f"the model {name!r} does not exist", param="model", code="model_not_found", status=404)


def _checked_field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise InvalidRequest(f"the header {name.decode('latin-1')!r} holds characters that cannot be sent")
    return name.lower(), value


def _json(content: object) -> Answer:
    return Answer(200, [_JSON], orjson.dumps(content))


def _refusal(error: BalancerError) -> Answer:
    answer = answer_for(error)
    body = answer.body
    if isinstance(error, NoEndpoint):
        # The server's words speak of its editor and its addresses.
        document = orjson.loads(body)
        document["error"]["message"] = reason_of(error)
        body = orjson.dumps(document)
    wait = answer.retry_after_seconds
    headers = [_JSON] if wait is None else [_JSON, (b"retry-after", b"%d" % wait)]
    return Answer(answer.status, headers, body)
