"""All figures of one window: what belongs to it, and the formula of each. Pure.

A request belongs to the window in which it was sent: its latencies count even if the answer came in the drain, so that
a target that hangs at the end cannot hide. Rates count what was completed within the window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from load_tester.measures.in_flight import InFlight
from load_tester.measures.records import FAILURE_WORDS, NANOSECONDS, Failure, Record, TokenSource
from load_tester.measures.samples import Samples

MOST_ENDPOINTS = 1_000
MOST_ERROR_TEXTS = 50
_LATENCIES = ("ttft", "ttft_star", "ttfo", "e2e", "e2e_star", "tpot", "queue")


class EndpointTally:
    """What one serving endpoint did."""

    __slots__ = ("attempts", "e2e", "failed", "failovers", "ok", "tokens_in", "tokens_out", "tpot", "ttft")

    def __init__(self) -> None:
        self.ok = self.failed = self.attempts = self.failovers = 0
        self.tokens_in = self.tokens_out = 0
        self.ttft, self.e2e, self.tpot = Samples(), Samples(), Samples()

    def add(self, record: Record) -> None:
        """One request that was sent in the window."""
        self.attempts += record.attempts
        self.failovers += record.failovers
        if not record.ok:
            self.failed += 1
            return
        self.ok += 1
        self.tokens_in += record.tokens_in
        self.tokens_out += record.tokens_out
        for samples, value in ((self.ttft, record.ttft_ns), (self.e2e, record.e2e_ns), (self.tpot, record.tpot_ns)):
            if value is not None:
                samples.add(value)

    def shown(self, name: str, total: int) -> dict[str, Any]:
        """As it is shown; `total` requests went to all endpoints together."""
        count = self.ok + self.failed
        return {
            "endpoint": name,
            "requests": count,
            "share_percent": 100 * count / total if total else None,
            "ok": self.ok,
            "failed": self.failed,
            "attempts": self.attempts,
            "failovers": self.failovers,
            "input_tokens": self.tokens_in,
            "output_tokens": self.tokens_out,
            "ttft": self.ttft.distribution(),
            "e2e": self.e2e.distribution(),
            "tpot": self.tpot.distribution(),
        }


class Tally:
    """Figures of the window that begins at `begun_ns`; `end` closes it. `good` judges single requests."""

    def __init__(self, begun_ns: int, good: Callable[[Record], bool], *, in_flight: int = 0) -> None:
        self.begun_ns = begun_ns
        self.ended_ns = 0
        self.sent = self.ok = self.failed = self.cancelled = self.good = 0
        self.completed = self.completed_ok = self.completed_good = 0
        self.tokens_in = self.tokens_out = 0
        self.all_tokens_in = self.all_tokens_out = 0
        self.in_flight = InFlight(begun_ns, in_flight)
        self.latencies = {name: Samples() for name in _LATENCIES}
        self.icl = Samples()
        self.intervals = Samples()
        self.input_lengths = Samples("tokens", 1)
        self.output_lengths = Samples("tokens", 1)
        self.request_speed = Samples("tok/s", 1000)
        self.sources: Counter[TokenSource] = Counter()
        self.endpoints: dict[str, EndpointTally] = {}
        self._good = good
        self._failures: dict[Failure, Counter[str]] = {}
        self._sojourn_ns = 0
        self._last_sent_ns = 0

    def note_sent(self, at_ns: int) -> None:
        """A request goes out, within the window."""
        self.sent += 1
        if self._last_sent_ns:
            self.intervals.add(max(0, at_ns - self._last_sent_ns))
        self._last_sent_ns = at_ns

    def note_level(self, by: int, at_ns: int) -> None:
        """Something begins or ends to be under way, wherever it belongs."""
        # What ended just before the window may be counted out within it: it was counted in, so out it must go.
        if not self.ended_ns:
            self.in_flight.change(by, at_ns)

    def end(self, at_ns: int) -> None:
        """The window is over."""
        self.ended_ns = self.ended_ns or max(at_ns, self.begun_ns)

    def holds(self, record: Record) -> bool:
        """Whether a request was sent within the window."""
        return record.sent_ns >= self.begun_ns and not (self.ended_ns and record.sent_ns >= self.ended_ns)

    @property
    def settled(self) -> bool:
        """Whether the window is over, and so is all that was sent in it."""
        return bool(self.ended_ns) and self.sent <= self.ok + self.failed + self.cancelled

    def add(self, record: Record) -> None:
        """A request is over. Whether it belongs to the window follows from when it was sent and when it ended."""
        inside = record.ended_ns >= self.begun_ns and not (self.ended_ns and record.ended_ns > self.ended_ns)
        good = self._good(record)
        if inside and record.failure is not Failure.CANCELLED:
            self.completed += 1
            self._sojourn_ns += record.ended_ns - record.sent_ns
            if record.ok:
                self.completed_ok += 1
                self.completed_good += good
                self.tokens_in += record.tokens_in
                self.tokens_out += record.tokens_out
        if self.holds(record):
            self._add_latencies(record, good)

    def _add_latencies(self, record: Record, good: bool) -> None:
        queue_ns = record.queue_ns
        if queue_ns is not None:
            self.latencies["queue"].add(queue_ns)
        if record.failure is not None:
            self._add_failure(record, record.failure)
        else:
            self.ok += 1
            self.good += good
            self._add_answer(record)
        if record.failure is not Failure.CANCELLED:
            self._endpoint(record.endpoint).add(record)

    def _add_answer(self, record: Record) -> None:
        latencies = self.latencies
        for name in ("ttft", "ttft_star", "ttfo", "e2e", "e2e_star", "tpot"):
            value = getattr(record, f"{name}_ns")
            if value is not None:
                latencies[name].add(value)
        for gap in record.gaps_ns:
            self.icl.add(gap)
        self.sources[record.token_source] += 1
        self.all_tokens_in += record.tokens_in
        self.all_tokens_out += record.tokens_out
        if record.tokens_in:
            self.input_lengths.add(record.tokens_in)
        if record.tokens_out:
            self.output_lengths.add(record.tokens_out)
        speed = record.tokens_per_second
        if speed is not None:
            self.request_speed.add(speed * 1000)

    def _add_failure(self, record: Record, failure: Failure) -> None:
        if failure is Failure.CANCELLED:
            self.cancelled += 1
        else:
            self.failed += 1
        texts = self._failures.setdefault(failure, Counter())
        known = record.detail in texts or len(texts) < MOST_ERROR_TEXTS
        texts[record.detail if known else "(others)"] += 1

    def _endpoint(self, name: str) -> EndpointTally:
        found = self.endpoints.get(name)
        if found is None:
            if len(self.endpoints) >= MOST_ENDPOINTS:
                name = "(others)"
            found = self.endpoints.setdefault(name, EndpointTally())
        return found

    def littles_law_gap_percent(self, now_ns: int) -> float | None:
        """How far the mean in flight is from throughput x mean time in the system, as a share of the larger."""
        seconds = self.seconds(now_ns)
        mean = self.in_flight.mean(self.ended_ns or now_ns)
        if not self.completed or not seconds or not mean:
            return None
        expected = self._sojourn_ns / NANOSECONDS / seconds
        return 100 * abs(mean - expected) / max(mean, expected)

    def seconds(self, now_ns: int) -> float:
        """Length of the window so far."""
        return max(0, (self.ended_ns or now_ns) - self.begun_ns) / NANOSECONDS

    def errors(self) -> list[dict[str, Any]]:
        """Failures by class and text, the most frequent first, each with its words as a sample."""
        found = [
            {"class": failure.value, "meaning": FAILURE_WORDS[failure], "sample": text, "count": count}
            for failure, texts in self._failures.items()
            for text, count in texts.items()
        ]
        return sorted(found, key=lambda each: (-int(str(each["count"])), str(each["sample"])))

    def summary(self, now_ns: int) -> dict[str, Any]:
        """Every figure, as it is shown, stored and exported."""
        seconds = self.seconds(now_ns)
        answered = self.ok + self.failed

        def per_second(count: float) -> float | None:
            return count / seconds if seconds > 0 else None

        return {
            "window_seconds": seconds,
            "sent": self.sent,
            "ok": self.ok,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "completed": self.completed,
            "error_percent": 100 * self.failed / answered if answered else None,
            "good_percent": 100 * self.good / answered if answered else None,
            "requests_per_second": per_second(self.completed_ok),
            "offered_per_second": per_second(self.sent),
            "output_tokens_per_second": per_second(self.tokens_out),
            "input_tokens_per_second": per_second(self.tokens_in),
            "total_tokens_per_second": per_second(self.tokens_in + self.tokens_out),
            "goodput": per_second(self.completed_good),
            "input_tokens": self.all_tokens_in,
            "output_tokens": self.all_tokens_out,
            "token_sources": {source.value: count for source, count in self.sources.items()},
            "in_flight_mean": self.in_flight.mean(self.ended_ns or now_ns),
            "in_flight_peak": self.in_flight.peak,
            "littles_law_gap_percent": self.littles_law_gap_percent(now_ns),
            "latencies": {
                **{name: samples.distribution() for name, samples in self.latencies.items()},
                "icl": self.icl.distribution(),
            },
            "request_tokens_per_second": self.request_speed.distribution(),
            "input_length": self.input_lengths.distribution(),
            "output_length": self.output_lengths.distribution(),
            "send_interval": self.intervals.distribution(),
            "errors": self.errors(),
            "endpoints": [
                each.shown(name, answered)
                for name, each in sorted(self.endpoints.items(), key=lambda item: -(item[1].ok + item[1].failed))
            ],
        }
