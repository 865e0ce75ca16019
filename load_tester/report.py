"""A run as one HTML file that needs nothing else: figures, charts, definitions, and the run itself as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, select_autoescape

from load_tester.measures.definitions import definitions

_LEFT, _RIGHT, _TOP, _BOTTOM = 36.0, 316.0, 8.0, 104.0
_MOST_POINTS = 400
_LATENCIES = (
    ("ttft", "TTFT"),
    ("ttft_star", "TTFT*"),
    ("ttfo", "TTFO"),
    ("tpot", "TPOT"),
    ("icl", "ICL"),
    ("e2e", "E2E"),
    ("e2e_star", "E2E*"),
    ("queue", "Client queue time"),
)
# Title, and the columns that are drawn: the first as a whole line, the second as a dashed one.
_CHARTS = (
    ("Output tokens/s", ("output_tokens_per_second",)),
    ("Answered requests/s (dashed: sent)", ("ok_per_second", "offered_per_second")),
    ("In flight", ("in_flight",)),
    ("TTFT p50, ms (dashed: p95)", ("ttft_p50_ms", "ttft_p95_ms")),
    ("Failed requests/s", ("failed_per_second",)),
)


def report_html(result: Mapping[str, Any]) -> str:
    """The report of a run."""
    environment = Environment(loader=PackageLoader("load_tester"), autoescape=select_autoescape(("html",)))
    environment.filters["figure"] = figure
    run = {**result, "cards": [{**card, "charts": charts(card["series"])} for card in result["cards"]]}
    return environment.get_template("report.html").render(
        run=run, latencies=_LATENCIES, definitions=definitions(), data=script_json(result)
    )


def script_json(value: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element: nothing in it ends the element or begins a comment."""
    text = orjson.dumps(value).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def figure(value: float | None) -> str:
    """A number with about three significant digits; a dash for none."""
    if value is None:
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def charts(series: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lines ready to be drawn; of very long runs every n-th point."""
    rows = series["rows"]
    if len(rows) < 2:
        return []
    rows = rows[:: max(1, len(rows) // _MOST_POINTS)]
    places = {name: place for place, name in enumerate(series["columns"])}
    return [_chart(title, [places[name] for name in names], rows) for title, names in _CHARTS]


def _chart(title: str, columns: Sequence[int], rows: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    seconds = rows[-1][0] or 1.0
    top = max((value for row in rows for column in columns if (value := row[column]) is not None), default=0.0)
    lines = [
        {"style": "ab"[place], "runs": _runs(column, rows, seconds, top or 1.0)} for place, column in enumerate(columns)
    ]
    return {"title": title, "top": top, "seconds": seconds, "lines": lines}


def _runs(column: int, rows: Sequence[Sequence[float | None]], seconds: float, top: float) -> list[str]:
    """Stretches without gaps, each as the points of a polyline."""
    runs: list[list[str]] = [[]]
    for row in rows:
        value = row[column]
        if value is None:
            runs.append([])
            continue
        x = _LEFT + (_RIGHT - _LEFT) * (row[0] or 0.0) / seconds
        y = _BOTTOM - (_BOTTOM - _TOP) * value / top
        runs[-1].append(f"{x:.1f},{y:.1f}")
    return [" ".join(points) for points in runs if points]
