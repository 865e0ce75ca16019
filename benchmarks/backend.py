"""A backend that costs as little as Python allows: canned answers over HTTP/1.1, keep-alive, one process, many ports.

The model's name in the request picks the answer. It checks nothing; the balancer's own tests use a truer one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from collections.abc import Sequence
from typing import cast

import httptools
import orjson
import uvloop

CHUNKS = 64
PROMPT_TOKENS = 48
JSON_TOKENS = 40

JSON, BURST, CHUNKED = "bench-json", "bench-burst", "bench-chunked"
PACED, SLOWLY_PACED = "bench-paced", "bench-slowly-paced"
# Seconds between the writes of an answer.
PACES = {PACED: 0.02, SLOWLY_PACED: 0.05}
COMPLETION_TOKENS = {JSON: JSON_TOKENS, BURST: CHUNKS, CHUNKED: CHUNKS, PACED: CHUNKS, SLOWLY_PACED: CHUNKS}

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def _usage(completion_tokens: int) -> dict[str, int]:
    total = PROMPT_TOKENS + completion_tokens
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": completion_tokens, "total_tokens": total}


def _json_answer() -> bytes:
    message = {"role": "assistant", "content": "A load balancer hands each request to one of several backends."}
    body = json.dumps(
        {
            "id": "chatcmpl-0123456789abcdef",
            "object": "chat.completion",
            "created": 1735689600,
            "model": JSON,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": _usage(JSON_TOKENS),
        }
    ).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _event(payload: bytes) -> bytes:
    """One server-sent event as one chunk of the transfer coding."""
    event = b"data: " + payload + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _stream_answer(model: str) -> list[bytes]:
    base = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1735689600, "model": model}
    deltas = [
        {"index": 0, "delta": {"content": f" word{number}"}, "finish_reason": "stop" if number == CHUNKS - 1 else None}
        for number in range(CHUNKS)
    ]
    events = [_event(json.dumps(base | {"choices": [delta]}).encode()) for delta in deltas]
    usage = _event(json.dumps(base | {"choices": [], "usage": _usage(CHUNKS)}).encode())
    return [_STREAM_HEAD + events[0], *events[1:], usage + _event(b"[DONE]") + b"0\r\n\r\n"]


def _models_answer() -> bytes:
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "benchmark"} for name in COMPLETION_TOKENS]
    body = json.dumps({"object": "list", "data": listed}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def answers() -> dict[str, list[bytes]]:
    """By model, the writes of which an answer consists; under "" the list of models."""
    return {
        "": [_models_answer()],
        JSON: [_json_answer()],
        BURST: [b"".join(_stream_answer(BURST))],
        **{name: _stream_answer(name) for name in (CHUNKED, PACED, SLOWLY_PACED)},
    }


class _Connection(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop, canned: dict[str, list[bytes]]) -> None:
        self._loop = loop
        self._canned = canned
        self._body: list[bytes] = []
        self._left: list[bytes] = []
        self._pace_seconds = 0.0
        self.on_body = self._body.append
        self._parser = httptools.HttpRequestParser(self)  # looks up the callbacks when it is made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        # Whoever sends no body asks for the models.
        model = orjson.loads(b"".join(self._body))["model"] if self._body else ""
        first, *rest = self._canned[model]
        self._body.clear()
        self._transport.write(first)
        if rest:
            self._left = rest[::-1]
            self._pace_seconds = PACES.get(model, 0.0)
            self._go_on()

    def _go_on(self) -> None:
        """One write per turn of the loop, so that each leaves by itself, or after a while, as a model generates."""
        if self._pace_seconds:
            self._loop.call_later(self._pace_seconds, self._write_next)
        else:
            self._loop.call_soon(self._write_next)

    def _write_next(self) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(self._left.pop())
        if self._left:
            self._go_on()


async def _serve(ports: Sequence[int]) -> None:
    loop = asyncio.get_running_loop()
    canned = answers()
    for port in ports:
        listening = socket.create_server(("127.0.0.1", port), backlog=1024)
        await loop.create_server(lambda: _Connection(loop, canned), sock=listening)
    await asyncio.Event().wait()


def main() -> None:
    """Listen on the ports given, on 127.0.0.1, until killed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("ports", type=int, nargs="+")
    uvloop.run(_serve(parser.parse_args().ports))


if __name__ == "__main__":
    main()
