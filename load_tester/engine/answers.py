"""Reads answers as they arrive: which chunks carry output, what the target reports, how it ends. Sans-I/O.

Stamps are handed in with the bytes, so they are taken before anything is parsed.
"""

from __future__ import annotations

from typing import Any

import orjson

from balancer.core.endpoints import Usage
from balancer.wire.sse import BlockSplitter, Part, parse_block
from balancer.wire.usage import parse_usage
from load_tester.measures.records import Failure, Record, TokenSource

# What ends a text that was cut off.
CUT = "..."
_LONGEST_DETAIL = 300


class StreamReader:
    """One streamed answer. `feed` until the end, then `finish` puts everything into the record."""

    __slots__ = ("_done", "_finished", "_splitter", "_usage", "failure", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.failure: tuple[Failure, str] | None = None
        self._splitter = BlockSplitter()
        self._usage: Usage | None = None
        self._finished = False
        self._done = False

    def feed(self, at_ns: int, data: bytes) -> int:
        """Take in what arrived at that time; how many chunks of output were in it."""
        before = self.record.chunks
        # Nearly always what arrives is whole events of one line each.
        if data.endswith(b"\n\n") and self._splitter.between_blocks and data.find(b"\r") < 0:
            for block in data.split(b"\n\n"):
                if block.startswith(b"data:") and block.find(b"\n") < 0:
                    self._event(at_ns, block[5:])
                elif block:
                    self._block(at_ns, block)
        else:
            for part, piece in self._splitter.feed(data):
                if part is not Part.REST:
                    self._block(at_ns, piece)
        return self.record.chunks - before

    def finish(self) -> None:
        """The answer is over, rightly framed: judge it."""
        for _, piece in self._splitter.finish():
            self._block(self.record.ended_ns, piece)
        record = self.record
        if self._usage is not None:
            record.tokens_in, record.tokens_out = self._usage.prompt_tokens, self._usage.completion_tokens
            record.token_source = TokenSource.USAGE
        elif record.chunks:
            record.tokens_out, record.token_source = record.chunks, TokenSource.CHUNKS
        if self.failure is not None:
            record.failure, record.detail = self.failure
        elif not record.chunks:
            record.failure, record.detail = Failure.EMPTY, "the stream held no output"
        elif not self._finished:
            end = "ended with [DONE]" if self._done else "ended"
            record.failure, record.detail = Failure.TRUNCATED, f"the stream {end} without a finish_reason"

    def _block(self, at_ns: int, block: bytes) -> None:
        data, name = parse_block(block)
        if data is not None:
            self._event(at_ns, data, is_error=name == b"error")

    def _event(self, at_ns: int, data: bytes, *, is_error: bool = False) -> None:
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            if data.strip() == b"[DONE]":
                self._done = True
            else:
                self._fail(Failure.NOT_AN_ANSWER, f"an event that is not JSON: {shorten(data)}")
            return
        if not isinstance(document, dict):
            self._fail(Failure.NOT_AN_ANSWER, f"an event that is no object: {shorten(data)}")
            return
        choices = document.get("choices")
        if is_error or (document.get("error") and not choices):
            self._fail(Failure.IN_STREAM, error_text(document))
            return
        usage = document.get("usage")
        if usage is not None:
            self._usage = parse_usage(usage) or self._usage
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    self._choice(at_ns, choice)

    def _choice(self, at_ns: int, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        output = reasoning = False
        if isinstance(delta, dict):
            output = bool(delta.get("content") or delta.get("tool_calls") or delta.get("refusal"))
            reasoning = bool(delta.get("reasoning_content") or delta.get("reasoning"))
        elif choice.get("text"):
            output = True
        if choice.get("finish_reason"):
            self._finished = True
        if not (output or reasoning):
            return
        record = self.record
        if record.chunks:
            record.gaps_ns.append(at_ns - record.last_ns)
        else:
            record.first_ns = at_ns
        if output and not record.output_ns:
            record.output_ns = at_ns
        record.last_ns = at_ns
        record.chunks += 1

    def _fail(self, failure: Failure, detail: str) -> None:
        if self.failure is None:
            self.failure = (failure, detail)


def read_whole(record: Record, body: bytes) -> None:
    """Judge an answer that came in one piece, and put its tokens into the record."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        record.failure = Failure.NOT_AN_ANSWER if body.strip() else Failure.EMPTY
        record.detail = not_an_answer(body) if body.strip() else "the answer has no body"
        return
    if document.get("error") and not document.get("choices"):
        record.failure, record.detail = Failure.IN_STREAM, error_text(document)
        return
    usage = parse_usage(document.get("usage"))
    if usage is not None:
        record.tokens_in, record.tokens_out = usage.prompt_tokens, usage.completion_tokens
        record.token_source = TokenSource.USAGE
    choices = document.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        record.failure, record.detail = Failure.NOT_AN_ANSWER, f"JSON without choices: {shorten(body)}"
    elif not _has_output(first):
        record.failure, record.detail = Failure.EMPTY, "the answer holds no output"
    elif not first.get("finish_reason"):
        record.failure, record.detail = Failure.TRUNCATED, "the answer has no finish_reason"


def _has_output(choice: dict[str, Any]) -> bool:
    message = choice.get("message")
    if isinstance(message, dict):
        names = ("content", "tool_calls", "refusal", "reasoning_content", "reasoning")
        return any(message.get(name) for name in names)
    return bool(choice.get("text"))


def refused(status: int, body: bytes) -> tuple[Failure, str]:
    """The class of an answer that is not 200, and its text."""
    if 300 <= status < 400:
        return Failure.STATUS_3XX, f"{status}: redirects are not followed; use the address it leads to"
    text = ""
    try:
        document = orjson.loads(body)
        if isinstance(document, dict):
            text = error_text(document)
    except orjson.JSONDecodeError:
        text = not_an_answer(body) if body.strip() else ""
    if status == 429:
        kind = Failure.STATUS_429
    else:
        kind = Failure.STATUS_4XX if 400 <= status < 500 else Failure.STATUS_5XX
    return kind, f"{status}: {text}" if text else str(status)


def error_text(document: dict[str, Any]) -> str:
    """The words of an error body, whichever of the usual shapes it has."""
    error = document.get("error", document.get("detail", document.get("message", document)))
    if isinstance(error, dict):
        error = error.get("message", error)
    if not isinstance(error, str):
        error = orjson.dumps(error).decode()
    return shorten(error.encode())


def not_an_answer(body: bytes) -> str:
    """What came instead of JSON."""
    head = body[:400].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html")):
        return "a web page (HTML) instead of JSON: is the base URL right, with its /v1?"
    return f"not JSON: {shorten(body)}"


def shorten(text: bytes) -> str:
    """Text of bounded length on one line."""
    words = " ".join(text[: _LONGEST_DETAIL * 4].decode(errors="replace").split())
    return words if len(words) <= _LONGEST_DETAIL else words[:_LONGEST_DETAIL] + CUT
