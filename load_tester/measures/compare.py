"""Two cards side by side: every headline figure with its difference, and whether that is better or worse. Pure.

Of two sweeps what they found is compared; of sweeps and stages also the steps that both took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LATENCIES = ("ttft", "ttft_star", "tpot", "icl", "e2e", "e2e_star")
_STATISTICS = ("mean", "p50", "p95", "p99")
# Key, unit, and whether more is better; None: neither.
_SCALARS: Sequence[tuple[str, str, bool | None]] = (
    ("requests_per_second", "1/s", True),
    ("output_tokens_per_second", "tok/s", True),
    ("goodput", "1/s", True),
    ("good_percent", "%", True),
    ("error_percent", "%", False),
    ("ok", "", None),
    ("in_flight_mean", "", None),
)


def compare_outcomes(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any] | None:
    """`lines`, and `steps` with lines of their own; None where two cards have no figure in common."""
    one, two = first["summary"], second["summary"]
    lines = compare_summaries(one, two) if one and two else _compare_findings(first, second)
    steps = _compare_steps(first, second) if bool(one) == bool(two) else []
    if not lines and not steps:
        return None
    return {"first": first["card"], "second": second["card"], "lines": lines, "steps": steps}


def _compare_steps(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Steps of the same label and level: those of a sweep by level, stages as they came."""
    others = {_step(each): each["summary"] for each in second["segments"]}
    both = [each for each in first["segments"] if _step(each) in others]
    if first["sweep"]:
        both.sort(key=lambda each: (each["of"], each["level"]))
    return [
        {
            "label": each["label"],
            "of": each["of"],
            "level": each["level"],
            "lines": compare_summaries(each["summary"], others[_step(each)]),
        }
        for each in both
    ]


def _step(segment: Mapping[str, Any]) -> tuple[str, str, float]:
    return segment["label"], segment["of"], segment["level"]


def _compare_findings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What two sweeps of the same kind found: the knee, the largest step within the objectives, the suggestion."""
    one, two = first["sweep"], second["sweep"]
    if not one or not two or one["of"] != two["of"]:
        return []
    unit = "users" if one["of"] == "concurrency" else "req/s"
    lines = []
    if one["knee"] and two["knee"]:
        a, b = one["knee"], two["knee"]
        lines.append(_line("knee_level", "", unit, a["level"], b["level"], True))
        lines.append(_line("knee_throughput", "", "1/s", a["throughput"], b["throughput"], True))
        lines.append(_line("knee_e2e", "", "ms", a["e2e_mean_ms"], b["e2e_mean_ms"], False))
    if first["card"]["slo"] and second["card"]["slo"] and one["largest_meeting_slo"] and two["largest_meeting_slo"]:
        a, b = one["largest_meeting_slo"], two["largest_meeting_slo"]
        lines.append(_line("slo_level", "", unit, a["level"], b["level"], True))
    if one["suggestion"] and two["suggestion"]:
        a, b = one["suggestion"], two["suggestion"]
        lines.append(_line("max_concurrent", "", "", a["max_concurrent"], b["max_concurrent"], None))
    return lines


def compare_summaries(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line for each figure that both have: `delta` is second minus first, `better` null where it means nothing."""
    lines = [
        _line(key, "", unit, first.get(key), second.get(key), more_is_better) for key, unit, more_is_better in _SCALARS
    ]
    for name in _LATENCIES:
        one, two = first["latencies"][name], second["latencies"][name]
        lines += [_line(name, each, "ms", one[each], two[each], False) for each in _STATISTICS]
    return [line for line in lines if line["first"] is not None and line["second"] is not None]


def _line(
    metric: str, statistic: str, unit: str, first: float | None, second: float | None, more_is_better: bool | None
) -> dict[str, Any]:
    delta = None if first is None or second is None else second - first
    better = None
    if delta and more_is_better is not None:
        better = (delta > 0) == more_is_better
    return {
        "metric": metric,
        "statistic": statistic,
        "unit": unit,
        "first": first,
        "second": second,
        "delta": delta,
        "delta_percent": 100 * delta / first if delta is not None and first else None,
        "better": better,
    }
