"""The figures as Markdown tables and as JSON, with what they were measured on."""

from __future__ import annotations

import json
import os
import platform
import timeit
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.subjects import Case, Figure, Subject

_HEAD = (
    "| load | proxy | CPU µs each | CPU, balancer = 1 | each/s | p50 ms | p99 ms | its core busy | PSS MB |\n"
    "|---|---|---|---|---|---|---|---|---|"
)

_SMALL = """
class Small:
    __slots__ = ("value",)
    def __init__(self, value): self.value = value
    def larger(self): return (self.value, self.value + 1)
"""


def table(subjects: Sequence[Subject], cases: Sequence[Case], reference: str) -> str:
    """Medians; CPU time with the lowest and highest round in parentheses. Of paced streams, "each" is an event."""
    rows = []
    for case in cases:
        measured = [subject for subject in subjects if subject.rounds.get(case)]
        own = next(subject for subject in measured if subject.name == reference)
        rows += [_row(case, subject, own.figures(case)["cpu_us"].median) for subject in measured]
    return "\n".join((_HEAD, *rows))


def _row(case: Case, subject: Subject, reference_us: float) -> str:
    figures = subject.figures(case)
    cells = [case.name, subject.name, "", ""]
    if subject.is_proxy:
        cells[2:] = [_spread(figures["cpu_us"]), f"{figures['cpu_us'].median / reference_us:.2f}"]
    cells += [f"{figures['per_second'].median:,.0f}"]
    cells += [f"{figures[name].median:,.2f}" for name in ("p50_ms", "p99_ms")]
    busy = [f"{figures['core_percent'].median:.0f} %", f"{figures['pss_mb'].median:,.0f}"]
    cells += busy if subject.is_proxy else ["", ""]
    return f"| {' | '.join(cells)} |"


def _spread(figure: Figure) -> str:
    digits = 0 if figure.median >= 100 else 1
    return f"{figure.median:,.{digits}f} ({figure.low:,.{digits}f}..{figure.high:,.{digits}f})"


def readiness(subjects: Sequence[Subject]) -> str:
    """How long each took from its start; the first start counts."""
    first = {subject.name: subject.program.ready_seconds for subject in reversed(subjects) if subject.is_proxy}
    told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in reversed(first.items()))
    return f"From start to ready: {told}."


def conditions(rounds: int, seconds: float) -> str:
    """What the figures hold for, in one sentence."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    machine = f"{next(models, platform.machine())}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    python = f"Python {platform.python_version()} ({_nanoseconds_an_object():.0f} ns an object)"
    return f"{machine}, {python}; {rounds} rounds of {seconds:g} s."


def _nanoseconds_an_object() -> float:
    """What a small object and a call of its method take, at best: by this, builds of Python tell apart."""
    objects = 50_000
    return 1e9 * min(timeit.repeat("Small(1).larger()", _SMALL, repeat=9, number=objects)) / objects


def write_json(file: Path, subjects: Sequence[Subject], where: str, remarks: Sequence[str]) -> None:
    """Every figure of every subject and case."""
    results = [
        {
            "load": case.name,
            "proxy": subject.name,
            **{name: asdict(figure) for name, figure in subject.figures(case).items()},
            "ready_seconds": subject.program.ready_seconds,
        }
        for subject in subjects
        for case, rounds in subject.rounds.items()
        if rounds
    ]
    document = {"conditions": where, "remarks": list(remarks), "results": results}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
