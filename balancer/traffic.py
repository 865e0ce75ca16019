"""What has passed: counters, histograms, series and the request log, all in memory and bounded.

Plain additions while requests run; formatting happens when somebody looks. Never a prompt, never a token in clear.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from itertools import takewhile
from statistics import median
from typing import NamedTuple, Protocol

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
_NO_USAGE = Usage(0, 0)


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

    def observe(self, streamed: bool, first_byte_seconds: float | None, total_seconds: float) -> None:
        """Count one good answer."""
        if not streamed:
            self.latency.observe(total_seconds)
            return
        self.stream_duration.observe(total_seconds)
        if first_byte_seconds is not None:
            self.stream_first_byte.observe(first_byte_seconds)


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


class Counting(Protocol):
    """What requests tell while they run and when they have ended; `finished` counts the latter."""

    finished: int

    def completion_passed(self, endpoint_id: int, now: float, tokens: int) -> None:
        """Count tokens of a running stream."""

    def request_finished(
        self, record: RequestRecord, client: ClientToken, now: float, *, error_class: str, counted_tokens: int
    ) -> None:
        """Count a request."""


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
        # A Counter is for what is rare: to add to one costs five times as much.
        self.requests: dict[tuple[str, int], int] = defaultdict(int)  # (operation, status)
        self.errors: Counter[str] = Counter()  # class of error
        self.attempts: dict[tuple[int, str], int] = defaultdict(int)  # (endpoint id, outcome)
        self.last_attempts: dict[tuple[int, str], float] = {}  # the same: Unix time
        self.panics: Counter[int] = Counter()  # endpoint id: attempts let through in need
        self.failovers: Counter[str] = Counter()  # model
        self.times: dict[tuple[str, int], ModelTimes] = {}  # (model, endpoint id)
        self.tokens: dict[tuple[int, str, Provenance], int] = defaultdict(int)  # (endpoint id, kind, provenance)
        self.minutes: dict[tuple[int, int], MinuteCounts] = {}  # (Unix time the minute begins at, endpoint id)
        self.earliest_minute = 0  # the first of which everything is known: to add to another would undo what is stored
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
        # Taken apart at once: to ask a named tuple for one field after the other costs many times as much.
        (
            _, at, _, _, operation, model, upstream_model, endpoint_id, _, attempts, streamed, status,
            first_byte, total, overhead, usage, error,
        ) = record  # fmt: skip
        self.finished += 1
        if error_class:
            self.errors[error_class] += 1
        if error_class != "unauthorized":  # strangers must not flush the log
            self.log.append(record)
        self.requests[operation, status] += 1
        self.duration.observe(total)
        if overhead is not None:
            self.overhead.observe(overhead)
        if first_byte is not None:
            self.first_byte.observe(first_byte)
        # An answer that broke after it was begun failed too, though its status says otherwise.
        failed = self._count_attempts(attempts, at, now) or status >= 500 or status == 429
        prompt, completion, provenance = usage or _NO_USAGE
        self._count_client(client, at, now, prompt, completion)
        self.total.add(now, 1, failed, prompt, completion - counted_tokens, first_byte)
        if endpoint_id is None:
            return
        # Its failures were counted with the attempts.
        self.series(endpoint_id).add(now, 1, 0, prompt, completion - counted_tokens, first_byte)
        if usage is not None:
            self.tokens[endpoint_id, "prompt", provenance] += prompt
            self.tokens[endpoint_id, "completion", provenance] += completion
        self._count_minute(endpoint_id, at, failed, prompt, completion, total if status < 300 else None)
        retries = len(attempts) - 1
        if retries or (status < 300 and not error):
            label = self._model_label(upstream_model, model)
            if retries:
                self._count_failovers(label, retries)
            if status < 300 and not error:
                self._times(label, endpoint_id).observe(streamed, first_byte, total)

    def _count_attempts(self, attempts: Sequence[AttemptRecord], at: float, now: float) -> bool:
        """Count each; whether the last one speaks against its endpoint."""
        blamed = False
        for endpoint_id, _, _, outcome, _, panic, _ in attempts:
            key = (endpoint_id, outcome)
            self.attempts[key] += 1
            self.last_attempts[key] = at
            self.changed_endpoints.add(endpoint_id)
            if panic:
                self.panics[endpoint_id] += 1
            blamed = outcome in _BLAMED
            if blamed:
                self.series(endpoint_id).add(now, failures=1)
        return blamed

    def _count_failovers(self, model: str, retries: int) -> None:
        known = model in self.failovers or len(self.failovers) < _MOST_TIMED
        self.failovers[model if known else OTHER_MODEL] += retries

    def _times(self, model: str, endpoint_id: int) -> ModelTimes:
        times = self.times.get((model, endpoint_id))
        if times is None:
            if len(self.times) >= _MOST_TIMED:
                model = OTHER_MODEL
            times = self.times.setdefault((model, endpoint_id), ModelTimes())
        return times

    def _model_label(self, upstream_model: str | None, model: str | None) -> str:
        if upstream_model is not None and self._lists_model(upstream_model):
            return upstream_model
        if model is not None and model != upstream_model and self._lists_model(model):
            return model
        return OTHER_MODEL

    def _count_client(self, client: ClientToken, at: float, now: float, prompt: int, completion: int) -> None:
        client.requests += 1
        client.last_used_at = at
        client.rate.add(now)
        if prompt or completion:
            client.prompt_tokens += prompt
            client.completion_tokens += completion
            client.token_rate.add(now, prompt + completion)
        if client.id is not None:
            self.changed_clients.add(client)

    def _count_minute(
        self, endpoint_id: int, at: float, failed: bool, prompt: int, completion: int, good_seconds: float | None
    ) -> None:
        key = (int(at) // 60 * 60, endpoint_id)
        self.changed_minutes.add(key)
        minute = self.minutes.get(key) or self.minute(*key)
        minute.requests += 1
        minute.failures += failed
        minute.prompt_tokens += prompt
        minute.completion_tokens += completion
        if good_seconds is not None:
            minute.latency_count += 1
            minute.latency_sum_ms += 1000 * good_seconds

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
