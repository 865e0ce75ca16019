"""What has passed: counters, histograms, series and the request log, all in memory and bounded.

Plain additions while requests run; formatting happens when somebody looks. Never a prompt, never a token in clear.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import takewhile
from statistics import median
from typing import NamedTuple

from balancer.auth import ClientToken
from balancer.core.endpoints import Outcome, Provenance, Usage
from balancer.series import Rates, Series

LOGGED_REQUESTS = 1000
SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
OVERHEAD_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
LEGACY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
# Stands for every model that no endpoint is known to serve: clients may make up as many as they like.
OTHER_MODEL = "other"
# Endless lists of models must not become endless memory.
_MOST_TIMED = 2000
# Outcomes that speak against an endpoint.
_BLAMED = frozenset({Outcome.FAILED.value, Outcome.REJECTED.value})


class AttemptRecord(NamedTuple):
    """One attempt of a request: where, how long, and what came of it in words. `passed_over`: whom it could not use
    when it was begun, by name, and why.
    """

    endpoint_id: int
    endpoint: str
    seconds: float
    outcome: str
    result: str
    panic: bool
    passed_over: tuple[tuple[str, str], ...] = ()


class RequestRecord(NamedTuple):
    """One finished client request. Times in seconds; `at` is Unix time of its end; tokens None: never known."""

    number: int
    at: float
    request_id: str
    client: str
    operation: str
    model: str | None
    upstream_model: str | None
    endpoint_id: int | None
    endpoint: str | None
    attempts: Sequence[AttemptRecord]
    streamed: bool
    status: int
    first_byte_seconds: float | None
    total_seconds: float
    overhead_seconds: float | None
    usage: Usage | None
    error: str


class Histogram:
    """Counts of observations up to each bound, in the bounds' unit, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def quantile(self, q: float) -> float | None:
        """The bound below which a share `q` (0..1) of the observations lies; None without any."""
        total = sum(self.counts)
        seen = 0
        for bound, count in zip((*self.bounds, self.bounds[-1]), self.counts, strict=True):
            seen += count
            if total and seen >= q * total:
                return bound
        return None


class ModelTimes:
    """How long good answers of one model by one endpoint took, in seconds: to the end of whole ones, to the first byte
    and to the end of streamed ones.
    """

    __slots__ = ("latency", "stream_duration", "stream_first_byte")

    def __init__(self) -> None:
        self.latency = Histogram(LEGACY_BUCKETS)
        self.stream_first_byte = Histogram(LEGACY_BUCKETS)
        self.stream_duration = Histogram(LEGACY_BUCKETS)

    def observe(self, record: RequestRecord) -> None:
        """Count one good answer."""
        if not record.streamed:
            self.latency.observe(record.total_seconds)
            return
        self.stream_duration.observe(record.total_seconds)
        if record.first_byte_seconds is not None:
            self.stream_first_byte.observe(record.first_byte_seconds)


