"""What every request of the API passes: who asks, the body as JSON, errors as answers."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from load_tester.access import Access, Refusal, Visitor
from load_tester.errors import BadInput, HistoryError, LoadTesterError, NotFound, NotRunning
from load_tester.plan.cards import bad_input

PREFIX = "/api"
MOST_BODY_BYTES = 4 * 1024 * 1024
_STATUSES = ((NotFound, 404), (NotRunning, 409), (BadInput, 422), (HistoryError, 503))
_JSON_TYPE = re.compile(r"application/([\w.+-]+\+)?json", re.IGNORECASE)

Act = Callable[[Request], Awaitable[Response]]
M = TypeVar("M", bound=BaseModel)


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` as JSON."""
    return Response(orjson.dumps(value), status, {"cache-control": "no-store", **(headers or {})}, "application/json")


def problem(status: int, detail: str, field: str = "") -> Response:
    """An error: `detail` for people, `field` where it belongs to one."""
    return json_answer({"detail": detail, "field": field}, status)


def file_answer(data: bytes | str, media_type: str, name: str) -> Response:
    """Something to be saved under that name."""
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return Response(data, 200, headers, media_type)


class Api:
    """Makes routes of acts. `access` decides who may; `wall_clock` is Unix seconds."""

    def __init__(self, access: Access, wall_clock: Callable[[], float] = time.time) -> None:
        self.access = access
        self.wall_clock = wall_clock

    def route(self, method: str, path: str, act: Act, *, public: bool = False) -> BaseRoute:
        """`method` of `/api` + `path`; `public` needs no session."""

        async def endpoint(request: Request) -> Response:
            if not public:
                refused = self._refused(request)
                if refused is not None:
                    return refused
            try:
                return await act(request)
            except ClientDisconnect:
                return Response(status_code=499)
            except BadInput as error:
                return problem(422, error.problem, error.field)
            except LoadTesterError as error:
                status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
                return problem(status, str(error))

        return Route(PREFIX + path, endpoint, methods=[method])

    def check(self, request: Request) -> Visitor | Refusal:
        """What this request may do."""
        return self.access.check(request.scope["headers"], request.method, self.wall_clock())

    def _refused(self, request: Request) -> Response | None:
        found = self.check(request)
        return problem(found.status, found.detail) if isinstance(found, Refusal) else None


async def read_body(request: Request, most_bytes: int = MOST_BODY_BYTES) -> bytes:
    """The body. Raises BadInput when it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise BadInput("", f"the body must be at most {most_bytes:,} bytes long")
    return bytes(body)


async def read_json(request: Request, model: type[M]) -> M:
    """The body as `model`. Raises BadInput naming the field."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if not _JSON_TYPE.fullmatch(media_type):
        raise BadInput("", "the body must be JSON: send Content-Type: application/json")
    try:
        return model.model_validate_json(await read_body(request))
    except ValidationError as error:
        raise bad_input(error, "") from None


def whole_number(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A number of the query. Raises BadInput."""
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or not low <= int(text[:12]) <= high:
        raise BadInput(name, f"expected a whole number from {low} to {high}")
    return int(text[:12])
