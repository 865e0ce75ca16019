"""Service level objectives: read, held against results, held against single requests. Pure.

`ttft_p95=500ms`: the 95th percentile of TTFT must not exceed 500 ms. The same limit decides for each request whether it
is a good one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from load_tester.errors import BadInput
from load_tester.measures.records import Record

LATENCIES = ("ttft", "ttft_star", "ttfo", "e2e", "e2e_star", "tpot", "icl", "queue")
STATISTICS = ("p50", "p90", "p95", "p99", "p99_9", "mean", "min", "max")
# Larger is better in all of these but the first.
SCALARS = ("error_percent", "good_percent", "goodput", "requests_per_second", "output_tokens_per_second")
_NAME = re.compile(rf"({'|'.join(sorted(LATENCIES, key=len, reverse=True))})(?:_({'|'.join(reversed(STATISTICS))}))?")
_LIMIT = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(us|µs|ms|s|%|)")
_MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "": 1.0}
_STATISTIC_BY_DEFAULT = "p95"


@dataclass(frozen=True, slots=True)
class Objective:
    """One of them. Latencies are in milliseconds; `at_least`: the value must not fall below the limit."""

    name: str
    metric: str
    statistic: str
    limit: float
    at_least: bool = False


class Verdict(TypedDict):
    """An objective and what came of it; `met` is null where nothing was measured."""

    name: str
    metric: str
    statistic: str
    limit: float
    at_least: bool
    unit: str
    actual: float | None
    met: bool | None


def parse_slo(name: str, limit: str | float) -> Objective:
    """One objective. Raises BadInput saying what is known."""
    text = str(limit).strip().lstrip("<>=≤≥ ")
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise BadInput(f"slo.{name}", f"{limit!r} is no limit: expected a number with ms, s or %, such as 500ms")
    number, unit = float(found[1]), found[2]
    if name in SCALARS:
        if unit not in ("", "%"):
            raise BadInput(f"slo.{name}", f"{limit!r}: expected a plain number")
        return Objective(name, name, "", number, at_least=name != "error_percent")
    latency = _NAME.fullmatch(name)
    if latency is None:
        raise BadInput(
            f"slo.{name}",
            f"not known: expected one of {', '.join(LATENCIES)} with _{', _'.join(STATISTICS)}, "
            f"or {', '.join(SCALARS)}",
        )
    if unit == "%":
        raise BadInput(f"slo.{name}", f"{limit!r}: expected a duration such as 500ms")
    return Objective(name, latency[1], latency[2] or _STATISTIC_BY_DEFAULT, number * _MILLISECONDS[unit])


def parse_slos(slos: Mapping[str, str | float]) -> tuple[Objective, ...]:
    """All of them. Raises BadInput."""
    return tuple(parse_slo(name, limit) for name, limit in slos.items())


def verdicts(objectives: Sequence[Objective], summary: Mapping[str, Any]) -> list[Verdict]:
    """What a summary says to each. Nothing answered at all meets nothing."""
    return [_verdict(each, summary) for each in objectives]


def _verdict(objective: Objective, summary: Mapping[str, Any]) -> Verdict:
    if objective.statistic:
        distribution = summary["latencies"][objective.metric]
        actual, unit = distribution[objective.statistic], "ms"
        if objective.statistic == "p99_9" and actual is None and distribution["n"]:
            actual = distribution["max"]  # the upper bound that few samples give
    else:
        actual = summary[objective.metric]
        unit = "%" if objective.metric.endswith("percent") else "/s"
    met = None
    if actual is not None:
        met = actual >= objective.limit if objective.at_least else actual <= objective.limit
    return {
        "name": objective.name,
        "metric": objective.metric,
        "statistic": objective.statistic,
        "limit": objective.limit,
        "at_least": objective.at_least,
        "unit": unit,
        "actual": actual,
        "met": met,
    }


def all_met(judged: Sequence[Verdict]) -> bool:
    """Whether every objective is met; one without a measurement is not."""
    return all(each["met"] for each in judged)


class GoodRequests:
    """Decides for a single request whether it meets every objective that can be held against one."""

    __slots__ = ("_limits",)

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._limits = [
            (f"{each.metric}_ns", each.limit * 1e6) for each in objectives if each.statistic and each.metric != "icl"
        ]

    def __call__(self, record: Record) -> bool:
        """An answered request within every limit; a figure that it does not have breaks none."""
        if not record.ok:
            return False
        for attribute, limit_ns in self._limits:
            value = getattr(record, attribute)
            if value is not None and value > limit_ns:
                return False
        return True
