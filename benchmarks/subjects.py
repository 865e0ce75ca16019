"""Who is measured under which load, and the figures that come of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import uvloop

from benchmarks import backend
from benchmarks.balancer import Served
from benchmarks.load import LoadError, Measured, request_bytes, run
from benchmarks.processes import Program


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load. `slow`: also for proxies that bear no more; `quick`: also when time is short."""

    name: str
    model: str
    connections: int = 32
    prompt_bytes: int = 180
    endpoints: int = 4
    slow: bool = False
    quick: bool = False

    @property
    def paced(self) -> bool:
        """Whether streams go on all the time, so that events are counted rather than answers."""
        return self.model in backend.PACES


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity over all rounds."""

    median: float
    low: float
    high: float


FIGURES: Mapping[str, Callable[[Measured], float]] = {
    "cpu_us": lambda each: 1e6 * each.cpu_seconds / (each.events or each.requests),
    "per_second": lambda each: (each.events or each.requests) / each.seconds,
    "p50_ms": lambda each: 1000 * each.p50_seconds,
    "p99_ms": lambda each: 1000 * each.p99_seconds,
    "core_percent": lambda each: 100 * each.cpu_seconds / each.seconds,
    "pss_mb": lambda each: each.pss_bytes / 1e6,
}


@dataclass(slots=True, eq=False)
class Subject:
    """A process that answers `/v1/chat/completions`, and all that was measured of it. `failures`: why it was not."""

    name: str
    program: Program
    client_token: str = "none"
    is_proxy: bool = True
    slow: bool = False
    rounds: dict[Case, list[Measured]] = field(default_factory=dict)
    failures: dict[Case, str] = field(default_factory=dict)

    def takes(self, case: Case) -> bool:
        """Whether it is worth measuring under this load."""
        return case not in self.failures and (case.slow or not self.slow)

    def measure(self, case: Case, seconds: float) -> None:
        """One round of one case. A failure is noted, and the case is not measured again."""
        port = self.program.port
        stream = case.model != backend.JSON
        request = request_bytes(port, case.model, self.client_token, stream=stream, prompt_bytes=case.prompt_bytes)
        load = run(port, request, case.connections, seconds, self.program, count_events=case.paced)
        try:
            self.rounds.setdefault(case, []).append(uvloop.run(load))
        except (LoadError, OSError) as error:
            self.failures[case] = str(error) or repr(error)

    def figures(self, case: Case) -> dict[str, Figure]:
        """The figures of one case by name, from at least one round."""
        figures = {}
        for name, of in FIGURES.items():
            values = [of(each) for each in self.rounds[case]]
            figures[name] = Figure(statistics.median(values), min(values), max(values))
        return figures

    def served(self) -> Served:
        """All that it answered, in requests and tokens."""
        total = Served()
        for case, rounds in self.rounds.items():
            for each in rounds:
                count, tokens = each.answered, backend.COMPLETION_TOKENS[case.model]
                total += Served(count, count * backend.PROMPT_TOKENS, count * tokens)
        return total
