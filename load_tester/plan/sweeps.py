"""What a sweep tries next, given what its steps have shown, and what it recommends in the end. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from load_tester.measures.knee import Step, knee, largest_meeting_slo, saturated
from load_tester.plan.loads import Closed, Load, Open, Sweep


@dataclass(frozen=True, slots=True)
class NextStep:
    """One step: what it is called, users or requests/s, and the load."""

    label: str
    of: str
    level: float
    load: Load


def settling_of_step(step_seconds: float) -> float:
    """How much of a step passes before it is measured."""
    return min(max(1.0, step_seconds / 10), step_seconds / 4)


def next_step(sweep: Sweep, steps: Sequence[Step], rates: Sequence[float]) -> NextStep | None:
    """What to try after `steps`; `rates` are the answers per second that each of them reached. None: it is over."""
    if sweep.of == "concurrency":
        return _next_concurrency(sweep, steps)
    return _next_rate(sweep, len(steps), rates)


def _next_concurrency(sweep: Sweep, steps: Sequence[Step]) -> NextStep | None:
    tried = {round(step.level) for step in steps}
    doubling = [step for place, step in enumerate(steps) if step.level == _doubled(sweep, place)]
    level: int | None = None
    if len(doubling) == len(steps) and not saturated(steps) and sweep.most not in tried:
        level = _doubled(sweep, len(steps))
    elif len(steps) < len(doubling) + 2:
        level = _between(steps, tried)
    return None if level is None else _users(level)


def _doubled(sweep: Sweep, place: int) -> int:
    return min(1 << place, sweep.most)


def _between(steps: Sequence[Step], tried: set[int]) -> int | None:
    """A level not yet tried between the best one and its neighbours."""
    place = knee(steps)
    if place is None:
        return None
    best = round(steps[place].level)
    for neighbour in (
        max((each for each in tried if each < best), default=best),
        *(sorted(each for each in tried if each > best)[:1]),
    ):
        middle = (best + neighbour) // 2
        if middle not in tried and middle > 0:
            return middle
    return None


def _next_rate(sweep: Sweep, done: int, rates: Sequence[float]) -> NextStep | None:
    if done == 0:
        return _users(1)
    if done == 1:
        return _users(sweep.most)
    slowest, fastest = rates[0], rates[1]
    number = done - 1
    if number > sweep.steps or fastest <= 0 or fastest < slowest * 1.05:
        return None
    rate = round(slowest + (fastest - slowest) * number / sweep.steps, 3)
    return NextStep(f"{rate:g} req/s", "rate", rate, Open(kind=sweep.arrivals, rate=rate))


def _users(level: int) -> NextStep:
    return NextStep(f"{level} user{'s' if level != 1 else ''}", "concurrency", level, Closed(concurrency=level))


def findings(sweep: Sweep, steps: Sequence[Step], levels: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Knee, largest level that meets the objectives, and the `max_concurrent` that follows.

    `levels` are the label and kind of each step. Of a sweep of rates only the steps by rate are compared.
    """
    wanted = [place for place, (_, of) in enumerate(levels) if of == sweep.of]
    compared = [steps[place] for place in wanted]
    at_knee, at_slo = knee(compared), largest_meeting_slo(compared)
    return {
        "of": sweep.of,
        "knee": None if at_knee is None else _found(levels[wanted[at_knee]][0], compared[at_knee]),
        "largest_meeting_slo": None if at_slo is None else _found(levels[wanted[at_slo]][0], compared[at_slo]),
        "saturated": at_knee is not None and compared[at_knee].level < max(step.level for step in compared),
        "suggestion": _suggestion(sweep, compared, at_knee, at_slo),
    }


def _found(label: str, step: Step) -> dict[str, Any]:
    return {
        "label": label,
        "level": step.level,
        "throughput": step.throughput,
        "e2e_mean_ms": step.latency,
        "in_flight_mean": step.in_flight,
    }


def _suggestion(sweep: Sweep, steps: Sequence[Step], at_knee: int | None, at_slo: int | None) -> dict[str, Any] | None:
    """The knee, unless the objectives allow only less."""
    if at_knee is None:
        return None
    place, because = at_knee, "knee"
    if at_slo is not None and steps[at_slo].level < steps[at_knee].level:
        place, because = at_slo, "slo"
    if because == "knee" and steps[place].level == max(each.level for each in steps):
        because = "limit"
    step = steps[place]
    value = step.level if sweep.of == "concurrency" else math.ceil(step.in_flight)
    words = {
        "knee": "beyond it requests wait longer than they are answered faster",
        "slo": "it is the largest that meets every objective",
        "limit": "it is the most that was tried, and more still helped: sweep further",
    }
    return {"max_concurrent": max(1, round(value)), "because": because, "words": words[because]}
