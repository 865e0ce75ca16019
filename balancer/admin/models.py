"""What clients of the admin API may send: every body and every query, validated here and documented from here.

Strict: unknown fields, other types and values out of range are refused. Holds no state and reads nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from balancer.admin.fields import (
    ApiKey,
    BaseUrl,
    ClientTokenText,
    Coordinate,
    Id,
    MaxConcurrent,
    ModelAliases,
    ModelNames,
    Name,
    Price,
    PriorityOrder,
    QuotaPercent,
    RoutingMode,
    Tags,
    TimeoutSeconds,
    Weight,
)
from balancer.core.errors import BalancerError
from balancer.wire.openai import OPERATIONS

MOST_AT_ONCE = 1000
# What an answer shows of an endpoint and nobody but the server sets.
SERVER_MANAGED = frozenset({"id", "discovered", "created_at", "updated_at"})

_OPERATIONS = tuple(operation.name for operation in OPERATIONS.values())
_NULLABLE = frozenset({"price_per_million_input", "price_per_million_output"})
_NOT_STORED = frozenset({"timeout_seconds", "role", "id"})


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class EndpointChanges(_Body):
    """The fields of an endpoint, all of them optional.

    Left out, or null where no null is stored: unchanged, or the default for a new endpoint. Null clears a price; an
    empty `api_key` removes the key.
    """

    name: Name | None = None
    base_url: BaseUrl | None = Field(None, description="with or without /v1; stored normalised")
    api_key: ApiKey | None = Field(None, repr=False, description="never shown again; empty: no key")
    timeout: TimeoutSeconds | None = Field(None, description="longest silence tolerated, in seconds")
    timeout_seconds: TimeoutSeconds | None = Field(None, description="another name of `timeout`")
    verify_tls: bool | None = Field(None, description="new endpoints: true")
    enabled: bool | None = Field(None, description="new endpoints: true")
    connected: bool | None = Field(None, description="new endpoints: false")
    token_quota_percent: QuotaPercent | None = Field(None, description="new endpoints: 0")
    priority_order: PriorityOrder | None = Field(None, description="lower goes first; new endpoints: 10")
    max_concurrent: MaxConcurrent | None = Field(None, description="0 = no cap, as for new endpoints")
    weight: Weight | None = Field(None, description="new endpoints: 1")
    models: ModelNames | None = Field(None, description="empty = as discovered, as for new endpoints")
    model_aliases: ModelAliases | None = Field(None, description="asked-for name -> name sent on")
    include_usage: bool | None = Field(None, description="ask for usage in streams; new endpoints: true")
    price_per_million_input: Price | None = Field(None, description="null = unknown, 0 = free")
    price_per_million_output: Price | None = Field(None, description="null = unknown, 0 = free")
    tags: Tags | None = None
    health_check: bool | None = Field(None, description="ask for its models regularly; new endpoints: true")
    pos_x: Coordinate | None = Field(None, description="new endpoints: 500")
    pos_y: Coordinate | None = Field(None, description="new endpoints: 200")
    role: Annotated[str, Field(max_length=50)] | None = Field(
        None, description="of an older system: accepted and ignored", deprecated=True
    )

    @field_validator("timeout_seconds")
    @classmethod
    def _one_timeout(cls, seconds: float | None, info: ValidationInfo) -> float | None:
        if seconds is not None and info.data.get("timeout") not in (None, seconds):
            raise PydanticCustomError("two_timeouts", "differs from timeout, which is the same field")
        return seconds

    def changes(self) -> dict[str, object]:
        """What was given, by the names and in the form in which it is stored."""
        given: dict[str, object] = {
            name: value
            for name in self.model_fields_set - _NOT_STORED
            if (value := getattr(self, name)) is not None or name in _NULLABLE
        }
        if self.timeout_seconds is not None:
            given["timeout"] = self.timeout_seconds
        return given


class NewEndpoint(EndpointChanges):
    """An endpoint to be created; whatever is left out gets its default."""

    name: Name
    base_url: BaseUrl = Field(description="with or without /v1; stored normalised")


class EndpointUpdate(_Body):
    """New values for some fields of one endpoint."""

    id: Id
    fields: EndpointChanges


class EndpointToTest(EndpointChanges):
    """An endpoint as it stands in a form. With an `id`, whatever is left out is that endpoint's, its key too."""

    id: Id | None = None


def _each_once(ids: list[int]) -> None:
    if len(set(ids)) < len(ids):
        raise PydanticCustomError("given_twice", "the same id is given twice")


def _updates_once(updates: list[EndpointUpdate]) -> list[EndpointUpdate]:
    _each_once([update.id for update in updates])
    return updates


def _ids_once(ids: list[int]) -> list[int]:
    _each_once(ids)
    return ids


_Several = Field(min_length=1, max_length=MOST_AT_ONCE)
NewEndpoints = Annotated[list[NewEndpoint], _Several]
EndpointUpdates = Annotated[list[EndpointUpdate], _Several, AfterValidator(_updates_once)]
_NOTHING_GIVEN = "needs create or update: endpoints to be created, endpoints to be changed"


class EndpointBatch(_Body):
    """Endpoints to be created and others to be changed, together."""

    create: NewEndpoints = Field(default_factory=list)
    update: EndpointUpdates = Field(default_factory=list)

    @model_validator(mode="after")
    def _something(self) -> EndpointBatch:
        if not self.create and not self.update:
            raise PydanticCustomError("missing", _NOTHING_GIVEN)
        return self


