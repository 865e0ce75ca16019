"""The values the store gives and takes: configuration, changes to it, revisions, client tokens.

Times are ISO 8601 in UTC with milliseconds. Nothing here reads or writes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from balancer.core.endpoints import Endpoint

Position = tuple[float, float]

INCOMING_POSITION: Position = (80.0, 300.0)
TOKEN_POSITION: Position = (80.0, 100.0)


def iso_time(epoch_seconds: float) -> str:
    """Unix time as ISO 8601 in UTC. Always as long, so that texts compare like times."""
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class EndpointRecord(Endpoint):
    """An endpoint as stored: its configuration, where it stands on the canvas, which key it uses, and its times.

    `api_key_id` names the stored provider key, None without one; equal keys have equal ids.
    """

    pos_x: float = 500.0
    pos_y: float = 200.0
    api_key_id: int | None = None
    created_at: str = ""
    updated_at: str = ""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything an operator has set, as of `revision`; 0 = nothing was ever changed. Endpoints are ordered by id."""

    revision: int
    routing_mode: str
    endpoints: tuple[EndpointRecord, ...] = ()
    incoming_pos: Position = INCOMING_POSITION


@dataclass(frozen=True, slots=True)
class CreateEndpoint:
    """A new endpoint. `fields` needs `name` and `base_url`; the others have the defaults of `EndpointRecord`."""

    fields: Mapping[str, object] = field(repr=False)  # holds the provider key


@dataclass(frozen=True, slots=True)
class UpdateEndpoint:
    """New values for some fields of one endpoint. An empty `api_key` removes the key."""

    id: int
    fields: Mapping[str, object] = field(repr=False)  # may hold the provider key


@dataclass(frozen=True, slots=True)
class DeleteEndpoint:
    """One endpoint less. Its totals and its key stay as long as a revision can bring it back."""

    id: int


@dataclass(frozen=True, slots=True)
class SetRoutingMode:
    """Another routing mode, as a canonical name."""

    mode: str


Change = CreateEndpoint | UpdateEndpoint | DeleteEndpoint | SetRoutingMode


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field before and after."""

    before: object
    after: object


@dataclass(frozen=True, slots=True)
class RecordedChange:
    """What one revision did to one endpoint, or to the routing mode (`endpoint_id` None).

    `before` None: created. `after` None: deleted. Otherwise both hold the fields that changed. The provider key
    stands there as `api_key_id`, never in clear. `name` is the endpoint's name after the change.
    """

    endpoint_id: int | None
    name: str
    before: Mapping[str, object] | None
    after: Mapping[str, object] | None

    def fields(self) -> dict[str, FieldChange]:
        """The changes by "endpoints.<id>.<field>" or "routing_mode"; "endpoints.<id>" when created or deleted."""
        if self.before is None:
            return {f"endpoints.{self.endpoint_id}": FieldChange(None, self.name)}
        if self.after is None:
            return {f"endpoints.{self.endpoint_id}": FieldChange(self.name, None)}
        prefix = "" if self.endpoint_id is None else f"endpoints.{self.endpoint_id}."
        return {prefix + name: FieldChange(value, self.after[name]) for name, value in self.before.items()}


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of the configuration: who, when, what, and the same in words."""

    number: int
    created_at: str
    actor: str
    summary: str
    changes: tuple[RecordedChange, ...]


@dataclass(frozen=True, slots=True)
class LostKeys:
    """Provider keys that no secret opens: how many, and the names of the endpoints that have one.

    More than those endpoints have are kept for older revisions.
    """

    count: int
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A client token as stored: its SHA-256 in hex, never the token. Revoked ones are kept, `revoked_at` set."""

    id: int
    name: str
    token_hash: str = field(repr=False)
    token_preview: str
    created_at: str
    revoked_at: str | None = None
    last_used_at: str | None = None
    pos_x: float = TOKEN_POSITION[0]
    pos_y: float = TOKEN_POSITION[1]
    total_requests: int = 0
    prompt_tokens_total: int = 0
    completion_tokens_total: int = 0

    @property
    def revoked(self) -> bool:
        """Whether it no longer lets anybody in."""
        return self.revoked_at is not None
