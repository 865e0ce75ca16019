"""The algebra of the configuration: apply changes, tell two states apart, undo what was recorded.

Pure. A provider key is known here by its id only. What is undone: `undone(new, difference(old, new))` is `old` again,
but for positions on the canvas, which belong to no revision.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

from balancer.store.errors import NameTaken, UnknownEndpoint
from balancer.store.records import (
    Change,
    CreateEndpoint,
    DeleteEndpoint,
    EndpointRecord,
    RecordedChange,
    SetRoutingMode,
    UpdateEndpoint,
)

# The fields of one endpoint by name, as they are stored and recorded: JSON values, the key by its id.
Document = Mapping[str, Any]

_LAYOUT = ("pos_x", "pos_y")
_FIELDS = tuple(field.name for field in dataclasses.fields(EndpointRecord))
VERSIONED = tuple(name for name in _FIELDS if name not in {"id", "api_key", "created_at", "updated_at", *_LAYOUT})
# What is remembered of a deleted endpoint, so that it comes back to its place.
_KEPT = (*VERSIONED, *_LAYOUT, "created_at")
_REQUIRED = frozenset({"name", "base_url"})


def _number(value: float) -> float:
    number = float(value)
    if not math.isfinite(number):  # not equal to itself, or not JSON: it would change in every revision
        raise ValueError(f"{number} is not a number that can be stored")
    return number


def _price(value: float | None) -> float | None:
    return None if value is None else _number(value)


# What a field becomes on its way in, so that the same value always reads the same: 30 and 30.0, list and tuple.
_STORED_AS: Mapping[str, Callable[[Any], Any]] = {
    "timeout": _number,
    "token_quota_percent": _number,
    "weight": _number,
    "pos_x": _number,
    "pos_y": _number,
    "price_per_million_input": _price,
    "price_per_million_output": _price,
    "models": list,
    "tags": list,
    "model_aliases": dict,
}


@dataclass(frozen=True, slots=True)
class State:
    """A configuration as documents by endpoint id."""

    routing_mode: str
    endpoints: Mapping[int, Document]
    next_endpoint_id: int


def document(record: EndpointRecord) -> Document:
    """A record as the document that is stored and compared."""
    return {name: _stored(name, getattr(record, name)) for name in _KEPT}


def planned(state: State, changes: Iterable[Change], now: str) -> State:
    """`state` after `changes`, in their order. New endpoints get the next ids and `now` as their time of creation.

    Raises `UnknownEndpoint`, `NameTaken`, and ValueError for a field or a value that can never be stored.
    """
    mode, endpoints, next_id = state.routing_mode, dict(state.endpoints), state.next_endpoint_id
    for change in changes:
        match change:
            case CreateEndpoint(fields):
                endpoints[next_id] = _new_document(fields, now)
                next_id += 1
            case UpdateEndpoint(endpoint_id, fields):
                endpoints[endpoint_id] = {**_known(endpoints, endpoint_id), **_settable(fields)}
            case DeleteEndpoint(endpoint_id):
                _known(endpoints, endpoint_id)
                del endpoints[endpoint_id]
            case SetRoutingMode(new_mode):
                mode = new_mode
            case _:
                assert_never(change)
    _check_names(endpoints)
    return State(mode, endpoints, next_id)


def difference(old: State, new: State) -> tuple[RecordedChange, ...]:
    """What leads from `old` to `new`; empty when only positions differ."""
    found = []
    if old.routing_mode != new.routing_mode:
        before, after = {"routing_mode": old.routing_mode}, {"routing_mode": new.routing_mode}
        found.append(RecordedChange(None, "", before, after))
    for endpoint_id in sorted(old.endpoints.keys() | new.endpoints.keys()):
        change = _endpoint_difference(endpoint_id, old.endpoints.get(endpoint_id), new.endpoints.get(endpoint_id))
        if change is not None:
            found.append(change)
    return tuple(found)


def undone(state: State, changes: Iterable[RecordedChange]) -> State:
    """`state` with `changes` taken back; those of later revisions come first. Raises `NameTaken`."""
    mode, endpoints = state.routing_mode, dict(state.endpoints)
    for change in changes:
        if change.endpoint_id is None:
            mode = str(change.before["routing_mode"]) if change.before else mode
        elif change.before is None:
            del endpoints[change.endpoint_id]
        elif change.after is None:
            endpoints[change.endpoint_id] = _revived(change.before)
        else:
            earlier = {name: value for name, value in change.before.items() if name in VERSIONED}
            endpoints[change.endpoint_id] = {**endpoints[change.endpoint_id], **earlier}
    _check_names(endpoints)
    return replace(state, routing_mode=mode, endpoints=endpoints)


def changed_again(state: State, changes: Sequence[RecordedChange]) -> list[str]:
    """Which fields, as named by `RecordedChange.fields`, are not in `state` what `changes` made of them."""
    again: list[str] = []
    for change in changes:
        again += _changed_again(state, change)
    return again


def _changed_again(state: State, change: RecordedChange) -> list[str]:
    if change.endpoint_id is None:
        as_left = change.after == {"routing_mode": state.routing_mode}
        return [] if as_left else ["routing_mode"]
    now = state.endpoints.get(change.endpoint_id)
    whole = f"endpoints.{change.endpoint_id}"
    if change.after is None:
        return [] if now is None else [whole]
    if now is None:
        return [whole]
    return [f"{whole}.{name}" for name, value in change.after.items() if name in VERSIONED and now[name] != value]


def _endpoint_difference(endpoint_id: int, old: Document | None, new: Document | None) -> RecordedChange | None:
    if new is None:
        return None if old is None else RecordedChange(endpoint_id, old["name"], dict(old), None)
    if old is None:
        return RecordedChange(endpoint_id, new["name"], None, {name: new[name] for name in VERSIONED})
    changed = [name for name in VERSIONED if old[name] != new[name]]
    if not changed:
        return None
    before, after = {name: old[name] for name in changed}, {name: new[name] for name in changed}
    return RecordedChange(endpoint_id, new["name"], before, after)


def _new_document(fields: Mapping[str, object], now: str) -> Document:
    missing = _REQUIRED - fields.keys()
    if missing:
        raise ValueError(f"a new endpoint needs {', '.join(sorted(missing))}")
    return {**_defaults(), **_settable(fields), "created_at": now}


def _revived(kept: Document) -> Document:
    # A program with more fields or fewer than the one that deleted the endpoint must be able to bring it back.
    return {**_defaults(), **{name: value for name, value in kept.items() if name in _KEPT}}


def _defaults() -> Document:
    return document(EndpointRecord(0, "", ""))


def _settable(fields: Mapping[str, object]) -> Document:
    unknown = fields.keys() - set(VERSIONED) - set(_LAYOUT)
    if unknown:
        raise ValueError(f"not a field that can be set: {', '.join(sorted(unknown))}")
    return {name: _stored(name, value) for name, value in fields.items()}


def _stored(name: str, value: Any) -> Any:
    convert = _STORED_AS.get(name)
    return value if convert is None else convert(value)


def _known(endpoints: Mapping[int, Document], endpoint_id: int) -> Document:
    try:
        return endpoints[endpoint_id]
    except KeyError:
        raise UnknownEndpoint(endpoint_id) from None


def _check_names(endpoints: Mapping[int, Document]) -> None:
    for name, times in Counter(each["name"] for each in endpoints.values()).items():
        if times > 1:
            raise NameTaken(name)
