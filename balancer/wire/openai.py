"""The OpenAI dialect toward clients: which operations there are, what a request body asks, errors and their statuses.

Only what the balancer needs is validated; all else is for the endpoint to judge. Bodies are never re-serialised.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import orjson

from balancer.core.errors import (
    AllBusy,
    BalancerError,
    Draining,
    InvalidRequest,
    ModelNotFound,
    NoEndpoint,
    NotEligible,
    TooManyConnections,
    Unauthorized,
    UpstreamError,
    UpstreamTimeout,
)
from balancer.wire.json_text import (
    decode,
    edit_values,
    encode,
    insert_member,
    is_elaborate,
    member_spans,
    spans_of_present,
)

_LONGEST_MODEL_NAME = 256
# A conversation of 100,000 messages. 30 MB of brackets would keep the event loop busy for seconds instead.
MOST_BODY_VALUES = 500_000
_UNUSABLE_IN_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_INCLUDE_USAGE = b'{"include_usage":true}'

_MOST_REASONS = 20
_LONGEST_WAIT_SECONDS = 3600
# A slot frees up within a request's length; clients that know nothing better should ask again soon.
_BUSY_RETRY_SECONDS = 1
# Nothing tells when a probe or an operator will change this: soon enough to meet a recovery, too rare to hammer.
_UNAVAILABLE_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of request.

    `path` goes behind an endpoint's base URL. `metered`: answers carry usage worth reading. `include_usage`: streams
    report usage only when `stream_options.include_usage` asks for it. `generates_text`: the answer's length tells of
    its tokens.
    """

    name: str
    path: bytes
    metered: bool = True
    include_usage: bool = False
    generates_text: bool = False


_ALL = (
    Operation("chat", b"/chat/completions", include_usage=True, generates_text=True),
    Operation("completions", b"/completions", include_usage=True, generates_text=True),
    Operation("embeddings", b"/embeddings"),
    Operation("responses", b"/responses", generates_text=True),
    Operation("rerank", b"/rerank"),
    Operation("moderations", b"/moderations"),
    Operation("images", b"/images/generations", metered=False),
    Operation("audio", b"/audio/speech", metered=False),
)
OPERATIONS: Mapping[str, Operation] = MappingProxyType({"/v1" + each.path.decode(): each for each in _ALL})


class ParsedBody(NamedTuple):
    """What the balancer needs to know of a request body. (A tuple: one is made for each request.)

    `model` is None where the client named none (missing, null or empty). `asks_usage`: the client itself wrote
    something into `stream_options.include_usage`, which then stays as it is. `previous_response_id`: responses only.
    `names_model` and `has_stream_options`: whether the members are there at all, for `rewrite`. `user`: whoever the
    client says it asks for.
    """

    model: str | None
    stream: bool
    asks_usage: bool
    previous_response_id: str | None
    names_model: bool
    has_stream_options: bool
    user: str | None = None


def parse(body: bytes, operation: Operation, most_values: int = MOST_BODY_VALUES) -> ParsedBody:
    """Read a request body. Raises InvalidRequest, whose message names the field and what it should be.

    `most_values`: strings, arrays and objects together, and four times as many values of any kind.
    """
    if len(body) > most_values and is_elaborate(body, most_values):
        raise InvalidRequest(
            f"the request body holds more than {most_values} strings, arrays and objects",
            code="body_too_elaborate",
            status=413,
        )
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _decode_or_refuse(body)
    if type(document) is not dict:
        raise InvalidRequest(f"the request body must be a JSON object, not {_kind(document)}")
    model = document.get("model")
    if model is not None:
        _check_model(model)
    stream = document.get("stream")
    if stream is not None and type(stream) is not bool:
        raise _wrong_type("stream", "a boolean", stream)
    previous = document.get("previous_response_id") if operation.name == "responses" else None
    if previous is not None and type(previous) is not str:
        raise _wrong_type("previous_response_id", "a string", previous)
    fields = (
        model or None,
        stream is True,
        stream is True and operation.include_usage and _asks_usage(document.get("stream_options")),
        previous,
        "model" in document,
        "stream_options" in document,
        user if type(user := document.get("user")) is str else None,
    )
    return tuple.__new__(ParsedBody, fields)  # by its name it would cost four times as much


