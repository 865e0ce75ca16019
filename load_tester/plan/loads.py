"""The kinds of load a card can ask for, as an operator writes them down, and what each means as a course. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from load_tester.plan.arrivals import Piece, arrival_times, batch_times

Arrivals = Literal["constant", "poisson"]
Of = Literal["concurrency", "rate"]

Concurrency = Annotated[int, Field(ge=1, le=100_000)]
Rate = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
Level = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
InFlight = Annotated[int, Field(ge=0, le=100_000)]


class Frozen(BaseModel):
    """A value that takes no unknown field and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Closed(Frozen):
    """`concurrency` users, each sending the next request when its last one is answered."""

    kind: Literal["closed"] = "closed"
    concurrency: Concurrency = 1


class Open(Frozen):
    """`rate` requests per second whatever the answers do. `max_in_flight` 0: no limit; else requests wait for room."""

    kind: Literal["constant", "poisson"]
    rate: Rate
    max_in_flight: InFlight = 0


class Batch(Frozen):
    """`batch` requests at once every `delay_ms`. Delay 0 with a limit of `max_in_flight` is a closed loop."""

    kind: Literal["batch"]
    batch: Annotated[int, Field(ge=1, le=10_000)] = 1
    delay_ms: Annotated[float, Field(ge=0, le=3_600_000, allow_inf_nan=False)] = 0
    max_in_flight: InFlight = 0


class Ramp(Frozen):
    """From `start` to `end` users or requests per second within `seconds`, and there from then on."""

    kind: Literal["ramp"]
    of: Of = "concurrency"
    start: Level = 1
    end: Rate
    seconds: Seconds
    arrivals: Arrivals = "constant"
    max_in_flight: InFlight = 0


class Stage(Frozen):
    """One stage: to `end` within `seconds`, from `start` on, which left out means at `end` all the time."""

    seconds: Seconds
    end: Level
    start: Level | None = None


class Stages(Frozen):
    """Stages one after another; each gets figures of its own. The run ends behind the last one."""

    kind: Literal["stages"]
    of: Of = "rate"
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=100)]
    arrivals: Arrivals = "constant"
    max_in_flight: InFlight = 0


class Sweep(Frozen):
    """A search for the knee.

    Of concurrency: 1, 2, 4, ... users up to `most`, until more users bring no more. Of rate: one user, then `most`
    users (saturation), then `steps` rates evenly between what these two reached.
    """

    kind: Literal["sweep"]
    of: Of = "concurrency"
    most: Annotated[int, Field(ge=2, le=100_000)] = 256
    steps: Annotated[int, Field(ge=1, le=50)] = 8
    step_seconds: Annotated[float, Field(ge=0.5, le=86_400)] = 15
    arrivals: Arrivals = "constant"


Load = Annotated[Closed | Open | Batch | Ramp | Stages | Sweep, Field(discriminator="kind")]


class StopRules(Frozen):
    """When a run ends by itself: after so many seconds, requests sent, failures or output tokens; 0 means no limit."""

    seconds: Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)] = 0
    requests: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    errors: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    tokens: Annotated[int, Field(ge=0, le=10**15)] = 0

    @model_validator(mode="before")
    @classmethod
    def _none_is_none(cls, value: object) -> object:
        return {} if value is None else value


def plain(load: Load) -> Load:
    """The same load in the simplest kind: a batch without delay is all at once or a closed loop."""
    if isinstance(load, Batch) and load.delay_ms == 0 and load.max_in_flight:
        return Closed(concurrency=load.max_in_flight)
    return load


def course(load: Load) -> tuple[Piece, ...]:
    """The level over time: users of a closed loop, requests per second of an open one; empty for batch and sweep."""
    if isinstance(load, Closed):
        return (Piece(math.inf, load.concurrency, load.concurrency),)
    if isinstance(load, Open):
        return (Piece(math.inf, load.rate, load.rate),)
    if isinstance(load, Ramp):
        return (Piece(load.seconds, load.start, load.end), Piece(math.inf, load.end, load.end))
    if isinstance(load, Stages):
        return tuple(
            Piece(each.seconds, each.end if each.start is None else each.start, each.end) for each in load.stages
        )
    return ()


def is_closed(load: Load) -> bool:
    """Whether it is users that wait for their answers, rather than arrivals by a plan."""
    return isinstance(load, Closed) or (isinstance(load, Ramp | Stages) and load.of == "concurrency")


def due_times(load: Load, seed: int) -> Iterator[float]:
    """The schedule of an open loop: seconds since the start, in order, the same for the same seed."""
    if isinstance(load, Batch):
        return batch_times(load.batch, load.delay_ms / 1000)
    poisson = load.kind == "poisson" or getattr(load, "arrivals", "") == "poisson"
    return arrival_times(course(load), random.Random(seed) if poisson else None)


def in_flight_limit(load: Load) -> int:
    """The most requests an open loop has under way, 0 for no limit."""
    return getattr(load, "max_in_flight", 0)


def settling_seconds(load: Load) -> float:
    """How long the load itself takes to reach what is to be measured: the ramp."""
    return load.seconds if isinstance(load, Ramp) else 0.0


def highest_concurrency(load: Load) -> int:
    """The most requests that may be under way by the plan; 0 where the plan sets no limit."""
    load = plain(load)
    if isinstance(load, Sweep):
        return load.most
    if is_closed(load):
        return max(math.ceil(max(piece.start, piece.end)) for piece in course(load))
    return in_flight_limit(load)


def highest_rate(load: Load) -> float:
    """The most requests per second by the plan; 0 for a closed loop and a sweep."""
    load = plain(load)
    if isinstance(load, Batch):
        return load.batch * 1000 / load.delay_ms if load.delay_ms else 0.0
    if is_closed(load) or isinstance(load, Sweep):
        return 0.0
    return max(max(piece.start, piece.end) for piece in course(load))


def planned_seconds(load: Load) -> float:
    """How long the load itself lasts: infinite but for stages."""
    return sum(each.seconds for each in load.stages) if isinstance(load, Stages) else math.inf
