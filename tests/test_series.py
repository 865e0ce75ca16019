from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.series import KEPT_SECONDS, Point, Rate, Series

# Clocks that stand, creep, leap over the whole ring, and now and then step back.
STEPS = st.one_of(
    st.just(0.0),
    st.floats(0.0, 2.0),
    st.floats(0.0, 100.0),
    st.sampled_from([0.25, 1.0, 59.0, 60.0, 61.0, 899.0, 900.0, 901.0, 902.0, 5000.0, -1.0, -70.0]),
)


class Counts(NamedTuple):
    requests: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    ttfb_seconds: float | None


COUNTS = st.builds(
    Counts,
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(-50, 2000),
    st.integers(-50, 2000),
    st.none() | st.floats(0.0, 30.0),
)


class NaiveSeries:
    """Every count with its second, kept for ever; the clock is the largest value seen."""

    def __init__(self) -> None:
        self.clock = -math.inf
        self.events: list[tuple[int, Counts]] = []

    def add(self, now: float, counts: Counts) -> None:
        self.clock = max(self.clock, now)
        self.events.append((math.floor(self.clock), counts))

    def average(self, now: float, window: int, count: Callable[[Counts], int]) -> float:
        now = max(now, math.floor(self.clock)) if self.events else now
        running = math.floor(now)
        total = 0.0
        for second, counts in self.events:
            if second > running - window:
                total += count(counts)
            elif second == running - window:
                total += count(counts) * (running + 1 - now)
        return total / window

    def point(self, second: int) -> Point:
        rows = [counts for when, counts in self.events if when == second]
        times = [row.ttfb_seconds for row in rows if row.ttfb_seconds is not None]
        return Point(
            second,
            sum(row.requests for row in rows),
            sum(row.failures for row in rows),
            sum(row.prompt_tokens for row in rows),
            sum(row.completion_tokens for row in rows),
            len(times),
            sum(times),
        )


@given(
    start=st.floats(0.0, 1e7),
    events=st.lists(st.tuples(STEPS, COUNTS), max_size=30),
    later=STEPS,
    window=st.integers(1, KEPT_SECONDS),
)
def test_series_equals_a_naive_model(
    start: float, events: list[tuple[float, Counts]], later: float, window: int
) -> None:
    series, naive, now = Series(), NaiveSeries(), start
    for step, counts in events:
        now = max(0.0, now + step)
        series.add(now, **counts._asdict())
        naive.add(now, counts)
    now = max(0.0, now + later)

    rates = series.rates(now, window)
    tokens = naive.average(now, window, lambda counts: counts.prompt_tokens + counts.completion_tokens)
    requests = naive.average(now, window, lambda counts: counts.requests)
    assert rates.tokens_per_second == pytest.approx(max(tokens, 0.0), rel=1e-9, abs=1e-6)
    assert rates.requests_per_second == pytest.approx(requests, rel=1e-9, abs=1e-6)
    end = math.floor(max(now, naive.clock))
    assert series.points(now, window) == [naive.point(second) for second in range(end - window, end)]


@given(start=st.floats(0.0, 1e7), events=st.lists(st.tuples(STEPS, st.integers(1, 5)), max_size=40), later=STEPS)
def test_rate_equals_the_series_of_requests(start: float, events: list[tuple[float, int]], later: float) -> None:
    rate, series, now = Rate(), Series(), start
    for step, requests in events:
        now = max(0.0, now + step)
        rate.add(now, requests)
        series.add(now, requests=requests)
    now = max(0.0, now + later)
    assert rate.per_second(now) == pytest.approx(series.rates(now).requests_per_second)


def test_a_request_shows_in_the_second_it_happens() -> None:
    series = Series()
    series.add(1000.2, requests=1, prompt_tokens=20, completion_tokens=40)
    rates = series.rates(1000.2)
    assert rates.tokens_per_second == pytest.approx(1.0)
    assert rates.requests_per_second == pytest.approx(1 / 60)


def test_steady_load_reads_steadily_at_any_moment_of_a_second() -> None:
    series = Series()
    for tick in range(1000):
        series.add(tick / 10, requests=1, completion_tokens=5)
    seen = [series.rates(99.9 + part / 1000).tokens_per_second for part in range(0, 100, 7)]
    assert all(abs(value - 50.0) < 0.1 for value in seen)


def test_an_event_leaves_the_window_within_its_61st_second() -> None:
    series = Series()
    series.add(10.0, completion_tokens=60)
    assert series.rates(69.99).tokens_per_second == pytest.approx(1.0)
    assert series.rates(70.5).tokens_per_second == pytest.approx(0.5)
    assert series.rates(71.0).tokens_per_second == 0.0


def test_the_longest_window_reaches_back_to_its_oldest_second() -> None:
    series = Series()
    series.add(0.0, requests=900)
    series.add(900.0, requests=900)
    assert series.rates(900.0, KEPT_SECONDS).requests_per_second == 2.0
    assert series.points(900.5)[0] == (0, 900, 0, 0, 0, 0, 0.0)


def test_a_clock_that_steps_back_reads_as_the_newest_second() -> None:
    series = Series()
    series.add(100.0, requests=60)
    series.add(170.0, requests=60)
    series.add(110.0, requests=60)
    assert series.rates(110.0).requests_per_second == 2.0


def test_a_busy_rate_is_zero_after_a_pause_of_any_length() -> None:
    rate = Rate()
    for second in range(61):
        rate.add(float(second))
    assert rate.per_second(60.0) == pytest.approx(61 / 60)
    assert [rate.per_second(120.0 + pause) for pause in range(1, 70)] == [0.0] * 69


def test_corrections_settle_in_points_and_never_make_a_rate_negative() -> None:
    series = Series()
    series.add(10.0, completion_tokens=64)
    series.add(100.0, completion_tokens=-4)
    assert series.rates(100.0).tokens_per_second == 0.0
    assert sum(point.completion_tokens for point in series.points(101.0)) == 60


def test_points_hold_complete_seconds_with_mean_ttfb() -> None:
    series = Series()
    series.add(7.1, requests=1, ttfb_seconds=0.2)
    series.add(7.9, requests=1, failures=1, ttfb_seconds=0.4)
    series.add(8.0, requests=1)
    before, point = series.points(8.5, 2)
    assert point[:3] == (7, 2, 1)
    assert point.ttfb_seconds == pytest.approx(0.3)
    assert before == (6, 0, 0, 0, 0, 0, 0.0)
    assert before.ttfb_seconds is None


def test_a_new_series_is_idle() -> None:
    assert Series().rates(5.0) == (0.0, 0.0)
    assert [point.requests for point in Series().points(5.0, 3)] == [0, 0, 0]
    assert Rate().per_second(5.0) == 0.0


@pytest.mark.parametrize("seconds", [0, -1, KEPT_SECONDS + 1])
def test_windows_out_of_range_are_refused(seconds: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 900"):
        Series().rates(0.0, seconds)
    with pytest.raises(ValueError, match="between 1 and 900"):
        Series().points(0.0, seconds)