def _decode_or_refuse(body: bytes) -> object:
    if not body:
        raise InvalidRequest("the request body is empty: a JSON object is expected")
    try:
        return decode(body)
    except UnicodeDecodeError as problem:
        raise InvalidRequest(f"the request body is not valid UTF-8 at byte {problem.start}") from None
    except json.JSONDecodeError as problem:
        where = f"at line {problem.lineno} column {problem.colno}"
        raise InvalidRequest(f"the request body is not valid JSON: {problem.msg} {where}") from None
    except ValueError as problem:
        raise InvalidRequest(f"the request body cannot be read: {problem}") from None


def _check_model(model: object) -> None:
    if type(model) is not str:
        raise _wrong_type("model", "a string", model)
    if len(model) > _LONGEST_MODEL_NAME:
        raise InvalidRequest(
            f"'model' must be at most {_LONGEST_MODEL_NAME} characters long, not {len(model)}", param="model"
        )
    if not model.isprintable() and _UNUSABLE_IN_NAME.search(model):
        raise InvalidRequest("'model' must not contain control characters or lone surrogates", param="model")


def _asks_usage(stream_options: object) -> bool:
    if stream_options is None:
        return False
    if type(stream_options) is not dict:
        raise _wrong_type("stream_options", "an object or null", stream_options)
    asked = stream_options.get("include_usage")
    return asked is not None and asked is not False


def _wrong_type(field: str, expected: str, value: object) -> InvalidRequest:
    return InvalidRequest(f"'{field}' must be {expected}, not {_kind(value)}", param=field)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), "a number")


def rewrite(body: bytes, parsed: ParsedBody, *, model: str | None = None, include_usage: bool | None = None) -> bytes:
    """`body` with another model, or asking for usage in the stream; every other byte stays as it is.

    `parsed` must be what `parse` made of this body. `include_usage` acts only where the client did not decide it
    itself. Where a key is repeated, each of its values is changed. Returns `body` itself when nothing changes.
    """
    if model is not None and model != parsed.model:
        body = _put(body, "model", encode(model), present=parsed.names_model)
    if not include_usage or parsed.asks_usage:
        return body
    if not parsed.has_stream_options:
        return insert_member(body, "stream_options", _INCLUDE_USAGE)
    return edit_values(body, spans_of_present(body, "stream_options"), _with_include_usage)


def _put(body: bytes, key: str, value: bytes, *, present: bool) -> bytes:
    if not present:
        return insert_member(body, key, value)
    return edit_values(body, spans_of_present(body, key), lambda _: value)


def _with_include_usage(stream_options: bytes) -> bytes:
    if not stream_options.startswith(b"{"):
        return _INCLUDE_USAGE
    spans = member_spans(stream_options, "include_usage")
    if not spans:
        return insert_member(stream_options, "include_usage", b"true")
    return edit_values(stream_options, spans, lambda _: b"true")


class ErrorAnswer(NamedTuple):
    """An error as the client gets it: a JSON body, and `retry-after` in whole seconds where waiting helps."""

    status: int
    body: bytes
    retry_after_seconds: int | None = None


def error_body(message: str, *, error_type: str, param: str | None = None, code: str | None = None) -> bytes:
    """The OpenAI error envelope."""
    error = {"message": _encodable(message), "type": error_type, "param": param, "code": code}
    return orjson.dumps({"error": error})


def error_event(
    message: str, *, error_type: str = "server_error", code: str | None = "upstream_error", mid_event: bool = False
) -> bytes:
    """An error inside a stream that has begun: one event, and nothing may follow it.

    `mid_event`: what was sent before stops inside an event (a meter's `at_boundary` is False), which is ended first
    so that the error is not read as the rest of its line.
    """
    event = b"data: " + error_body(message, error_type=error_type, code=code) + b"\n\n"
    return b"\n\n" + event if mid_event else event


