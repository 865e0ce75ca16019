"""Who is measured under which load, and the figures that come of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import uvloop

from benchmarks import backend
from benchmarks.balancer import Served
from benchmarks.load import Measured, request_bytes, run
from benchmarks.processes import Program


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load. `connections` 0: as many as were asked for."""

    name: str
    model: str
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity over all rounds."""

    median: float
    low: float
    high: float


FIGURES: Mapping[str, Callable[[Measured], float]] = {
    "cpu_us": lambda each: 1e6 * each.cpu_seconds / each.requests,
    "per_second": lambda each: each.requests / each.seconds,
    "p50_ms": lambda each: 1000 * each.p50_seconds,
    "p99_ms": lambda each: 1000 * each.p99_seconds,
    "core_percent": lambda each: 100 * each.cpu_seconds / each.seconds,
}


@dataclass(slots=True, eq=False)
class Subject:
    """A process that answers `/v1/chat/completions`, and all that was measured of it."""

    name: str
    program: Program
    client_token: str = "none"
    is_proxy: bool = True
    rounds: dict[Case, list[Measured]] = field(default_factory=dict)
    pss_bytes: dict[Case, int] = field(default_factory=dict)

    def measure(self, case: Case, connections: int, seconds: float) -> None:
        """One round of one case. Raises LoadError."""
        port = self.program.port
        request = request_bytes(port, case.model, self.client_token, stream=case.model != backend.JSON)
        load = run(port, request, case.connections or connections, seconds, self.program.cpu_seconds)
        self.rounds.setdefault(case, []).append(uvloop.run(load))
        self.pss_bytes[case] = self.program.pss_bytes()

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
