"""One client of a stream, who knows what must come: his own model's name in every chunk, the text in order, an end."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

from load_tester.fake_bodies import answer_text


@dataclass(slots=True)
class Seen:
    """How a stream ended for its client: "whole", "left", "broken" (with an error event), "refused" or "wrong"."""

    how: str
    endpoint: str = ""
    words: str = ""
    began_at: float = 0.0
    ended_at: float = field(default_factory=time.monotonic)


class StreamClient(asyncio.Protocol):
    """A connection for one stream; `ended` is done when the answer is complete or the connection gone."""

    def __init__(self, request: bytes) -> None:
        self.status = 0
        self.endpoint = ""
        self.body: list[bytes] = []
        self.complete = False
        self.began_at = time.monotonic()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The parser calls list.append itself.
        self.on_body = self.body.append
        self._request = request
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-lb-endpoint":
            self.endpoint = value.decode()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        self.complete = True
        if not self.ended.done():
            self.ended.set_result(None)

    def leave(self) -> None:
        """Close at once."""
        self._transport.abort()


def request_bytes(model: str, tokens: int) -> bytes:
    """A request for a stream of so many tokens."""
    messages = [{"role": "user", "content": "hello"}]
    body = json.dumps({"model": model, "messages": messages, "max_tokens": tokens, "stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body


async def stream(port: int, model: str, tokens: int, leave_after_seconds: float | None) -> Seen:
    """Ask for a stream and read it, to its end or for a while."""
    loop = asyncio.get_running_loop()
    client = (await loop.create_connection(lambda: StreamClient(request_bytes(model, tokens)), "127.0.0.1", port))[1]
    try:
        await asyncio.wait_for(asyncio.shield(client.ended), leave_after_seconds)
    except TimeoutError:
        return Seen("left", client.endpoint, began_at=client.began_at)
    finally:
        client.leave()
    how, words = judge(client, model, tokens)
    return Seen(how, client.endpoint, words, client.began_at)


def judge(client: StreamClient, model: str, tokens: int) -> tuple[str, str]:
    """How it ended, and what there is to say about it."""
    body = b"".join(client.body)
    if client.status != 200:
        return "refused", f"{client.status} {body[:300]!r}"
    if not client.complete:
        return "wrong", "closed without an end"
    events = [event.removeprefix("data: ") for event in body.decode().split("\n\n") if event]
    last = events.pop() if events else ""
    chunks: list[dict[str, Any]] = [json.loads(event) for event in events]
    if {chunk.get("model") for chunk in chunks} - {model} or len({chunk.get("id") for chunk in chunks}) > 1:
        return "wrong", "chunks of somebody else's stream"
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    if last == "[DONE]":
        return ("whole", "") if text == answer_text(tokens) else ("wrong", "not the whole text")
    if '"error"' not in last or not answer_text(tokens).startswith(text):
        return "wrong", f"ends in {last[:200]}"
    return "broken", last
