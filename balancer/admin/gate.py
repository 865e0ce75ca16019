"""What every request of the admin API passes: who asks, what it asks for, whether it may be read as what it should be.

Knows nothing of what is done then. An `Operation` drives routing, validation and documentation alike.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from balancer.admin import audit
from balancer.admin.answers import Conflict, FieldChangeView, State
from balancer.admin.problems import Refused, answer, invalid, invalid_field, problem
from balancer.auth import Admin, AdminAuth, AdminRefusal
from balancer.core.errors import BalancerError
from balancer.guesses import Guesses
from balancer.store import RevisionConflict

PREFIX = "/admin/api"
MOST_BODY_BYTES = 1024 * 1024

_ID = re.compile(r"[0-9]{1,15}", re.ASCII)
_IF_MATCH = re.compile(r'"([0-9]{1,15})"|([0-9]{1,15})|(\*)', re.ASCII)
_JSON_TYPE = re.compile(r"application/([\w.+-]+\+)?json", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[^!-~]")


@dataclass(frozen=True, slots=True)
class Body:
    """What a body must be: an object that `one` takes, or an array that `many` takes."""

    one: TypeAdapter[Any] | None = None
    many: TypeAdapter[Any] | None = None

    def read(self, raw: bytes) -> Any:
        """The validated body. Raises Refused."""
        is_array = raw.lstrip(b" \t\r\n")[:1] == b"["
        adapter = (self.many or self.one) if is_array else (self.one or self.many)
        assert adapter is not None  # noqa: S101 - a body without either means nothing
        try:
            return adapter.validate_json(raw)
        except ValidationError as error:
            raise invalid(error, "body") from None


@dataclass(frozen=True, slots=True)
class Call:
    """A request that passed. `id` is the number in its path, `expected_revision` that of If-Match.

    `told` is what else the log says of it when it is done.
    """

    request: Request
    admin: Admin | None
    id: int = 0
    expected_revision: int | None = None
    query: Any = None
    body: Any = None
    told: dict[str, object] = field(default_factory=dict)

    @property
    def actor(self) -> str:
        """Who changes something, for the revision: how they proved it, and from where."""
        return f"admin ({self.admin.via if self.admin else 'nobody'}) from {self.address}"

    @property
    def address(self) -> str:
        """Where the request came from."""
        return address_of(self.request)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path below `/admin/api`.

    `answers` is the type of a good answer. `problems` are further statuses it may have, beside those that follow from
    the other fields; `other_problems` gives their types where they are more than words. `conditional`: takes
    If-Match. `public`: needs no authorization. Without `audited` it leaves no line in the log.
    """

    method: str
    path: str
    summary: str
    call: Callable[[Call], Awaitable[ASGIApp]]
    answers: Any
    problems: tuple[int, ...] = ()
    body: Body | None = None
    query: type[BaseModel] | None = None
    conditional: bool = False
    public: bool = False
    other_problems: Mapping[int, Any] = field(default_factory=dict)
    audited: bool = True
    media_type: str = "application/json"

    @property
    def changes(self) -> bool:
        """Whether it is no mere reading."""
        return self.method != "GET"


