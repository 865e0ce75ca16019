"""What calls return: dictionaries that say how it went, whatever went wrong. Also how they are read out of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import orjson

from balancer.core.errors import BalancerError, ModelNotFound, NoEndpoint
from balancer.wire.json_text import decode
from balancer.wire.sse import BlockSplitter, parse_block

_LONGEST_WORDS = 500


class ToolCall(TypedDict):
    """One call of a tool. `arguments` are decoded; where the model wrote no valid JSON, they are its text."""

    id: str
    name: str
    arguments: Any


class ChatResult(TypedDict):
    """How a chat went. `endpoint` is None where all that were tried failed; the seconds are those of good answers."""

    success: bool
    content: str
    tool_calls: list[ToolCall]
    error: str
    usage: dict[str, Any]
    endpoint: str | None
    response_time: NotRequired[float]


class EmbedResult(TypedDict):
    """How an embedding went: one list of numbers for each text, in order."""

    success: bool
    embeddings: list[list[float]]
    error: str
    usage: dict[str, Any]
    endpoint: str | None
    response_time: NotRequired[float]


class Unreadable(ValueError):
    """An answer is not what was asked for; the message says how, in words for an operator."""


def failed_chat(error: str, endpoint: str | None, *, content: str = "") -> ChatResult:
    """A chat that went wrong."""
    return {
        "success": False,
        "content": content,
        "tool_calls": [],
        "error": error,
        "usage": {},
        "endpoint": endpoint,
    }


def read_chat(body: bytes, endpoint: str, seconds: float) -> ChatResult:
    """The result in a chat completion. Raises Unreadable."""
    document = _object(body)
    choices = _objects(document.get("choices"))
    message = choices[0].get("message") if choices else None
    if not isinstance(message, dict):
        raise Unreadable("answered JSON, but no chat completion")
    return {
        "success": True,
        "content": _text(message.get("content")),
        "tool_calls": [_tool_call(each) for each in _objects(message.get("tool_calls"))],
        "error": "",
        "usage": _usage(document),
        "endpoint": endpoint,
        "response_time": seconds,
    }


def read_embeddings(body: bytes, endpoint: str, seconds: float) -> EmbedResult:
    """The result in an answer with embeddings. Raises Unreadable."""
    document = _object(body)
    entries = sorted(_objects(document.get("data")), key=lambda entry: _whole(entry.get("index")))
    vectors: list[Any] = [entry.get("embedding") for entry in entries]
    if not vectors or not all(isinstance(vector, list) for vector in vectors):
        raise Unreadable("answered JSON, but no embeddings as lists of numbers")
    return {
        "success": True,
        "embeddings": vectors,
        "error": "",
        "usage": _usage(document),
        "endpoint": endpoint,
        "response_time": seconds,
    }


def reason_of(error: BalancerError) -> str:
    """What went wrong, in words for whoever called."""
    if isinstance(error, ModelNotFound):
        near = " or ".join(map(repr, error.nearest))
        return f"no endpoint serves the model {error.model!r}" + (f"; did you mean {near}?" if near else "")
    if isinstance(error, NoEndpoint):
        listed = "; ".join(f"{name}: {reason}" for name, reason in error.reasons.items())
        return f"no endpoint can take the request: {listed or 'none is configured'}"
    return str(error)


def refusal_in(status: int, body: bytes) -> str:
    """What an endpoint says in an answer that is none, in words."""
    try:
        error = _object(body).get("error")
    except Unreadable:
        error = None
    words = error.get("message") if isinstance(error, dict) else error
    return f"answered {status}: {words[:_LONGEST_WORDS]}" if isinstance(words, str) and words else f"answered {status}"


class StreamedChat:
    """Puts a streamed chat together: `feed` gives the new text, the attributes what has come so far.

    `broken`: the endpoint said in the stream that it failed.
    """

    def __init__(self) -> None:
        self.content: list[str] = []
        self.usage: dict[str, Any] = {}
        self.broken = ""
        self._calls: dict[int, dict[str, str]] = {}
        self._splitter = BlockSplitter()

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls of tools so far."""
        return [
            {"id": call["id"], "name": call["name"], "arguments": _arguments(call["arguments"])}
            for _, call in sorted(self._calls.items())
        ]

    def feed(self, chunk: bytes) -> list[str]:
        """Take bytes of the stream in; returns the pieces of text in them, none of them empty."""
        return self._take([piece for _, piece in self._splitter.feed(chunk)])

    def finish(self) -> list[str]:
        """The rest, where the stream ends without a blank line."""
        return self._take([piece for _, piece in self._splitter.finish()])

    def _take(self, blocks: list[bytes]) -> list[str]:
        deltas = [text for block in blocks if (text := self._event(parse_block(block).data))]
        self.content += deltas
        return deltas

    def _event(self, data: bytes | None) -> str:
        if data is None or data.strip() == b"[DONE]":
            return ""
        try:
            document = _object(data)
        except Unreadable:
            return ""
        if document.get("error") and not document.get("choices"):
            self.broken = refusal_in(200, data).removeprefix("answered 200: ")
        self.usage = _usage(document) or self.usage
        for choice in _objects(document.get("choices"))[:1]:
            delta = _member(choice, "delta")
            for call in _objects(delta.get("tool_calls")):
                self._add_to_call(call)
            return _text(delta.get("content"))
        return ""

    def _add_to_call(self, part: Mapping[str, Any]) -> None:
        function = _member(part, "function")
        call = self._calls.setdefault(_whole(part.get("index")), {"id": "", "name": "", "arguments": ""})
        call["id"] = call["id"] or _text(part.get("id"))
        call["name"] = call["name"] or _text(function.get("name"))
        call["arguments"] += _text(function.get("arguments"))


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = decode(body)
    except ValueError:
        raise Unreadable("answered something that is not JSON") from None
    if not isinstance(document, dict):
        raise Unreadable("answered JSON, but no object")
    return document


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _member(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _usage(document: Mapping[str, Any]) -> dict[str, Any]:
    return _member(document, "usage")


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    function = _member(call, "function")
    arguments = function.get("arguments")
    return {
        "id": _text(call.get("id")),
        "name": _text(function.get("name")),
        "arguments": _arguments(arguments) if isinstance(arguments, str) else arguments,
    }


def _arguments(text: str) -> Any:
    """Decoded; nothing at all stands for no arguments."""
    if not text.strip():
        return {}
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
