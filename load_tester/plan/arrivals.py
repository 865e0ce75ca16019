"""Arrival times of an open loop and levels of a closed one, from a course of pieces. Pure.

A course is piecewise linear: a level (requests per second, or users) that goes from `start` to `end` within each
piece. Arrivals come where the integral of the rate passes 0, 1, 2, ... (constant), or sums of exponential gaps
(Poisson): so ramps and stages are as exact as constant rates.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """`seconds` may be infinite, then start and end are the same. Levels are 0 or more."""

    seconds: float
    start: float
    end: float

    def level(self, offset_seconds: float) -> float:
        """The level that far into the piece."""
        if math.isinf(self.seconds) or self.seconds == 0:
            return self.end
        return self.start + (self.end - self.start) * min(1.0, offset_seconds / self.seconds)

    @property
    def area(self) -> float:
        """How many arrivals the whole piece holds."""
        if math.isinf(self.seconds):
            return math.inf if self.end > 0 else 0.0
        return (self.start + self.end) / 2 * self.seconds

    def offset_of(self, area: float) -> float:
        """Seconds into the piece until its integral is `area`, which must not exceed the piece's own."""
        slope = 0.0 if math.isinf(self.seconds) else (self.end - self.start) / self.seconds
        # The stable form of the root: no difference of nearly equal numbers where the slope is small.
        root = math.sqrt(max(0.0, self.start * self.start + 2 * slope * area))
        return 2 * area / (self.start + root) if area > 0 else 0.0


def level_at(course: Sequence[Piece], seconds: float) -> float:
    """The level at that time; behind the last piece, where it ended."""
    begun = 0.0
    for piece in course:
        if seconds < begun + piece.seconds:
            return piece.level(seconds - begun)
        begun += piece.seconds
    return course[-1].end if course else 0.0


def course_seconds(course: Sequence[Piece]) -> float:
    """How long the course is; may be infinite."""
    return sum(piece.seconds for piece in course)


def arrival_times(course: Sequence[Piece], rng: random.Random | None) -> Iterator[float]:
    """Seconds since the start at which requests are due, in order. `rng` None: evenly spaced; else Poisson.

    Ends with the course; never ends where its last piece is infinite.
    """
    due = 0.0 if rng is None else rng.expovariate(1.0)
    begun_at, begun_area = 0.0, 0.0
    for piece in course:
        area = piece.area
        # The last instant belongs to the next piece, so that no arrival is counted twice.
        while due < begun_area + area:
            yield begun_at + piece.offset_of(due - begun_area)
            due += 1.0 if rng is None else rng.expovariate(1.0)
        begun_at += piece.seconds
        begun_area += area


def batch_times(batch: int, delay_seconds: float) -> Iterator[float]:
    """`batch` requests at once every `delay_seconds`, from 0 on, without end. The times do not drift."""
    number = 0
    while True:
        for _ in range(batch):
            yield number * delay_seconds
        number += 1