class Gate:
    """Lets requests through to operations, and turns what these raise into answers. `wall_clock` is Unix seconds."""

    def __init__(
        self, admin_auth: AdminAuth, guesses: Guesses, state: Callable[[], State], wall_clock: Callable[[], float]
    ) -> None:
        self._admin_auth = admin_auth
        self._guesses = guesses
        self._state = state
        self._wall_clock = wall_clock

    async def answer(self, operations: Mapping[str, Operation], request: Request) -> ASGIApp:
        """The answer to a request for the path that has these operations, by method."""
        try:
            return await self._carry_out(operations, request)
        except RevisionConflict as conflict:
            return self._conflict(conflict)
        except BalancerError as error:
            return problem(error)

    async def _carry_out(self, operations: Mapping[str, Operation], request: Request) -> ASGIApp:
        operation = operations.get(request.method)
        admin = None if operation and operation.public else self._admin(request)
        if not operations:
            raise Refused(404, "not found")
        if operation is None:
            raise Refused(405, "method not allowed", {"allow": ", ".join(operations)})
        call = Call(
            request=request,
            admin=admin,
            id=_id(request),
            expected_revision=_expected_revision(request) if operation.conditional else None,
            query=_query(operation.query, request),
            body=operation.body and operation.body.read(await _read(request)),
        )
        response = await operation.call(call)
        if operation.changes and operation.audited:
            _audit(call, response)
        return response

    def _admin(self, request: Request) -> Admin:
        found = self._admin_auth.authenticate(request.scope["headers"], method=request.method, now=self._wall_clock())
        if found is AdminRefusal.WRONG or (isinstance(found, Admin) and found.via == "token"):
            self._guesses.judge(address_of(request), isinstance(found, Admin), self._wall_clock())
        if found is AdminRefusal.CSRF_MISSING:
            words = f"a change by session without its X-CSRF-Token came from {address_of(request)}"
            audit.note("admin_refused", words, {"address": address_of(request)}, level=logging.WARNING)
            raise Refused(403, found.value)
        if isinstance(found, AdminRefusal):
            raise Refused(401, "admin authorization failed", {"www-authenticate": "Bearer"})
        return found

    def _conflict(self, conflict: RevisionConflict) -> Response:
        state = self._state()
        changed = {
            name.replace(".api_key_id", ".api_key"): FieldChangeView(
                *(shown(name.rpartition(".")[2], value) for value in (change.before, change.after))
            )
            for name, change in conflict.changed.items()
        }
        body = Conflict(str(conflict), state.revision, state, changed)
        return answer(body, 409, revision=state.revision)


class Resource:
    """The ASGI endpoint of one path; without operations, of every path there is not."""

    def __init__(self, gate: Gate, operations: Mapping[str, Operation]) -> None:
        self._gate = gate
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._gate.answer(self._operations, Request(scope, receive))
        except ClientDisconnect:
            return
        await response(scope, receive, send)


def shown(field: str, value: object) -> object:
    """The recorded value of a field as it may be shown: of a provider key, only whether there is one."""
    if field == "api_key_id":
        return "" if value is None else "***"
    return value


def address_of(request: Request) -> str:
    """The client's address; with a proxy in front that is trusted, what its header said."""
    return _UNPRINTABLE.sub("?", request.client.host)[:64] if request.client else "somewhere"


def _audit(call: Call, response: ASGIApp) -> None:
    action = f"{call.request.method} {call.request.url.path.removeprefix(PREFIX)}"
    told = dict(call.told)
    if isinstance(response, Response) and "etag" in response.headers:
        told["revision"] = int(response.headers["etag"].strip('"'))
    details = "".join(f", {name} {value!r}" for name, value in told.items())
    via = call.admin.via if call.admin else "nobody"
    fields = {"action": action, "actor": via, "address": call.address, **told}
    audit.note("admin_change", f"{call.actor}: {action}{details}", fields)


def _id(request: Request) -> int:
    for name, text in request.path_params.items():
        if _ID.fullmatch(text) is None:
            raise invalid_field("path", name, "must be a whole number of at most 15 digits", "int_parsing")
        return int(text)
    return 0


def _expected_revision(request: Request) -> int | None:
    given = request.headers.getlist("if-match")
    if not given:
        return None
    found = _IF_MATCH.fullmatch(given[0].strip()) if len(given) == 1 else None
    if found is None:
        raise Refused(400, "If-Match must be one revision number, with or without quotes, or *")
    return None if found[3] else int(found[1] or found[2])


def _query(model: type[BaseModel] | None, request: Request) -> BaseModel | None:
    if model is None:
        return None
    try:
        return model.model_validate_strings(dict(request.query_params))
    except ValidationError as error:
        raise invalid(error, "query") from None


async def _read(request: Request) -> bytes:
    content_type = request.headers.get("content-type")
    if content_type is not None and not _JSON_TYPE.fullmatch(content_type.partition(";")[0].strip()):
        raise Refused(415, "the body must be JSON: send Content-Type: application/json")
    body = bytearray()
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > MOST_BODY_BYTES:
        raise _too_large()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY_BYTES:
            raise _too_large()
    return bytes(body)


def _too_large() -> Refused:
    # What is left of the body is not read: the connection cannot be used again.
    return Refused(413, f"the body must be at most {MOST_BODY_BYTES} bytes long", {"connection": "close"})
