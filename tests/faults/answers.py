"""What an endpoint would say if all went well, as one answer or as a stream, and the ways to say it wrongly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.raw_server import Script, chunked, read_request, resets, says_and_closes

PROMPT_TOKENS, COMPLETION_TOKENS = 3, 2
USAGE = b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
    PROMPT_TOKENS,
    COMPLETION_TOKENS,
    PROMPT_TOKENS + COMPLETION_TOKENS,
)
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: its type, its pieces, how many of them prove it usable but do not end it."""

    content_type: bytes
    pieces: tuple[bytes, ...]
    begin: int = 1

    @property
    def whole(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)

    @property
    def begun(self) -> bytes:
        """The beginning, from which it goes on."""
        return b"".join(self.pieces[: self.begin])

    def head(self, *lines: bytes, status: bytes = b"200 OK", version: bytes = b"1.1") -> bytes:
        """A head with these header lines and the content type."""
        return b"\r\n".join(
            [b"HTTP/" + version + b" " + status, b"Content-Type: " + self.content_type, *lines, b"", b""]
        )

    def sized(self, *lines: bytes, status: bytes = b"200 OK") -> bytes:
        """The whole answer with its length."""
        return self.head(*lines, b"Content-Length: %d" % len(self.whole), status=status) + self.whole

    def coded(self, *lines: bytes) -> bytes:
        """The whole answer in chunks."""
        return self.head(*lines, b"Transfer-Encoding: chunked") + chunked(*self.pieces)

    def begun_in_chunks(self, rest: bytes = b"") -> bytes:
        """The beginning in chunks, and then something else."""
        return self.head(b"Transfer-Encoding: chunked") + chunked(self.begun, last=False) + rest


def completion(content: str, usage: bytes = USAGE) -> Said:
    """One answer in three pieces."""
    message = json.dumps({"role": "assistant", "content": content}, ensure_ascii=False).encode()
    return Said(
        b"application/json",
        (
            b'{"id":"c-1","object":"chat.completion","model":"fake-model","choices":[{"index":0,"message":',
            message + b',"finish_reason":"stop"}],',
            b'"usage":' + usage + b"}",
        ),
        begin=2,
    )


def stream(*contents: str, usage: bytes = USAGE, line_end: bytes = b"\n") -> Said:
    """A stream of these pieces of text, with a report of usage and [DONE]."""
    events = [b'"choices":[{"index":0,"delta":%b}]' % json.dumps({"content": text}).encode() for text in contents]
    chunks = [b'data: {"id":"c-1","model":"fake-model",%b}\n\n' % event for event in events]
    report = b'data: {"id":"c-1","model":"fake-model","choices":[],"usage":%b}\n\n' % usage
    pieces = (piece.replace(b"\n", line_end) for piece in (*chunks, report, DONE))
    return Said(b"text/event-stream", tuple(pieces))


Making = Callable[[Said], Script]


def closing(make: Callable[[Said], bytes]) -> Making:
    """The endpoint reads the request, says that and closes."""
    return lambda said: says_and_closes(make(said))


def stalling(make: Callable[[Said], bytes]) -> Making:
    """The endpoint reads the request, says that and nothing more; it goes when the balancer does."""

    def making(said: Said) -> Script:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(make(said))
            await reader.read()

        return script

    return making


def resetting(make: Callable[[Said], bytes]) -> Making:
    """The endpoint reads the request, says that, waits until it has left and resets the connection."""

    def making(said: Said) -> Script:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            text = make(said)
            if text:
                writer.write(text)
                await writer.drain()
                await asyncio.sleep(0.02)  # a reset overtakes what the other side has not read
            resets(writer)

        return script

    return making


def dripping(make: Callable[[Said], bytes], step: int, seconds: float = 0.0) -> Making:
    """The endpoint says that in steps of so many bytes, each in a segment of its own."""

    def making(said: Said) -> Script:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            text = make(said)
            for at in range(0, len(text), step):
                writer.write(text[at : at + step])
                await writer.drain()
                await asyncio.sleep(seconds)

        return script

    return making


def endlessly(make: Callable[[Said], bytes], drip: bytes, seconds: float = 0.0) -> Making:
    """The endpoint says that, and then the same few bytes until the balancer has had enough."""

    def making(said: Said) -> Script:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(make(said))
            while not writer.is_closing():
                writer.write(drip)
                await writer.drain()
                await asyncio.sleep(seconds)

        return script

    return making


def before_reading(end: Callable[[asyncio.StreamWriter], None]) -> Making:
    """The endpoint accepts and ends the connection without reading."""

    def making(said: Said) -> Script:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            end(writer)

        return script

    return making
