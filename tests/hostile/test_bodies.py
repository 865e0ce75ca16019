"""Bodies that are small to send and dear to read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.errors import InvalidRequest
from balancer.wire.json_text import is_elaborate
from balancer.wire.openai import OPERATIONS, parse
from tests.fakes import FakeServer
from tests.running import RunningGateway, wired

CHAT = OPERATIONS["/v1/chat/completions"]
MILLION = 1_000_000
# The machine may be busy; what these took to decode was more than all of this.
BEARABLE_SECONDS = 2.0

# Made when they are needed: each has up to 40 MB.
DEAR: dict[str, Callable[[], bytes]] = {
    "arrays": lambda: b'{"model":"m","messages":[' + b"[]," * 8 * MILLION + b"[]]}",
    "objects": lambda: b'{"model":"m","messages":[' + b"{}," * 8 * MILLION + b"{}]}",
    "members": lambda: b"{" + b",".join(b'"k%d":1' % number for number in range(2 * MILLION)) + b"}",
    "strings": lambda: b'{"x":[' + b'"",' * 8 * MILLION + b'""]}',
    "strings of brackets": lambda: b'{"x":[' + b'"[{",' * 5 * MILLION + b'""]}',
    "numbers": lambda: b'{"x":[' + b"1.5," * 7 * MILLION + b"1]}",
    "what orjson does not take": lambda: b'{"x":NaN,"y":[' + b"[]," * 8 * MILLION + b"[]]}",
    "quotes without an end": lambda: b'{"x":"' + b'\\"' * 15 * MILLION,
    "open brackets": lambda: b"[" * 30 * MILLION,
}


@pytest.mark.parametrize("kind", DEAR)
def test_what_is_dear_is_refused_before_it_is_decoded(kind: str) -> None:
    body = DEAR[kind]()
    began = time.process_time()
    with pytest.raises(InvalidRequest) as refused:
        parse(body, CHAT)
    assert time.process_time() - began < BEARABLE_SECONDS
    assert refused.value.status == (400 if kind == "quotes without an end" else 413)


@pytest.mark.parametrize(
    "document",
    [
        {"model": "m", "messages": [{"role": "user", "content": "hi"}] * 90_000},
        {"model": "m", "messages": [{"role": "user", "content": 'if (a[0]) { say("hi, you"); }\n' * MILLION}]},
        {"model": "m", "input": [[number % 50_000 for number in range(8_000)]] * 200},
    ],
)
def test_what_people_send_is_read(document: dict[str, Any]) -> None:
    assert parse(json.dumps(document).encode(), CHAT).model == "m"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)


def elements(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(elements, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(elements, value))
    return int(isinstance(value, str))


@given(json_values, st.integers(1, 30))
def test_strings_arrays_and_objects_are_what_counts(value: Any, most: int) -> None:
    text = json.dumps(value, separators=(",", ":")).encode()
    if not is_elaborate(text, most):
        assert elements(value) <= most
    elif elements(value) <= most:
        assert text.count(b",") > 4 * most


async def test_the_client_is_told_and_the_endpoint_is_not_asked() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        answer = await gateway.client.post("/v1/chat/completions", content=DEAR["arrays"]())
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_elaborate")
        assert (await gateway.chat()).status_code == 200
        assert sum(fake.stats.requests.values()) == 1
