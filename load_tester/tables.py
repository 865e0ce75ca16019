"""A result as plain text, for terminals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_LATENCIES = ("ttft", "ttft_star", "ttfo", "tpot", "icl", "e2e", "e2e_star", "queue")
_NAMES = {
    "ttft": "TTFT",
    "ttft_star": "TTFT*",
    "ttfo": "TTFO",
    "tpot": "TPOT",
    "icl": "ICL",
    "e2e": "E2E",
    "e2e_star": "E2E*",
    "queue": "client queue",
}
_MARKS = {"ok": "ok  ", "note": "note", "warning": "WARN"}


def result_text(result: Mapping[str, Any]) -> str:
    """The whole result."""
    parts = [card_text(card, place) for place, card in enumerate(result["cards"])]
    if result.get("comparison"):
        parts.append(comparison_text(result["comparison"]))
    return "\n\n".join(parts) + "\n"


def card_text(outcome: Mapping[str, Any], place: int) -> str:
    """One card."""
    card = outcome["card"]
    lines = [f"{card['name'] or f'card {place + 1}'}: {card['url']} {card['model']}".rstrip()]
    if outcome["problem"]:
        lines.append(outcome["problem"])
    if outcome["summary"]:
        lines += _summary_lines(outcome["summary"])
    lines += _segment_lines(outcome)
    lines += [
        f"  SLO  {'pass' if each['met'] else 'FAIL'}  {each['name']} "
        f"{'>=' if each['at_least'] else '<='} {_figure(each['limit'])} {each['unit']}, "
        f"measured {_figure(each['actual'])}"
        for each in outcome["slo"]
    ]
    lines += [f"  {_MARKS[badge['level']]} {badge['text']}" for badge in outcome["badges"]]
    return "\n".join(lines)


def _summary_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = [
        f"  window {_figure(summary['window_seconds'])} s: {summary['ok']} ok, {summary['failed']} failed, "
        f"{summary['cancelled']} cut off; {_figure(summary['requests_per_second'])} req/s, "
        f"{_figure(summary['output_tokens_per_second'])} output tok/s, goodput {_figure(summary['goodput'])}/s; "
        f"in flight {_figure(summary['in_flight_mean'])} (peak {summary['in_flight_peak']})"
    ]
    table = [("ms", "mean", "p50", "p90", "p95", "p99", "max", "n")]
    for name in _LATENCIES:
        each = summary["latencies"][name]
        if each["n"]:
            figures = (_figure(each[column]) for column in ("mean", "p50", "p90", "p95", "p99", "max"))
            table.append((_NAMES[name], *figures, str(each["n"])))  # type: ignore[arg-type]
    lines += _aligned(table)
    if len(summary["endpoints"]) > 1 or any(each["endpoint"] for each in summary["endpoints"]):
        table = [("endpoint", "requests", "share", "failed", "failovers", "TTFT p50", "E2E p50", "")]
        table += [
            (
                each["endpoint"] or "(not named)",
                str(each["requests"]),
                f"{_figure(each['share_percent'])} %",
                str(each["failed"]),
                str(each["failovers"]),
                _figure(each["ttft"]["p50"]),
                _figure(each["e2e"]["p50"]),
                "",
            )
            for each in summary["endpoints"]
        ]
        lines += _aligned(table)
    lines += [f"  {each['count']} x {each['class']}: {each['sample']}" for each in summary["errors"][:10]]
    return lines


def _segment_lines(outcome: Mapping[str, Any]) -> list[str]:
    segments = outcome["segments"]
    if not segments:
        return []
    table = [("step", "req/s", "tok/s", "TTFT p95", "E2E p50", "E2E p95", "errors", "SLO")]
    for segment in segments:
        summary = segment["summary"]
        met = segment["slo_met"]
        table.append(
            (
                segment["label"],
                _figure(summary["requests_per_second"]),
                _figure(summary["output_tokens_per_second"]),
                _figure(summary["latencies"]["ttft"]["p95"]),
                _figure(summary["latencies"]["e2e"]["p50"]),
                _figure(summary["latencies"]["e2e"]["p95"]),
                f"{_figure(summary['error_percent'])} %",
                "-" if met is None else "pass" if met else "FAIL",
            )
        )
    lines = _aligned(table)
    sweep = outcome.get("sweep")
    if sweep and sweep["knee"]:
        lines.append(f"  knee: {sweep['knee']['label']}")
        if outcome["card"]["slo"]:
            largest = sweep["largest_meeting_slo"]
            lines.append(f"  largest that meets the SLO: {largest['label'] if largest else 'none'}")
        suggestion = sweep["suggestion"]
        lines.append(f"  suggested max_concurrent: {suggestion['max_concurrent']} ({suggestion['words']})")
    return lines


def comparison_text(comparison: Mapping[str, Any]) -> str:
    """What the second card of a pair costs over the first."""
    lines = [f"second card against the first, {comparison['pairs']} pairs:"]
    for name in ("ttft", "e2e", "tpot", "tokens_per_second"):
        each = comparison[name]
        if each["mean"] is None:
            continue
        interval = (
            ""
            if each["mean_low"] is None
            else f" (95 % interval {_figure(each['mean_low'])} to {_figure(each['mean_high'])})"
        )
        lines.append(f"  {_NAMES.get(name, 'tok/s per request')}: {_figure(each['mean'])} {each['unit']}{interval}")
    return "\n".join(lines)


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  " + _joined(cells, widths).rstrip() for cells in table]


def _joined(cells: Iterable[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.ljust(width) if place == 0 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join((first, *rest))


def _figure(value: float | None) -> str:
    """Three or so significant digits."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