EndpointIds = Annotated[list[Annotated[Id, Strict()]], _Several, AfterValidator(_ids_once)]


class RoutingChange(_Body):
    """Another routing mode, by any of its names in any case."""

    routing_mode: RoutingMode


class IncomingPosition(_Body):
    """Where the incoming node stands; what is left out stays."""

    x: Coordinate | None = None
    y: Coordinate | None = None


class Place(_Body):
    """A place on the canvas."""

    x: Coordinate
    y: Coordinate


Places = Annotated[dict[Id, Place], Field(max_length=MOST_AT_ONCE)]


class Layout(_Body):
    """Places by id; whatever is not named stays where it is."""

    endpoints: Places = {}
    tokens: Places = {}
    incoming: Place | None = None


class NewToken(_Body):
    """A client token to be created; without `token` the server makes one."""

    name: Name
    token: ClientTokenText | None = Field(None, repr=False)
    pos_x: Coordinate | None = None
    pos_y: Coordinate | None = None


class TokenChanges(_Body):
    """Another name or place for a client token; what is left out or null stays."""

    name: Name | None = None
    pos_x: Coordinate | None = None
    pos_y: Coordinate | None = None


def _operation(name: str) -> str:
    if name not in _OPERATIONS:
        raise PydanticCustomError("unknown_operation", "unknown; valid are: {names}", {"names": ", ".join(_OPERATIONS)})
    return name


class RequestToExplain(_Body):
    """A request as far as routing looks at it. All operations are routed alike."""

    model: Annotated[str, Field(max_length=256)] | None = Field(None, description="left out: as if it named none")
    pin: Id | Annotated[str, Field(min_length=1, max_length=2000)] | None = Field(
        None, description="the one endpoint that may serve it, as in x-lb-endpoint: name, encoded name or id"
    )
    node: Annotated[str, Field(min_length=1, max_length=300)] | None = Field(
        None, description="host:port of the endpoint that may serve it, as in ?node="
    )
    previous_response_id: Annotated[str, Field(max_length=1000)] | None = Field(
        None, description="the answer that it goes on from: for the operation responses, ignored for others"
    )
    session: Annotated[str, Field(max_length=10_000)] | None = Field(
        None, description="what its affinity key is made of: x-session-id, `user` or the prompt's beginning, by setting"
    )
    size_bytes: Annotated[int, Field(ge=0, le=2**40)] = Field(0, description="length of its body")
    operation: Annotated[
        str, Field(max_length=40, json_schema_extra={"examples": [*_OPERATIONS]}), AfterValidator(_operation)
    ] = "chat"
    tried: Annotated[list[Id], Field(max_length=MOST_AT_ONCE)] = Field(
        [], description="ids of endpoints where it has failed already: what happens next?"
    )


EXPLAIN = TypeAdapter(RequestToExplain)


class Login(_Body):
    """The admin token, exchanged for a session."""

    token: str = Field(min_length=1, max_length=1000, repr=False, json_schema_extra={"writeOnly": True})


class _Query(BaseModel):
    """Not strict: a query is text."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class RevisionsQuery(_Query):
    """Which revisions."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before: Id | None = Field(None, description="only older ones than this number")


class RequestsQuery(_Query):
    """Which requests of the log."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    before: Id | None = Field(None, description="only those with a smaller number")
    endpoint: Id | None = Field(None, description="only those with an attempt at this endpoint")
    status: Annotated[str, Field(pattern="^[1-5]([0-9]{2}|xx)$")] | None = Field(
        None, description="only this status, or this class of them: 502, 5xx"
    )
    model: Annotated[str, Field(max_length=256)] | None = Field(None, description="only this model, as asked for")


class SeriesQuery(_Query):
    """How far back, in seconds of memory or in minutes of the database, and for which endpoint."""

    seconds: Annotated[int, Field(ge=1, le=900)] | None = Field(None, description="one point a second; default 900")
    minutes: Annotated[int, Field(ge=1, le=43_200)] | None = Field(None, description="one point a minute, or more")
    endpoint: Id | None = Field(None, description="only this endpoint; otherwise all together")

    @model_validator(mode="after")
    def _one_scale(self) -> SeriesQuery:
        if self.seconds is not None and self.minutes is not None:
            raise PydanticCustomError("two_scales", "give either seconds or minutes")
        return self


class InvalidEndpoint(BalancerError):
    """A description of an endpoint cannot be used; the message names the fields and what is wrong, not the values."""


_NEW_ENDPOINT = TypeAdapter(NewEndpoint)


def read_endpoint(given: Any, *, where: str) -> dict[str, object]:
    """The fields of an endpoint from decoded JSON, checked as the API checks them. Raises InvalidEndpoint.

    `where` precedes the fields' names in the message.
    """
    try:
        return _NEW_ENDPOINT.validate_python(given).changes()
    except ValidationError as error:
        problems = (_told(where, each["loc"], each["msg"]) for each in error.errors(include_url=False))
        raise InvalidEndpoint("; ".join(problems)) from None


def _told(where: str, loc: tuple[int | str, ...], message: str) -> str:
    path = ".".join((where, *map(str, loc)))
    return f"{path}: {message}".encode("utf-8", "replace").decode()
