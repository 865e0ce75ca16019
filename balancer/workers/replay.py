"""What happened in another worker, counted here by the same functions that count what happens here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from balancer.auth import ClientToken, ClientTokens
from balancer.core.endpoints import Outcome
from balancer.core.pool import EndpointPool
from balancer.traffic import RequestRecord, Traffic
from balancer.workers.messages import record_of

_OUTCOMES: Mapping[str, Outcome] = MappingProxyType({each.value: each for each in Outcome})


class Replay:
    """Counts the requests of followers into the lead's `traffic`, totals of endpoints and clients."""

    def __init__(self, pool: EndpointPool, traffic: Traffic, tokens: ClientTokens) -> None:
        self._pool = pool
        self._traffic = traffic
        self._tokens = tokens
        self._clients: dict[int | str, ClientToken] = {}

    def passed(self, endpoint_id: int, tokens: int, now: float) -> None:
        """Tokens of running streams."""
        self._traffic.completion_passed(endpoint_id, now, tokens)

    def finished(self, row: list[Any]) -> None:
        """One request, as `finished_row` made it."""
        told, client, now, error_class, counted_tokens = row
        record = record_of(told, self._traffic.finished + 1)
        # Told late: what was counted in the minute before is stored already, and no longer in memory to add to.
        if record.at < self._traffic.earliest_minute:
            record = record._replace(at=float(self._traffic.earliest_minute))
        self._count_attempts(record)
        self._traffic.request_finished(
            record, self._client(client, record.client), now, error_class=error_class, counted_tokens=counted_tokens
        )

    def _count_attempts(self, record: RequestRecord) -> None:
        last = len(record.attempts) - 1
        for place, attempt in enumerate(record.attempts):
            state = self._pool.find(attempt.endpoint_id)
            if state is not None:
                usage = record.usage if place == last else None
                state.count(_OUTCOMES[attempt.outcome], attempt.seconds, usage)

    def _client(self, key: int | str, name: str) -> ClientToken:
        """The client by its key: also one whose token was revoked meanwhile, as it still has its totals."""
        known = self._clients.get(key)
        if known is None:
            everybody = (self._tokens.anonymous, *self._tokens)
            known = next((token for token in everybody if client_key(token) == key), None)
            if known is None:
                return ClientToken(None, name)
            self._clients[key] = known
        return known


def client_key(client: ClientToken) -> int | str:
    """What every worker knows a client by."""
    return client.name if client.id is None else client.id


def finished_row(
    record: RequestRecord, client: ClientToken, now: float, error_class: str, counted_tokens: int
) -> tuple[Any, ...]:
    """A finished request as `Replay.finished` takes it."""
    return record, client_key(client), now, error_class, counted_tokens
