"""Counts per second in fixed memory: `Series` for an endpoint or the whole balancer, `Rate` for a client token.

Pure: `now` is monotonic seconds given by the caller and never runs back; a smaller value than the largest one
seen counts into the newest second. A slot of the ring is emptied when its second begins.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from typing import NamedTuple

KEPT_SECONDS = 900
RATE_WINDOW_SECONDS = 60

# One slot more than is kept: a window always touches the running second and a part of the oldest one.
_SLOTS = KEPT_SECONDS + 1
_RATE_SLOTS = RATE_WINDOW_SECONDS + 1
_LONG_AGO = -(2**62)


class Rates(NamedTuple):
    """Averages over a window, unrounded and never negative. Tokens are prompt and completion tokens."""

    tokens_per_second: float
    requests_per_second: float


class Point(NamedTuple):
    """What was counted in one second.

    `second` is on the monotonic clock given to `Series.add`. Tokens are negative where a correction exceeds what
    was counted in the same second, so that sums over points stay true.
    """

    second: int
    requests: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    ttfb_count: int
    ttfb_sum_seconds: float

    @property
    def ttfb_seconds(self) -> float | None:
        """Mean time to first byte, None when none was measured in this second."""
        return self.ttfb_sum_seconds / self.ttfb_count if self.ttfb_count else None


class Series:
    """Fifteen minutes of one-second counts in about 50 KB, whatever the load.

    Counts are doubles: exact up to 2**53 in one second. Those of the newest second are kept apart, where adding to them
    is cheap; they go to their slot when the next second begins, or when somebody looks.
    """

    __slots__ = (
        "_completion_tokens",
        "_failures",
        "_newest",
        "_newest_completion_tokens",
        "_newest_failures",
        "_newest_prompt_tokens",
        "_newest_requests",
        "_newest_ttfb_count",
        "_newest_ttfb_sum",
        "_prompt_tokens",
        "_requests",
        "_seconds",
        "_slot",
        "_ttfb_count",
        "_ttfb_sum",
        "_until",
    )

    def __init__(self) -> None:
        zeros = bytes(8 * _SLOTS)
        self._requests = array("d", zeros)
        self._failures = array("d", zeros)
        self._prompt_tokens = array("d", zeros)
        self._completion_tokens = array("d", zeros)
        self._ttfb_count = array("d", zeros)
        self._ttfb_sum = array("d", zeros)
        self._seconds = array("q", [_LONG_AGO]) * _SLOTS  # the second each slot was last begun for
        self._newest = _LONG_AGO
        self._until = -math.inf  # the first `now` that belongs to a later second than the newest
        self._slot = 0
        self._clear_newest()

    def add(
        self,
        now: float,
        requests: int = 0,
        failures: int = 0,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        ttfb_seconds: float | None = None,
    ) -> None:
        """Count into the second of `now`. Token counts may be negative: corrections of what was counted live."""
        if now >= self._until:
            self._begin(now)
        self._newest_completion_tokens += completion_tokens
        self._newest_requests += requests
        self._newest_prompt_tokens += prompt_tokens
        self._newest_failures += failures
        if ttfb_seconds is not None:
            self._newest_ttfb_count += 1
            self._newest_ttfb_sum += ttfb_seconds

    def rates(self, now: float, window_seconds: int = RATE_WINDOW_SECONDS) -> Rates:
        """Averages over the `window_seconds` (1 to 900) before `now`, the running second included.

        The oldest second counts by the share of it that still lies in the window, so a steady load gives a steady
        figure. Raises ValueError for a window out of range.
        """
        _check_range(window_seconds)
        self._store_newest()
        tokens = requests = 0.0
        for weight, slot in self._window(now, window_seconds):
            tokens += weight * (self._prompt_tokens[slot] + self._completion_tokens[slot])
            requests += weight * self._requests[slot]
        return Rates(max(tokens, 0.0) / window_seconds, requests / window_seconds)

    def points(self, now: float, seconds: int = KEPT_SECONDS) -> list[Point]:
        """The last `seconds` (1 to 900) complete seconds, oldest first, idle ones included.

        The running second is left out: a chart would always end in a dip. Raises ValueError when out of range.
        """
        _check_range(seconds)
        self._store_newest()
        end = math.floor(max(now, self._newest))
        return [self._point(second) for second in range(end - seconds, end)]

    def _begin(self, now: float) -> None:
        self._store_newest()
        self._newest = math.floor(now)
        self._until = self._newest + 1.0
        self._slot = slot = self._newest % _SLOTS
        self._seconds[slot] = self._newest
        self._clear_newest()

    def _clear_newest(self) -> None:
        self._newest_requests = self._newest_failures = 0
        self._newest_prompt_tokens = self._newest_completion_tokens = 0
        self._newest_ttfb_count = 0
        self._newest_ttfb_sum = 0.0

    def _store_newest(self) -> None:
        slot = self._slot
        self._requests[slot] = self._newest_requests
        self._failures[slot] = self._newest_failures
        self._prompt_tokens[slot] = self._newest_prompt_tokens
        self._completion_tokens[slot] = self._newest_completion_tokens
        self._ttfb_count[slot] = self._newest_ttfb_count
        self._ttfb_sum[slot] = self._newest_ttfb_sum

    def _window(self, now: float, window_seconds: int) -> Iterator[tuple[float, int]]:
        """Weight and slot of every second in the window that has counts."""
        now = max(now, self._newest)
        running = math.floor(now)
        oldest = running - window_seconds
        for second in range(oldest, self._newest + 1):
            slot = second % _SLOTS
            if self._seconds[slot] == second:
                yield (1.0 - (now - running) if second == oldest else 1.0), slot

    def _point(self, second: int) -> Point:
        slot = second % _SLOTS
        if self._seconds[slot] != second:
            return Point(second, 0, 0, 0, 0, 0, 0.0)
        return Point(
            second,
            int(self._requests[slot]),
            int(self._failures[slot]),
            int(self._prompt_tokens[slot]),
            int(self._completion_tokens[slot]),
            int(self._ttfb_count[slot]),
            self._ttfb_sum[slot],
        )


class Rate:
    """Something counted per second over the last 60 seconds, in about half a kilobyte."""

    __slots__ = ("_counts", "_newest", "_until")

    def __init__(self) -> None:
        self._counts = array("d", bytes(8 * _RATE_SLOTS))  # no count is too large for it
        self._newest = _LONG_AGO
        self._until = -math.inf

    def add(self, now: float, count: int = 1) -> None:
        """Count into the second of `now`."""
        if now >= self._until:
            self._begin(math.floor(now))
        self._counts[self._newest % _RATE_SLOTS] += count

    def per_second(self, now: float) -> float:
        """The average over the 60 seconds before `now`, unrounded; windowed as in `Series.rates`."""
        now = max(now, self._newest)
        running = math.floor(now)
        oldest = running - RATE_WINDOW_SECONDS
        if self._newest < oldest:
            return 0.0
        ring = self._counts
        total = sum(ring[second % _RATE_SLOTS] for second in range(oldest + 1, self._newest + 1))
        return (total + (1.0 - (now - running)) * ring[oldest % _RATE_SLOTS]) / RATE_WINDOW_SECONDS

    def _begin(self, second: int) -> None:
        for skipped in range(max(self._newest + 1, second - RATE_WINDOW_SECONDS), second + 1):
            self._counts[skipped % _RATE_SLOTS] = 0
        self._newest = second
        self._until = second + 1.0


def _check_range(seconds: int) -> None:
    if not 1 <= seconds <= KEPT_SECONDS:
        raise ValueError(f"seconds must be between 1 and {KEPT_SECONDS}, not {seconds}")
