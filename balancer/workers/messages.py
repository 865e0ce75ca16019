"""What workers tell each other, as bytes: JSON in frames that begin with their length."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from balancer.auth import ClientToken
from balancer.core.endpoints import Endpoint, Provenance, Usage
from balancer.traffic import AttemptRecord, RequestRecord
from balancer.workers.seam import Message

_LENGTH_BYTES = 4
_PROVENANCES: Mapping[str, Provenance] = MappingProxyType({each.value: each for each in Provenance})
_ENDPOINT_FIELDS = tuple(field.name for field in dataclasses.fields(Endpoint))


def pack(message: Message) -> bytes:
    """One frame. Tuples, named or not, become arrays."""
    try:
        body = orjson.dumps(message, default=_plain)
    except TypeError:
        # Texts that are no Unicode: clients may send half of a surrogate pair as a model's name.
        body = json.dumps(message, default=_plain).encode()
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def _plain(value: object) -> object:
    if isinstance(value, tuple | frozenset):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be told")


def unpack(body: bytes) -> Any:
    """What was packed, with arrays as lists."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next message, None when the other side is gone."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        return unpack(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


# -- values ------------------------------------------------------------------------------------------------------------


def endpoint_row(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as it may be packed, its provider key included: the sockets are between processes of one user."""
    return {name: getattr(endpoint, name) for name in _ENDPOINT_FIELDS}


def endpoint_of(row: Mapping[str, Any]) -> Endpoint:
    """The endpoint of a row."""
    return Endpoint(**{**row, "models": tuple(row["models"]), "tags": tuple(row["tags"])})


def record_of(row: list[Any], number: int) -> RequestRecord:
    """The record that was packed, with another number. The lead makes one for each request of its followers."""
    *until_attempts, attempts, streamed, status, first_byte, total, overhead, usage, error = row
    attempts = [_attempt_of(attempt) for attempt in attempts]
    if usage is not None:
        usage = Usage(usage[0], usage[1], _PROVENANCES[usage[2]])
    later = (attempts, streamed, status, first_byte, total, overhead, usage, error)
    return RequestRecord._make((number, *until_attempts[1:], *later))


def _attempt_of(row: list[Any]) -> AttemptRecord:
    *others, passed_over = row
    return AttemptRecord._make((*others, tuple(map(tuple, passed_over)) if passed_over else ()))


def token_row(digest: bytes, token: ClientToken) -> list[Any]:
    """A stored client token as it may be packed: who it is, not what it used."""
    return [digest.hex(), token.id, token.name]


def token_of(row: list[Any]) -> tuple[bytes, ClientToken]:
    """The token of a row with its digest."""
    digest, identifier, name = row
    return bytes.fromhex(digest), ClientToken(identifier, name)
