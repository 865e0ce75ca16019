"""What a reader must know before trusting the figures, each in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from load_tester.measures.samples import FEW

LAG_MS = 10.0
LOOP_LAG_MS = 5.0
CPU_PERCENT = 90.0
LITTLE_PERCENT = 5.0
SHORTFALL_PERCENT = 5.0
FAILED_PERCENT = 1.0


class Badge(TypedDict):
    """`level` is ok, note or warning; `id` never changes, `text` is for people."""

    id: str
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the badges are judged by, beside the summary. `limit_in_flight`: the limit that was reached, else 0."""

    open_loop: bool
    planned: int
    sent: int
    limit_in_flight: int
    loop_lag_p99_ms: float | None
    cpu_percent: float | None
    changed: bool = False
    interrupted: bool = False
    streaming: bool = True


def badges(summary: Mapping[str, Any], evidence: Evidence) -> list[Badge]:
    """All that apply."""
    found: list[Badge] = []
    if evidence.open_loop:
        found += _schedule(summary, evidence)
    found += _little(summary)
    found += _generator(evidence)
    found += _tokens(summary)
    found += _failures(summary)
    n = summary["ok"]
    if n < FEW:
        found.append(_note("few_samples", f"Only {n} answers: the 99th percentile is a guess, the 95th a rough one."))
    if summary["cancelled"]:
        found.append(
            _warning(
                "cut_off",
                f"{summary['cancelled']} requests were still unanswered at the end: they were slower than anything "
                "shown here.",
            )
        )
    if evidence.changed:
        found.append(_note("changed", "The load was changed during the run: these figures mix both."))
    if evidence.interrupted:
        found.append(_note("interrupted", "The run was ended before its plan was."))
    return found


def _schedule(summary: Mapping[str, Any], evidence: Evidence) -> list[Badge]:
    found: list[Badge] = []
    missing = 100 * (evidence.planned - evidence.sent) / evidence.planned if evidence.planned else 0.0
    if missing > SHORTFALL_PERCENT:
        why = (
            f"the limit of {evidence.limit_in_flight} in flight held requests back"
            if evidence.limit_in_flight
            else "this machine could not send faster"
        )
        found.append(_warning("rate_not_reached", f"{missing:.0f} % of the planned requests were never sent: {why}."))
    lag = summary["latencies"]["queue"]["p99"]
    if lag is not None and lag > LAG_MS:
        found.append(
            _warning(
                "schedule_lag",
                f"Requests left up to {lag:.0f} ms (p99) after their time: read TTFT* and E2E*, which count from the "
                "plan.",
            )
        )
    elif lag is not None:
        found.append(_ok("schedule_lag", f"Requests left within {lag:.1f} ms (p99) of their time."))
    return found


def _failures(summary: Mapping[str, Any]) -> list[Badge]:
    failed, percent = summary["failed"], summary["error_percent"]
    if not failed:
        return []
    text = f"{failed} of {failed + summary['ok']} requests failed: latencies are those of the others alone."
    return [_warning("failures", text) if percent > FAILED_PERCENT else _note("failures", text)]


def _little(summary: Mapping[str, Any]) -> list[Badge]:
    gap = summary["littles_law_gap_percent"]
    if gap is None:
        return []
    if gap > LITTLE_PERCENT:
        text = f"In flight and throughput x latency differ by {gap:.0f} %: the window is too short, or not steady."
        return [_warning("littles_law", text)]
    return [_ok("littles_law", f"In flight and throughput x latency agree within {gap:.1f} %.")]


def _generator(evidence: Evidence) -> list[Badge]:
    lag, cpu = evidence.loop_lag_p99_ms, evidence.cpu_percent
    reasons = []
    if lag is not None and lag > LOOP_LAG_MS:
        reasons.append(f"its event loop was late by {lag:.0f} ms (p99)")
    if cpu is not None and cpu > CPU_PERCENT:
        reasons.append(f"it used {cpu:.0f} % of a core")
    if reasons:
        text = "The load tester itself was held up: " + " and ".join(reasons) + ". The target may be faster than this."
        return [_warning("generator_limited", text)]
    if lag is None or cpu is None:
        return []
    return [_ok("generator_limited", f"The load tester had room: {cpu:.0f} % of a core, loop lag {lag:.1f} ms (p99).")]


def _tokens(summary: Mapping[str, Any]) -> list[Badge]:
    sources = summary["token_sources"]
    total = sum(sources.values())
    if not total:
        return []
    if sources.get("usage", 0) == total:
        return [_ok("token_source", "Tokens are those the target reported.")]
    if sources.get("none", 0) == total:
        return [_warning("token_source", "The target reported no tokens: figures in tokens are missing.")]
    counted = total - sources.get("usage", 0)
    text = f"{counted} of {total} answers came without a token count: their chunks were counted instead."
    return [_warning("token_source", text)]


def _ok(name: str, text: str) -> Badge:
    return {"id": name, "level": "ok", "text": text}


def _note(name: str, text: str) -> Badge:
    return {"id": name, "level": "note", "text": text}


def _warning(name: str, text: str) -> Badge:
    return {"id": name, "level": "warning", "text": text}
