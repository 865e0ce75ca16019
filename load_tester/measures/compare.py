"""Two runs side by side: every headline figure with its difference, and whether that is better or worse. Pure."""

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
