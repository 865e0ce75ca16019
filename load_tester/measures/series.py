"""What is charted while a run goes on: points of one second, made coarser rather than more than 3,600 of them. Pure."""

from __future__ import annotations

import math
from typing import Any

MOST_POINTS = 3_600
COLUMNS = (
    "seconds",
    "planned_per_second",
    "offered_per_second",
    "ok_per_second",
    "failed_per_second",
    "output_tokens_per_second",
    "in_flight",
    "ttft_p50_ms",
    "ttft_p95_ms",
    "e2e_p50_ms",
    "e2e_p95_ms",
)
Point = tuple[float | None, ...]


class Series:
    """Counts of the present second, and the points made of those before. Times are seconds since the start."""

    def __init__(self, *, most_points: int = MOST_POINTS) -> None:
        self.points: list[Point] = []
        self.points_dropped = 0  # grows when points are made coarser: whoever kept a copy takes all of them anew
        self.step_seconds = 1
        self.peak_tokens_per_second = 0.0
        self._most_points = most_points
        self._begun = 0
        self._clear()

    def _clear(self) -> None:
        self.planned = self.offered = self.ok = self.failed = self.tokens = 0
        self.ttfts_ms: list[float] = []
        self.e2es_ms: list[float] = []

    def advance(self, now_seconds: float, in_flight: int) -> None:
        """Close every step that is over by now."""
        while now_seconds >= self._begun + self.step_seconds:
            self._close(in_flight)

    def _close(self, in_flight: int) -> None:
        step = self.step_seconds
        self._begun += step
        self.peak_tokens_per_second = max(self.peak_tokens_per_second, self.tokens / step)
        self.ttfts_ms.sort()
        self.e2es_ms.sort()
        self.points.append(
            (
                float(self._begun),
                self.planned / step,
                self.offered / step,
                self.ok / step,
                self.failed / step,
                self.tokens / step,
                float(in_flight),
                _ranked(self.ttfts_ms, 50),
                _ranked(self.ttfts_ms, 95),
                _ranked(self.e2es_ms, 50),
                _ranked(self.e2es_ms, 95),
            )
        )
        self._clear()
        if len(self.points) >= self._most_points:
            self._make_coarser()

    def _make_coarser(self) -> None:
        """Join points in pairs: means of rates; of percentiles the larger one, since they are never averaged."""
        self.points_dropped += 1
        self.step_seconds *= 2
        pairs = zip(self.points[::2], self.points[1::2], strict=False)
        rest = self.points[-1:] if len(self.points) % 2 else []
        self.points = [_joined(a, b) for a, b in pairs] + rest

    def as_json(self, since: int = 0) -> dict[str, Any]:
        """Columns and rows, from that row on."""
        return {
            "columns": list(COLUMNS),
            "step_seconds": self.step_seconds,
            "generation": self.points_dropped,
            "from": since,
            "rows": [list(point) for point in self.points[since:]],
        }


def _ranked(ordered: list[float], percent: float) -> float | None:
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1] if ordered else None


def _joined(a: Point, b: Point) -> Point:
    def of(place: int) -> float | None:
        x, y = a[place], b[place]
        if place == 0 or x is None or y is None:
            return x if y is None else y
        return max(x, y) if place >= 7 else (x + y) / 2

    return tuple(of(place) for place in range(len(a)))
