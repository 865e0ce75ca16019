"""Answers and errors as HTTP: one place where a value becomes a body, one where an exception becomes a status.

An error repeats nothing a client sent but the names of its fields.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from balancer.admin.answers import FieldProblem, InvalidFields, Problem, RevertProblem
from balancer.admin.models import SERVER_MANAGED
from balancer.core.errors import BalancerError
from balancer.store import (
    NameTaken,
    RevertRefused,
    StoreError,
    TokenTaken,
    UnknownEndpoint,
    UnknownRevision,
    UnknownToken,
)

_LONGEST_PART = 100
_STATUSES: Sequence[tuple[type[BalancerError], int]] = (
    (UnknownEndpoint, 404),
    (UnknownToken, 404),
    (UnknownRevision, 404),
    (NameTaken, 409),
    (TokenTaken, 409),
    (RevertRefused, 409),
    (StoreError, 503),
)


class Refused(BalancerError):
    """A request that is not carried out: the status to answer, and why, in words or by fields."""

    def __init__(self, status: int, detail: str | list[FieldProblem], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail if isinstance(detail, str) else f"{len(detail)} invalid fields")
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def answer(
    value: Any, status: int = 200, *, revision: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """`value` as JSON; `revision` becomes the ETag."""
    fields = {"cache-control": "no-store", **(headers or {})}
    if revision is not None:
        fields["etag"] = f'"{revision}"'
    return Response(json_bytes(value), status, fields, "application/json")


def json_bytes(value: Any) -> bytes:
    """`value`, which may hold dataclasses, as JSON."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        # An endpoint can report more tokens than 64 bits hold, or a name that is half a surrogate pair. One absurd
        # value must not take the whole state away.
        text = json.dumps(value, default=dataclasses.asdict, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def problem(error: BalancerError) -> Response:
    """The answer to an error. Raises the error itself where it is none of a client's or of the store's."""
    if isinstance(error, Refused):
        body = Problem(error.detail) if isinstance(error.detail, str) else InvalidFields(error.detail)
        return answer(body, error.status, headers=error.headers)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), None)
    if status is None:
        raise error
    if isinstance(error, RevertRefused):
        # The store knows the key by its number, a client by its name.
        detail, *fields = (text.replace("api_key_id", "api_key") for text in (str(error), *error.fields))
        return answer(RevertProblem(detail, fields), status)
    detail = "token already exists" if isinstance(error, TokenTaken) else str(error)
    return answer(Problem(detail), status)


def invalid(error: ValidationError, place: str) -> Refused:
    """What is wrong with a body or a query, as `place` says: 400 for what is no JSON, otherwise 422 by fields."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    for each in problems:
        if each["type"] == "json_invalid" and not each["loc"]:
            return Refused(400, each["msg"].replace("Invalid JSON", "invalid JSON body"))
    return Refused(422, [_field_problem(place, each["loc"], each["msg"], each["type"]) for each in problems])


def invalid_field(place: str, name: str, message: str, kind: str) -> Refused:
    """422 for one field."""
    return Refused(422, [FieldProblem([place, name], message, kind)])


def _field_problem(place: str, loc: Sequence[int | str], message: str, kind: str) -> FieldProblem:
    if kind == "extra_forbidden":
        message = "is set by the server" if loc[-1] in SERVER_MANAGED else "unknown field"
    parts = [part if isinstance(part, int) else part[:_LONGEST_PART] for part in loc]
    return FieldProblem([place, *parts], message.removeprefix("Value error, "), kind)
