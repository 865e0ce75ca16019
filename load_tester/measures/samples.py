"""A distribution of one figure: exact to 200,000 samples, a histogram of bounded error from there on. Pure.

Percentiles are nearest rank: the smallest sample that at least p percent of all do not exceed. They are never
averaged; the histogram (HdrHistogram's layout: 1,024 linear steps in every power of two) keeps each value within 0.1 %.
"""

from __future__ import annotations

import math
from array import array
from typing import TypedDict

MOST_RAW = 200_000
FEW = 100
MANY = 10_000
_BITS = 11


class Distribution(TypedDict):
    """A distribution as it is shown. Percentiles are null without samples; `p99_9` also below 10,000 samples.

    `p99_is_firm`: whether there are at least 100 samples. `exact`: raw samples rather than a histogram.
    """

    unit: str
    n: int
    mean: float | None
    stddev: float | None
    min: float | None
    max: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p99_9: float | None
    p99_is_firm: bool
    exact: bool


class Histogram:
    """Counts by value, within 0.1 %. For whole numbers of 0 or more."""

    __slots__ = ("_counts", "n")

    def __init__(self) -> None:
        self.n = 0
        self._counts: dict[int, int] = {}

    def add(self, value: int) -> None:
        """Count one value in."""
        shift = max(0, value.bit_length() - _BITS)
        slot = (shift << _BITS) + (value >> shift)
        self._counts[slot] = self._counts.get(slot, 0) + 1
        self.n += 1

    def at_rank(self, rank: int) -> int:
        """The value at that place, from 1, in ascending order: the middle of its slot."""
        passed = 0
        for slot in sorted(self._counts):
            passed += self._counts[slot]
            if passed >= rank:
                shift, top = slot >> _BITS, slot & ((1 << _BITS) - 1)
                return (top << shift) + ((1 << shift) >> 1)
        raise ValueError("rank beyond the last sample")


class Samples:
    """Figures of one kind. `unit` is shown; `divisor` turns what is added into that unit."""

    __slots__ = ("_divisor", "_histogram", "_m2", "_mean", "_raw", "_sorted", "highest", "lowest", "most_raw", "unit")

    def __init__(self, unit: str = "ms", divisor: float = 1e6, *, most_raw: int = MOST_RAW) -> None:
        self.unit = unit
        self.most_raw = most_raw
        self.lowest = math.inf
        self.highest = -math.inf
        self._divisor = divisor
        self._raw = array("d")
        self._sorted = True
        self._histogram: Histogram | None = None
        self._mean = 0.0
        self._m2 = 0.0

    @property
    def n(self) -> int:
        """How many samples."""
        return len(self._raw) if self._histogram is None else self._histogram.n

    @property
    def exact(self) -> bool:
        """Whether percentiles come from raw samples."""
        return self._histogram is None

    @property
    def mean(self) -> float | None:
        """Mean, in the unit; None without samples."""
        return self._mean / self._divisor if self.n else None

    @property
    def stddev(self) -> float | None:
        """Sample standard deviation, in the unit; None below two samples."""
        return math.sqrt(self._m2 / (self.n - 1)) / self._divisor if self.n > 1 else None

    def add(self, value: float) -> None:
        """One sample, before division."""
        histogram = self._histogram
        if histogram is None:
            if len(self._raw) == self.most_raw:
                histogram = self._fold()
            else:
                self._raw.append(value)
                self._sorted = False
        if histogram is not None:
            histogram.add(max(0, round(value)))
        if value < self.lowest:
            self.lowest = value
        if value > self.highest:
            self.highest = value
        # Welford: no cancellation however large the values.
        delta = value - self._mean
        self._mean += delta / self.n
        self._m2 += delta * (value - self._mean)

    def percentile(self, percent: float) -> float | None:
        """Nearest rank, in the unit; None without samples."""
        n = self.n
        if not n:
            return None
        rank = max(1, math.ceil(round(n * percent / 100, 9)))
        if self._histogram is not None:
            value = min(max(float(self._histogram.at_rank(rank)), self.lowest), self.highest)
        else:
            if not self._sorted:
                self._raw = array("d", sorted(self._raw))
                self._sorted = True
            value = self._raw[rank - 1]
        return value / self._divisor

    def distribution(self) -> Distribution:
        """Everything that is shown of it."""
        n = self.n
        return {
            "unit": self.unit,
            "n": n,
            "mean": self.mean,
            "stddev": self.stddev,
            "min": self.lowest / self._divisor if n else None,
            "max": self.highest / self._divisor if n else None,
            "p50": self.percentile(50),
            "p90": self.percentile(90),
            "p95": self.percentile(95),
            "p99": self.percentile(99),
            "p99_9": self.percentile(99.9) if n >= MANY else None,
            "p99_is_firm": n >= FEW,
            "exact": self.exact,
        }

    def _fold(self) -> Histogram:
        histogram = self._histogram = Histogram()
        for value in self._raw:
            histogram.add(max(0, round(value)))
        self._raw = array("d")
        return histogram
