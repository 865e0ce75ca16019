"""What has passed, over the admin API: the request log and the series behind the charts."""

from __future__ import annotations

import math
from collections.abc import Callable

from starlette.responses import Response

from balancer.admin.answers import AttemptView, Requests, RequestView, SeriesView
from balancer.admin.gate import Call, Operation
from balancer.admin.models import RequestsQuery, SeriesQuery
from balancer.admin.problems import Refused, answer
from balancer.core.pool import EndpointPool
from balancer.series import KEPT_SECONDS, Series
from balancer.store import MINUTE_SECONDS, UsageStore, iso_time
from balancer.traffic import MinuteCounts, RequestRecord, Traffic

# A chart has no more pixels than this; longer ranges get longer steps.
_MOST_STEPS = 1440


class ObservationOperations:
    """Reads the request log and the series from memory, and minutes from the store."""

    def __init__(
        self,
        traffic: Traffic,
        pool: EndpointPool,
        usage_store: UsageStore,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._traffic = traffic
        self._pool = pool
        self._usage_store = usage_store
        self._clock = clock
        self._wall_clock = wall_clock

    def operations(self) -> list[Operation]:
        """The table of these operations."""
        return [
            Operation(
                "GET", "/requests", "The last requests, newest first", self._requests, Requests, query=RequestsQuery
            ),
            Operation(
                "GET",
                "/series",
                "Requests and tokens by time",
                self._series,
                SeriesView,
                (404, 503),
                query=SeriesQuery,
            ),
        ]

    async def _requests(self, call: Call) -> Response:
        query: RequestsQuery = call.query
        found: list[RequestView] = []
        for record in reversed(self._traffic.log):
            if len(found) == query.limit:
                break
            if _matches(record, query):
                found.append(_request(record))
        return answer(Requests(self._traffic.finished, found))

    async def _series(self, call: Call) -> Response:
        query: SeriesQuery = call.query
        if query.endpoint is not None and query.endpoint not in self._pool.states:
            raise Refused(404, "endpoint not found")
        if query.minutes is None:
            return answer(self._seconds(query.seconds or KEPT_SECONDS, query.endpoint))
        return answer(await self._minutes(query.minutes, query.endpoint))

    def _seconds(self, seconds: int, endpoint: int | None) -> SeriesView:
        traffic = self._traffic
        series = traffic.total if endpoint is None else traffic.by_endpoint.get(endpoint) or Series()
        now = self._clock()
        points = series.points(now, seconds)
        offset = self._wall_clock() - now
        return SeriesView(
            endpoint,
            1,
            at=[round(point.second + offset) for point in points],
            requests=[point.requests for point in points],
            failures=[point.failures for point in points],
            prompt_tokens=[point.prompt_tokens for point in points],
            completion_tokens=[point.completion_tokens for point in points],
            ttfb_seconds=[point.ttfb_seconds for point in points],
            latency_ms=[None] * len(points),
        )

    async def _minutes(self, minutes: int, endpoint: int | None) -> SeriesView:
        step_seconds = MINUTE_SECONDS * math.ceil(minutes / _MOST_STEPS)
        newest = int(self._wall_clock()) // step_seconds * step_seconds
        oldest = newest - step_seconds * (math.ceil(MINUTE_SECONDS * minutes / step_seconds) - 1)
        sums = {begin: MinuteCounts() for begin in range(oldest, newest + 1, step_seconds)}
        for row in await self._usage_store.minutes(oldest, endpoint, step_seconds=step_seconds):
            # A clock that was set back leaves rows in the future.
            if row.minute in sums:
                for name in MinuteCounts.__slots__:
                    setattr(sums[row.minute], name, getattr(sums[row.minute], name) + getattr(row, name))
        steps = sums.values()
        return SeriesView(
            endpoint,
            step_seconds,
            at=list(sums),
            requests=[step.requests for step in steps],
            failures=[step.failures for step in steps],
            prompt_tokens=[step.prompt_tokens for step in steps],
            completion_tokens=[step.completion_tokens for step in steps],
            ttfb_seconds=[None] * len(sums),
            latency_ms=[
                round(step.latency_sum_ms / step.latency_count, 1) if step.latency_count else None for step in steps
            ],
        )


def _matches(record: RequestRecord, query: RequestsQuery) -> bool:
    if query.before is not None and record.number >= query.before:
        return False
    if query.model is not None and record.model != query.model:
        return False
    if query.status is not None and not _has_status(record, query.status):
        return False
    return query.endpoint is None or query.endpoint in {
        record.endpoint_id,
        *(attempt.endpoint_id for attempt in record.attempts),
    }


def _has_status(record: RequestRecord, wanted: str) -> bool:
    return str(record.status).startswith(wanted.removesuffix("xx"))


def _request(record: RequestRecord) -> RequestView:
    usage = record.usage
    return RequestView(
        number=record.number,
        at=iso_time(record.at),
        request_id=record.request_id,
        client=record.client,
        operation=record.operation,
        model=record.model,
        upstream_model=record.upstream_model,
        endpoint_id=record.endpoint_id,
        endpoint=record.endpoint,
        attempts=[AttemptView(*attempt[:-1], dict(attempt.passed_over)) for attempt in record.attempts],
        streamed=record.streamed,
        status=record.status,
        first_byte_seconds=record.first_byte_seconds,
        total_seconds=record.total_seconds,
        overhead_seconds=record.overhead_seconds,
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
        provenance=None if usage is None else usage.provenance.value,
        error=record.error,
    )
