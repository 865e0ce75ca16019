"""Where more load brings nothing any more: the knee of a sweep; the largest step that meets the objectives. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A step that brings less than this over the best before it counts as no gain.
GAIN_PERCENT = 5.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a sweep. `level`: users or requests/s planned; `in_flight`: mean measured.

    `throughput` is output tokens/s, or answers/s where no tokens are counted; `latency` is the mean E2E in ms.
    """

    level: float
    throughput: float
    latency: float
    in_flight: float
    error_percent: float
    slo_met: bool


def knee(steps: Sequence[Step]) -> int | None:
    """The place of the step with the most power: throughput / mean E2E (Kleinrock); of equal ones the lowest level.

    Below it the target idles, above it requests mostly wait. Steps in which over 10 % failed do not count.
    """
    usable = [place for place, step in enumerate(steps) if step.latency > 0 and step.error_percent <= 10]
    if not usable:
        return None
    return max(usable, key=lambda place: (_power(steps[place]), -steps[place].level))


def _power(step: Step) -> float:
    return step.throughput / step.latency


def largest_meeting_slo(steps: Sequence[Step]) -> int | None:
    """The place of the highest level that meets every objective, with every lower level meeting them too."""
    best = None
    for place in sorted(range(len(steps)), key=lambda each: steps[each].level):
        if not steps[place].slo_met:
            break
        best = place
    return best


def saturated(steps: Sequence[Step]) -> bool:
    """Whether a sweep of concurrency may end: two steps in a row without gain, or with over 10 % failures."""
    if len(steps) < 3:
        return False
    best = max(step.throughput for step in steps[:-2])
    return all(step.error_percent > 10 or step.throughput < best * (1 + GAIN_PERCENT / 100) for step in steps[-2:])
