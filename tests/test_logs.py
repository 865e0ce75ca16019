"""Log lines: for people, or one JSON object each with its fields."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from balancer.logs import JsonFormatter, configure


@pytest.fixture
def _root() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def record(words: str, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("balancer.test").makeRecord(
        "balancer.test", logging.INFO, "file.py", 1, words, arguments, None, extra=extra
    )
    made.created = 1_800_000_000.25
    return made


def test_json_is_one_object_a_line_with_the_fields() -> None:
    line = JsonFormatter().format(record("said\n%s", "ü", fields={"request_id": "req-1", "status": 502}))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.250+00:00",
        "level": "info",
        "logger": "balancer.test",
        "message": "said\nü",
        "request_id": "req-1",
        "status": 502,
    }
    assert json.loads(JsonFormatter().format(record("plain")))["message"] == "plain"


def test_a_traceback_is_a_field() -> None:
    try:
        raise ValueError("what went wrong")
    except ValueError:
        made = record("it broke")
        made.exc_info = sys.exc_info()
    entry = json.loads(JsonFormatter().format(made))
    assert "what went wrong" in entry["traceback"]


@pytest.mark.usefixtures("_root")
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_both_ways_go_to_standard_error(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO", log_format)
    logging.getLogger("balancer.test").info("hello", extra={"fields": {"request_id": "req-1"}})
    logging.getLogger("httpx").info("every request")
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert (json.loads(err)["request_id"] == "req-1") if log_format == "json" else err.endswith(": hello\n")