class MinuteCounts:
    """What one endpoint did in one minute of Unix time."""

    __slots__ = ("completion_tokens", "failures", "latency_count", "latency_sum_ms", "prompt_tokens", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.failures = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.latency_count = 0
        self.latency_sum_ms = 0.0


class Traffic:
    """All that is counted. Monotonic time comes with each call; Unix time from `wall_clock`.

    `lists_model` says whether a model is one that an endpoint is known to serve; all others count as one.
    """

    def __init__(
        self, wall_clock: Callable[[], float], lists_model: Callable[[str], bool] = lambda model: False
    ) -> None:
        self._wall_clock = wall_clock
        self._lists_model = lists_model
        self.log: deque[RequestRecord] = deque(maxlen=LOGGED_REQUESTS)
        self.total = Series()
        self.by_endpoint: dict[int, Series] = {}
        self.first_byte = Histogram(SECONDS_BUCKETS)
        self.duration = Histogram(SECONDS_BUCKETS)
        self.overhead = Histogram(OVERHEAD_BUCKETS)
        self.requests: Counter[tuple[str, int]] = Counter()  # (operation, status)
        self.errors: Counter[str] = Counter()  # class of error
        self.attempts: Counter[tuple[int, str]] = Counter()  # (endpoint id, outcome)
        self.last_attempts: dict[tuple[int, str], float] = {}  # the same: Unix time
        self.panics: Counter[int] = Counter()  # endpoint id: attempts let through in need
        self.failovers: Counter[str] = Counter()  # model
        self.times: dict[tuple[str, int], ModelTimes] = {}  # (model, endpoint id)
        self.tokens: Counter[tuple[int, str, Provenance]] = Counter()  # (endpoint id, kind, provenance)
        self.minutes: dict[tuple[int, int], MinuteCounts] = {}  # (Unix time the minute begins at, endpoint id)
        self.changed_endpoints: set[int] = set()
        self.changed_minutes: set[tuple[int, int]] = set()
        self.changed_clients: set[ClientToken] = set()
        self.finished = 0

    def __repr__(self) -> str:
        return f"<Traffic {self.finished} requests finished>"

    def series(self, endpoint_id: int) -> Series:
        """The series of one endpoint; made when first asked for."""
        series = self.by_endpoint.get(endpoint_id)
        if series is None:
            series = self.by_endpoint[endpoint_id] = Series()
        return series

    def rates(self, now: float) -> Rates:
        """Tokens and requests per second over the last minute."""
        return self.total.rates(now)

    def median_first_byte_seconds(self, since: float) -> float | None:
        """The median time to the first byte of the logged requests that ended after Unix time `since`, None without."""
        recent = takewhile(lambda record: record.at >= since, reversed(self.log))
        times = [record.first_byte_seconds for record in recent if record.first_byte_seconds is not None]
        return median(times) if times else None

    def completion_passed(self, endpoint_id: int, now: float, tokens: int) -> None:
        """Count tokens of a running stream; the difference to the true number comes with `request_finished`."""
        self.total.add(now, completion_tokens=tokens)
        self.series(endpoint_id).add(now, completion_tokens=tokens)

    def request_finished(
        self, record: RequestRecord, client: ClientToken, now: float, *, error_class: str, counted_tokens: int
    ) -> None:
        """Count a request. `counted_tokens` were passed to `completion_passed` already."""
        self.finished += 1
        if error_class != "unauthorized":  # strangers must not flush the log
            self.log.append(record)
        self.requests[record.operation, record.status] += 1
        self.duration.observe(record.total_seconds)
        if record.overhead_seconds is not None:
            self.overhead.observe(record.overhead_seconds)
        if record.first_byte_seconds is not None:
            self.first_byte.observe(record.first_byte_seconds)
        if error_class:
            self.errors[error_class] += 1
        for endpoint_id, _, _, outcome, _, panic, *_ in record.attempts:
            key = (endpoint_id, outcome)
            self.attempts[key] += 1
            self.last_attempts[key] = record.at
            if panic:
                self.panics[endpoint_id] += 1
            self.changed_endpoints.add(endpoint_id)
            if outcome in _BLAMED:
                self.series(endpoint_id).add(now, failures=1)
        self._count_client(client, record, now)
        self._count_series(record, now, counted_tokens)
        self._count_model(record)

    def _count_model(self, record: RequestRecord) -> None:
        endpoint_id = record.endpoint_id
        if endpoint_id is None:
            return
        model = self._model_label(record)
        if len(record.attempts) > 1:
            known = model in self.failovers or len(self.failovers) < _MOST_TIMED
            self.failovers[model if known else OTHER_MODEL] += len(record.attempts) - 1
        if record.status < 300 and not record.error:
            times = self.times.get((model, endpoint_id))
            if times is None:
                if len(self.times) >= _MOST_TIMED:
                    model = OTHER_MODEL
                times = self.times.setdefault((model, endpoint_id), ModelTimes())
            times.observe(record)

    def _model_label(self, record: RequestRecord) -> str:
        for model in (record.upstream_model, record.model):
            if model is not None and self._lists_model(model):
                return model
        return OTHER_MODEL

    def _count_client(self, client: ClientToken, record: RequestRecord, now: float) -> None:
        client.requests += 1
        client.last_used_at = record.at
        client.rate.add(now)
        if record.usage is not None:
            client.prompt_tokens += record.usage.prompt_tokens
            client.completion_tokens += record.usage.completion_tokens
            client.token_rate.add(now, record.usage.total_tokens)
        if client.id is not None:
            self.changed_clients.add(client)

    def _count_series(self, record: RequestRecord, now: float, counted_tokens: int) -> None:
        # An answer that broke after it was begun failed too, though its status says otherwise.
        broke = bool(record.attempts) and record.attempts[-1].outcome in _BLAMED
        failed = broke or record.status >= 500 or record.status == 429
        usage, endpoint_id = record.usage, record.endpoint_id
        prompt = usage.prompt_tokens if usage else 0
        completion = usage.completion_tokens if usage else 0
        fresh, first_byte = completion - counted_tokens, record.first_byte_seconds
        self.total.add(now, 1, failed, prompt, fresh, first_byte)
        if endpoint_id is None:
            return
        self.series(endpoint_id).add(now, 1, 0, prompt, fresh, first_byte)  # its failures were counted with attempts
        if usage is not None:
            self.tokens[endpoint_id, "prompt", usage.provenance] += prompt
            self.tokens[endpoint_id, "completion", usage.provenance] += completion
        begins_at = int(record.at) // 60 * 60
        self.changed_minutes.add((begins_at, endpoint_id))
        minute = self.minute(begins_at, endpoint_id)
        minute.requests += 1
        minute.failures += failed
        minute.prompt_tokens += prompt
        minute.completion_tokens += completion
        if record.status < 300:
            minute.latency_count += 1
            minute.latency_sum_ms += 1000 * record.total_seconds

    def minute(self, minute: int, endpoint_id: int) -> MinuteCounts:
        """The counts of the minute that begins at Unix time `minute`."""
        counts = self.minutes.get((minute, endpoint_id))
        if counts is None:
            counts = self.minutes[minute, endpoint_id] = MinuteCounts()
        return counts

    def forget(self, endpoint_id: int) -> None:
        """Drop the memory of a removed endpoint; what it served stays in the totals."""
        self.by_endpoint.pop(endpoint_id, None)
        self.times = {key: times for key, times in self.times.items() if key[1] != endpoint_id}
        self.last_attempts = {key: at for key, at in self.last_attempts.items() if key[0] != endpoint_id}
