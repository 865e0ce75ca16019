"""Runs as files, out and in."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from load_tester.errors import BadInput
from load_tester.exports import ROW_COLUMNS, read_run, row, rows_csv, run_json
from load_tester.measures.records import Failure
from load_tester.report import figure, report_html, script_json
from load_tester.tables import result_text
from tests.fakes import FakeServer
from tests.load_parts import answered, load, prepared


async def result(**fields: Any) -> dict[str, Any]:
    async with FakeServer() as backend:
        run = await load(backend, slo={"ttft_p95": "5s", "e2e_p50": "0.001ms"}, **fields)
    return run.result()


async def test_a_run_goes_out_and_comes_back() -> None:
    made = await result()
    assert read_run(run_json(made)) == json.loads(run_json(made))


async def test_a_run_that_was_exported_under_way_comes_back_as_one_that_is_over() -> None:
    unfinished = {**await result(), "state": "running", "ended_at": None}
    assert read_run(run_json(unfinished))["state"] == "stopped"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"{", "not JSON"),
        (b"[]", "JSON object"),
        (b"{}", '"format"'),
        (b'{"format": "llm-load-tester run", "version": 2}', "version 2 .* not known"),
        (b'{"format": "llm-load-tester run", "version": 1, "id": "a", "cards": []}', "damaged"),
        (b'{"format": "llm-load-tester run", "version": 1, "id": "a", "cards": [{"card": {"url": 3}}]}', "url"),
        (b'{"format": "llm-load-tester run", "version": 1, "id": "a\\r\\nb: c", "cards": [{"card": {}}]}', "usable id"),
        (b'{"ts": 1, "cards": [{"stats": {}}]}', "config"),
        (b'{"ts": 1, "cards": [{"config": {"total": "many"}}]}', "total: expected a number"),
        (b'{"ts": 1, "cards": [{"config": {"total": "Infinity"}}]}', "total: expected a number"),
        (b'{"ts": 1, "cards": [{"config": {"conc": "nan"}}]}', "conc: expected a number"),
    ],
)
def test_what_is_no_run_is_refused_with_a_reason(data: bytes, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        read_run(data)


def test_an_export_of_the_older_load_tester_is_read_without_its_key() -> None:
    config = {
        "url": "http://localhost:4000/v1",
        "key": "sk-secret",
        "model": "m",
        "sysPrompt": "Be brief.",
        "prompt": "Hello",
        "batch": 2,
        "delay": 100,
        "total": 50,
        "conc": 8,
        "maxTok": 60,
        "temp": 0.7,
        "priority": 0,
        "stream": True,
        "sslVerify": False,
    }
    found = read_run(json.dumps({"ts": 1700000000000, "cards": [{"config": config, "stats": {"ok": 50}}]}).encode())
    (card,) = found["cards"]
    assert card["key_left_out"] and "sk-secret" not in json.dumps(found)
    assert card["stats"] == {"ok": 50}
    assert card["card"]["load"] == {"kind": "batch", "batch": 2, "delay_ms": 100.0, "max_in_flight": 8}
    assert card["card"]["stop"]["requests"] == 50
    assert (card["card"]["max_tokens"], card["card"]["priority"], card["card"]["verify_tls"]) == (60, 0, False)
    endless = read_run(
        json.dumps({"ts": 1, "cards": [{"config": {**config, "total": 0, "conc": 0, "delay": 0}}]}).encode()
    )
    assert endless["cards"][0]["card"]["load"]["max_in_flight"] == 1


def test_csv_has_a_line_for_each_request_and_no_formulas() -> None:
    bad = answered(1, failure=Failure.STATUS_5XX, detail='=HYPERLINK("http://x"), "quoted"\nline')
    text = rows_csv([row(0, answered(), 1000_000_000), row(0, bad, 1000_000_000)])
    header, good, failed = list(csv.reader(io.StringIO(text)))
    assert tuple(header) == ROW_COLUMNS
    named = dict(zip(header, good, strict=True))
    assert (named["ttft_ms"], named["e2e_ms"], named["output_tokens"], named["ok"]) == ("100.0", "140.0", "5", "True")
    assert failed[-1].startswith("'=HYPERLINK")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


async def test_the_report_stands_alone_and_nothing_in_it_is_markup() -> None:
    evil = "</script><img src=x onerror=alert(1)><!--"
    made = await result(name=evil)
    made["notes"] = evil
    page = report_html(made)
    tags = _Tags()
    tags.feed(page)
    assert not [tag for tag, _ in tags.seen if tag in ("img", "link", "iframe")]
    assert [attributes for tag, attributes in tags.seen if tag == "script"] == [
        {"type": "application/json", "id": "run"}
    ]
    assert not [value for _, attributes in tags.seen for key, value in attributes.items() if key in ("src", "href")]
    data = re.search(r'id="run">(.*?)</script>', page, re.DOTALL)
    assert data is not None and json.loads(data[1])["notes"] == evil
    assert "missed" in page and "TTFT" in page and "nearest rank" in page


def test_json_in_a_script_cannot_end_it() -> None:
    text = script_json({"a": "</script><!-- \u2028 &"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!-- \u2028 &"}


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (1234.5, "1,234"), (12.34, "12.3"), (0.125, "0.12"), (7, "7")]
)
def test_figures(value: float | None, shown: str) -> None:
    assert figure(value) == shown


async def test_the_table_for_terminals() -> None:
    text = result_text(await result())
    assert re.search(r"TTFT +[\d.]+ +[\d.]+", text)
    assert "SLO  pass  ttft_p95 <= 5,000 ms" in text and "SLO  FAIL  e2e_p50" in text
    async with FakeServer() as backend:
        card = {"url": backend.base_url, "load": {"kind": "sweep", "most": 2, "step_seconds": 0.5}}
        run = await prepared(card)
        await run.run()
    assert "suggested max_concurrent" in result_text(run.result())
    assert "2 users" in report_html(run.result())
