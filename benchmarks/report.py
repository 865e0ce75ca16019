"""The figures as a Markdown table and as JSON, with what they were measured on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.subjects import Case, Figure, Subject

_HEAD = (
    "| load | proxy | CPU µs each | CPU, balancer = 1 | each/s | p50 ms | p99 ms | its core busy | PSS MB |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def table(subjects: Sequence[Subject], reference: Subject) -> str:
    """Medians; CPU time with the lowest and highest round in parentheses."""
    rows = [_row(case, subject, reference) for case in reference.rounds for subject in subjects]
    return "\n".join((_HEAD, *rows))


def _row(case: Case, subject: Subject, reference: Subject) -> str:
    figures = subject.figures(case)
    cpu = ratio = busy = pss = ""
    if subject.is_proxy:
        spent = figures["cpu_us"]
        cpu = _spread(spent)
        ratio = f"{spent.median / reference.figures(case)['cpu_us'].median:.1f}"
        busy = f"{figures['core_percent'].median:.0f} %"
        pss = f"{subject.pss_bytes[case] / 1e6:.0f}"
    speed = f"{figures['per_second'].median:,.0f}"
    latencies = f"{figures['p50_ms'].median:.2f} | {figures['p99_ms'].median:.2f}"
    return f"| {case.name} | {subject.name} | {cpu} | {ratio} | {speed} | {latencies} | {busy} | {pss} |"


def _spread(figure: Figure) -> str:
    return f"{figure.median:,.0f} ({figure.low:,.0f}..{figure.high:,.0f})"


def conditions(connections: int, rounds: int, seconds: float) -> str:
    """What the figures hold for, in one sentence."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    machine = f"{next(models, platform.machine())}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    return (
        f"{machine}, Python {platform.python_version()}; {connections} connections where not said otherwise, "
        f"{rounds} rounds of {seconds:g} s."
    )


def write_json(file: Path, subjects: Sequence[Subject], where: str, accounting: str) -> None:
    """Every figure of every subject and case."""
    results = [
        {
            "load": case.name,
            "proxy": subject.name,
            **{name: asdict(figure) for name, figure in subject.figures(case).items()},
            "pss_bytes": subject.pss_bytes[case],
        }
        for subject in subjects
        for case in subject.rounds
    ]
    document = {"conditions": where, "accounting": accounting, "results": results}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
