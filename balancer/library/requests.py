"""Request bodies: made of a call's arguments, completed for the endpoint that is going to get them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from balancer.core.errors import InvalidRequest
from balancer.library.values import Endpoint
from balancer.wire.json_text import insert_member
from balancer.wire.openai import OPERATIONS, Operation, ParsedBody, parse

CHAT = OPERATIONS["/v1/chat/completions"]
EMBEDDINGS = OPERATIONS["/v1/embeddings"]
# What goes to endpoints where the caller has no header fields of its own.
HEADERS = (
    b"content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
    b"accept-encoding: identity\r\nuser-agent: llm-balancer\r\n"
)


class Prepared(NamedTuple):
    """A request that any endpoint may get; `query` without its question mark.

    `defaults`: members that each endpoint fills in with its own.
    """

    operation: Operation
    parsed: ParsedBody
    body: bytes
    headers: bytes = HEADERS
    query: bytes = b""
    defaults: tuple[str, ...] = ()

    def with_defaults(self, body: bytes, endpoint: Endpoint) -> bytes:
        """`body` with what this endpoint adds to it."""
        for name in self.defaults:
            value = getattr(endpoint, name)
            if value is not None:
                body = insert_member(body, name, orjson.dumps(value))
        return body


def chat_request(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    temperature: float | None,
    max_tokens: int | None,
    model: str | None,
    *,
    stream: bool,
) -> Prepared:
    """A chat. `tools` are schemas of functions, wrapped or not. Raises ValueError for what cannot be sent."""
    if not isinstance(messages, list | tuple):
        raise ValueError("messages must be a list such as [{'role': 'user', 'content': 'Hello!'}]")  # noqa: TRY004
    document: dict[str, Any] = {"messages": messages}
    if tools:
        document |= {"tools": [_wrapped(tool) for tool in tools], "tool_choice": "auto"}
    own = {"temperature": temperature, "max_tokens": max_tokens}
    document |= {name: value for name, value in own.items() if value is not None}
    if stream:
        document["stream"] = True
    defaults = tuple(name for name, value in own.items() if value is None)
    return _prepared(CHAT, document, model, defaults)


def embeddings_request(texts: str | Sequence[str], model: str | None) -> Prepared:
    """An embedding of one text or several. Raises ValueError for what cannot be sent."""
    return _prepared(EMBEDDINGS, {"input": texts}, model, ())


def _prepared(operation: Operation, document: dict[str, Any], model: str | None, defaults: tuple[str, ...]) -> Prepared:
    if model is not None:
        document["model"] = model
    try:
        body = orjson.dumps(document)
        return Prepared(operation, parse(body, operation), body, defaults=defaults)
    except InvalidRequest as error:
        raise ValueError(error.message) from None
    except TypeError as error:
        raise ValueError(f"the call cannot be written as JSON: {error}") from None


def _wrapped(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(tool, Mapping):
        raise ValueError(f"tools must be a list of function schemas, not of {type(tool).__name__}")  # noqa: TRY004
    is_wrapped = tool.get("type") == "function" and "function" in tool
    return tool if is_wrapped else {"type": "function", "function": tool}
