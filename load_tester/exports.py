"""Runs as files, out and in: JSON of a versioned shape, CSV of requests, and the export of the older load tester."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from load_tester.engine.run import FORMAT, VERSION
from load_tester.errors import BadInput
from load_tester.measures.records import NANOSECONDS, Record
from load_tester.plan.cards import Card, read_card

ROW_COLUMNS = (
    "card",
    "number",
    "segment",
    "sent_seconds",
    "status",
    "ok",
    "class",
    "ttft_ms",
    "ttfo_ms",
    "e2e_ms",
    "e2e_star_ms",
    "tpot_ms",
    "queue_ms",
    "chunks",
    "input_tokens",
    "output_tokens",
    "token_source",
    "endpoint",
    "attempts",
    "failovers",
    "request_id",
    "detail",
)
MOST_IMPORT_BYTES = 64 * 1024 * 1024
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
# What a spreadsheet would take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def row(card: int, record: Record, begun_ns: int) -> list[Any]:
    """One request as a line of values, in the order of ROW_COLUMNS."""

    def ms(value: float | None) -> float | None:
        return None if value is None else round(value / 1e6, 3)

    return [
        card,
        record.number,
        record.segment,
        round((record.sent_ns - begun_ns) / NANOSECONDS, 6),
        record.status,
        record.ok,
        record.failure.value if record.failure else "",
        ms(record.ttft_ns),
        ms(record.ttfo_ns),
        ms(record.e2e_ns),
        ms(record.e2e_star_ns),
        ms(record.tpot_ns),
        ms(record.queue_ns),
        record.chunks,
        record.tokens_in,
        record.tokens_out,
        record.token_source.value,
        record.endpoint,
        record.attempts,
        record.failovers,
        record.request_id,
        record.detail,
    ]


def rows_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Requests as CSV (RFC 4180), with a line of names. Text that would be a formula is quoted away."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(ROW_COLUMNS)
    for each in rows:
        writer.writerow([_harmless(value) for value in each])
    return text.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def run_json(result: dict[str, Any]) -> bytes:
    """A run as a file."""
    return orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def read_run(data: bytes) -> dict[str, Any]:
    """A run from a file of this program or of the older load tester. Raises BadInput saying what was expected.

    An older file comes back with `format` "older": its cards' settings, and their figures as they were.
    """
    if len(data) > MOST_IMPORT_BYTES:
        raise BadInput("file", f"over {MOST_IMPORT_BYTES >> 20} MB")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadInput("file", f"not JSON: {error.msg}") from None
    if not isinstance(document, dict):
        raise BadInput("file", "expected a JSON object, as an export of the load tester is")
    if "ts" in document and isinstance(document.get("cards"), list) and "format" not in document:
        return _read_older(document)
    if document.get("format") != FORMAT:
        raise BadInput("file", f'expected "format": "{FORMAT}": this is not an exported run')
    version = document.get("version")
    if version != VERSION:
        raise BadInput(
            "file",
            f"version {version!r} of the format is not known here (version {VERSION} is): update, or export anew",
        )
    cards = document.get("cards")
    if not isinstance(cards, list) or not cards:
        raise BadInput("file", "the run has no cards: the file is damaged")
    # It becomes part of addresses and of file names.
    if not isinstance(document.get("id"), str) or _ID.fullmatch(document["id"]) is None:
        raise BadInput("file", "the run has no usable id: the file is damaged")
    for place, each in enumerate(cards):
        if not isinstance(each, dict):
            raise BadInput(f"file.cards.{place}", "expected an object")
        read_card(each.get("card"), f"file.cards.{place}.card")
    if document.get("state") == "running":
        document["state"] = "stopped"  # exported under way: nothing goes on here
    return document


def _read_older(document: dict[str, Any]) -> dict[str, Any]:
    cards = []
    for place, each in enumerate(document["cards"]):
        config = each.get("config") if isinstance(each, dict) else None
        if not isinstance(config, dict):
            raise BadInput(f"file.cards.{place}.config", "expected an object")
        card = card_from_older(config, f"file.cards.{place}.config")
        stats = each.get("stats")
        cards.append(
            {
                "card": card.model_dump(mode="json"),
                "stats": stats if isinstance(stats, dict) else {},
                "key_left_out": bool(config.get("key")),
            }
        )
    return {"format": "older", "ts": document["ts"], "cards": cards}


def card_from_older(config: dict[str, Any], place: str) -> Card:
    """A card of the older load tester in today's terms; its key is left out. Raises BadInput."""

    def number(name: str, default: float) -> float:
        value = config.get(name)
        if value is None or value == "":
            return default
        try:
            read = float(value)
        except (TypeError, ValueError):
            read = math.nan
        if not math.isfinite(read):
            raise BadInput(f"{place}.{name}", "expected a number")
        return read

    total, limit, delay = int(number("total", 50)), int(number("conc", 0)), number("delay", 0)
    if not total and not limit and not delay:
        limit = 1  # endless, at once and without limit: what it meant can only be a few at a time
    return read_card(
        {
            "url": str(config.get("url") or "http://localhost:4000/v1"),
            "model": str(config.get("model") or ""),
            "system_prompt": str(config.get("sysPrompt") or ""),
            "prompt": {"kind": "fixed", "text": str(config.get("prompt") or "Hello")},
            "load": {
                "kind": "batch",
                "batch": max(1, int(number("batch", 1))),
                "delay_ms": delay,
                "max_in_flight": limit,
            },
            "stop": {"requests": total},
            "max_tokens": int(number("maxTok", 60)),
            "temperature": number("temp", 0.7),
            "priority": int(number("priority", 0)),
            "stream": bool(config.get("stream", True)),
            "verify_tls": bool(config.get("sslVerify", False)),
            "unique_prefix": False,
        },
        place,
    )