def answer_for(error: BalancerError) -> ErrorAnswer:
    """What the client is told when no answer of an endpoint can be relayed.

    400, 408, 413 or 431 (the error's own status) for a bad request; 401 without a valid token; 404 unknown model, or
    the endpoint asked for may not take it; 429 all busy; 503 nobody eligible, too many connections, or shutting down;
    504 an endpoint stayed silent; 502 any other failure of an endpoint; 500 for what is none of these.
    """
    if isinstance(error, InvalidRequest):
        kind = "invalid_request_error"
        return ErrorAnswer(error.status, error_body(error.message, error_type=kind, param=error.param, code=error.code))
    if isinstance(error, NoEndpoint):
        return _answer_for_no_endpoint(error)
    if isinstance(error, Unauthorized):
        return ErrorAnswer(401, error_body(str(error), error_type="invalid_request_error", code="invalid_api_key"))
    if isinstance(error, Draining):
        body = error_body(str(error), error_type="service_unavailable", code="shutting_down")
        return ErrorAnswer(503, body, _UNAVAILABLE_RETRY_SECONDS)
    if isinstance(error, TooManyConnections):
        body = error_body(str(error), error_type="service_unavailable", code="too_many_connections")
        return ErrorAnswer(503, body, _UNAVAILABLE_RETRY_SECONDS)
    if isinstance(error, UpstreamTimeout):
        return ErrorAnswer(504, error_body(str(error), error_type="server_error", code="upstream_timeout"))
    if isinstance(error, UpstreamError):
        return ErrorAnswer(502, error_body(str(error), error_type="server_error", code="upstream_error"))
    message = "the balancer made a mistake; its log says more"
    return ErrorAnswer(500, error_body(message, error_type="server_error", code="internal_error"))


def _answer_for_no_endpoint(error: NoEndpoint) -> ErrorAnswer:
    if isinstance(error, ModelNotFound):
        message = _model_not_found(error)
        return ErrorAnswer(
            404, error_body(message, error_type="invalid_request_error", param="model", code="model_not_found")
        )
    if isinstance(error, NotEligible):
        reasons = f"not eligible for this request: {_listed(error.reasons)}" if error.reasons else "not known"
        message = f"the endpoint {error.asked!r} is {reasons}. GET /v1/nodes lists the endpoints."
        return ErrorAnswer(404, error_body(message, error_type="invalid_request_error", code="endpoint_not_eligible"))
    if isinstance(error, AllBusy):
        wait = _whole_seconds(error.retry_after, _BUSY_RETRY_SECONDS)
        message = f"all endpoints for this request are busy: {_listed(error.reasons)}. Try again in {wait} s."
        return ErrorAnswer(429, error_body(message, error_type="rate_limit_error", code="rate_limit_exceeded"), wait)
    if error.reasons:
        message = (
            f"no endpoint can take this request: {_listed(error.reasons)}. "
            "Connect a working endpoint in the editor, or try again later."
        )
    else:
        message = "no endpoint is configured: add one in the editor and connect it."
    wait = _whole_seconds(error.retry_after, _UNAVAILABLE_RETRY_SECONDS)
    return ErrorAnswer(503, error_body(message, error_type="service_unavailable", code="no_endpoint_available"), wait)


def _model_not_found(error: ModelNotFound) -> str:
    if error.model is None:
        return "no models available for auto selection: no connected endpoint has told which it serves; name one"
    near = " or ".join(f"'{name}'" for name in error.nearest)
    question = f" Did you mean {near}?" if near else ""
    return (
        f"no connected endpoint serves the model '{error.model}'.{question} GET /v1/models lists those that are served."
    )


def _listed(reasons: Mapping[str, str]) -> str:
    listed = [f"{name}: {reason}" for name, reason in list(reasons.items())[:_MOST_REASONS]]
    if len(reasons) > _MOST_REASONS:
        listed.append(f"and {len(reasons) - _MOST_REASONS} more")
    return "; ".join(listed) or "none is named"


def _whole_seconds(seconds: float | None, default: int) -> int:
    if seconds is None or math.isnan(seconds):
        return default
    return math.ceil(min(max(seconds, 1), _LONGEST_WAIT_SECONDS))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
