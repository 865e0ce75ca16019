"""Small questions to a target before any load: which models it serves, and whether one request works."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import orjson

from balancer.core.errors import ProtocolError, UpstreamError
from balancer.upstream.targets import Target
from load_tester.engine.answers import error_text, not_an_answer
from load_tester.engine.connections import ConnectionPool
from load_tester.engine.exchange import Exchange
from load_tester.engine.outlet import body_fields
from load_tester.measures.records import FAILURE_WORDS, NANOSECONDS, Record
from load_tester.measures.series import Series
from load_tester.plan.cards import Card
from load_tester.plan.prompts import Line, Prompts, Shape

_MOST_MODELS = 10_000
_TIMEOUT_SECONDS = 10.0
_MOST_BYTES = 16 * 1024 * 1024
# A target that goes on and on is not to keep whoever asks.
_LONGEST_SECONDS = 30.0


async def list_models(card: Card, target: Target, key: str) -> dict[str, Any]:
    """`ok`, `models`, `status`, `seconds` and, where it failed, `detail` in words."""
    pool = ConnectionPool(target, key=key, verify_tls=card.verify_tls)
    began = time.perf_counter()
    answer: dict[str, Any] = {"ok": False, "models": [], "status": 0, "detail": ""}
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            answer["status"], body = await _get_models(pool, min(card.timeout_seconds, _TIMEOUT_SECONDS))
        answer["models"], answer["detail"] = _models(answer["status"], body)
        answer["ok"] = not answer["detail"]
    except UpstreamError as error:
        answer["detail"] = str(error)
    except TimeoutError:
        answer["detail"] = f"the answer did not end within {_LONGEST_SECONDS:g} s"
    finally:
        await pool.close()
    answer["detail"] = pool.without_key(answer["detail"])
    answer["seconds"] = time.perf_counter() - began
    return answer


async def _get_models(pool: ConnectionPool, timeout_seconds: float) -> tuple[int, bytes]:
    """Status and body. Raises UpstreamError."""
    connection = await pool.connect()
    head = pool.head(b"GET", b"/models", b"accept: application/json\r\nuser-agent: llm-load-tester\r\n", 0)
    response = connection.start(head, b"", timeout_seconds)
    await connection.news(None)
    if not response.status:
        raise connection.failure()
    body = bytearray()
    while data := await response.read():
        body += data
        if len(body) > _MOST_BYTES:
            raise ProtocolError(f"the list of models is longer than {_MOST_BYTES >> 20} MB")
    response.close()
    return response.status, bytes(body)


def _models(status: int, body: bytes) -> tuple[list[str], str]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return [], f"answered {status} with {not_an_answer(body) if body.strip() else 'an empty body'}"
    if status != 200:
        return [], f"answered {status}: {error_text(document) if isinstance(document, dict) else document}"
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        return [], "answered 200, but not with a list of models"
    names = [each["id"] for each in data[:_MOST_MODELS] if isinstance(each, dict) and isinstance(each.get("id"), str)]
    return names, ""


async def try_once(card: Card, target: Target, key: str, lines: Sequence[Line] = ()) -> dict[str, Any]:
    """One request of the card: what came of it, with the exact error and what it means."""
    pool = ConnectionPool(target, key=key, verify_tls=card.verify_tls)
    shape = Shape(
        card.prompt,
        card.system_prompt,
        card.unique_prefix,
        card.shared_prefix_tokens,
        card.shared_prefix_groups,
        card.max_tokens,
        card.seed,
        "try",
        lines,
    )
    messages, max_tokens = Prompts(shape).request(0)
    exchange = Exchange(pool, Series())
    record = Record(0, sent_ns=time.perf_counter_ns(), request_id="lt-try")
    body = exchange.body({**body_fields(card), "messages": messages}, max_tokens)
    try:
        await exchange.perform(record, body, stream=card.stream, timeout_seconds=card.timeout_seconds)
    finally:
        await pool.close()
    return {
        "ok": record.ok,
        "status": record.status,
        "class": record.failure.value if record.failure else "",
        "meaning": FAILURE_WORDS[record.failure] if record.failure else "",
        "detail": record.detail,
        "advice": _advice(record),
        "ttft_ms": record.ttft_ns / 1e6 if record.ttft_ns is not None else None,
        "e2e_ms": record.e2e_ns / 1e6 if record.e2e_ns is not None else None,
        "seconds": (record.ended_ns - record.sent_ns) / NANOSECONDS,
        "input_tokens": record.tokens_in,
        "output_tokens": record.tokens_out,
        "token_source": record.token_source.value,
        "endpoint": record.endpoint,
        "request_id": record.request_id,
        "limit_headers": exchange.limits,
    }


def _advice(record: Record) -> str:
    """What to do about it, for the mistakes that are made most."""
    if record.ok:
        return ""
    by_status = {
        401: "check the API key: for the balancer it is one of its client tokens",
        403: "the key is known but may not do this",
        404: "check the model's name (the list of models shows what there is) and the base URL",
        400: "the target does not take this request as it is: its text says which field",
        429: "it is at its limit: lower the load, or raise max_concurrent",
    }
    if record.status in by_status:
        return by_status[record.status]
    by_failure = {
        "connect": "check host and port, and that something listens there",
        "tls": "check the certificate, or switch its verification off for a test",
        "timeout_connect": "check host and port; a firewall may be dropping the packets",
        "timeout_first_byte": "raise the timeout, or see whether the target is stuck",
        "not_an_answer": "check the base URL: it usually ends in /v1",
        "empty": "raise max_tokens: a reasoning model may have used them all up",
        "3xx": "use the address that it redirects to",
    }
    return by_failure.get(record.failure.value if record.failure else "", "")
