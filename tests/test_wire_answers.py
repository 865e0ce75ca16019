"""Answers that are no streams: usage, renaming, lists of models, waits and refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.endpoints import Usage
from balancer.wire.answers import (
    JsonMeter,
    Meter,
    PassMeter,
    insufficient_quota,
    mentions_stream_options,
    merge_models,
    rename_model,
    retry_after,
)
from balancer.wire.sse import StreamMeter

ANSWER = (
    b'{"id":"1","model": "real","choices":[{"x":{"model":"inner"}}],"usage":{"prompt_tokens":7,"completion_tokens":9}}'
)


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[i : i + size] for i in range(0, len(body), size)]


def test_all_meters_have_one_face() -> None:
    meters: list[Meter] = [PassMeter(), JsonMeter(), StreamMeter()]
    for meter in meters:
        assert meter.feed(b"abc") == b"abc"
        assert (meter.answer_bytes, meter.usage, meter.at_boundary) == (3, None, False)
        assert meter.finish() == b""


# -- the JSON meter ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_json_usage(size: int) -> None:
    meter = JsonMeter()
    for piece in cut(ANSWER, size):
        assert meter.feed(piece) is piece
    assert (meter.usage, meter.done) == (None, False)
    assert meter.finish() == b""
    assert (meter.usage, meter.done, meter.events) == (Usage(7, 9), True, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"usage":null}',
        b'{"x":{"usage":{"total_tokens":3}}}',
        ANSWER[:-1],
        b'"usage"',
        b"\xff\x00",
    ],
)
def test_json_without_usage(body: bytes) -> None:
    meter = JsonMeter()
    meter.feed(body)
    meter.finish()
    assert meter.usage is None


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (b'{"data":[%s],"usage":{"prompt_tokens":5,"total_tokens":5}}', Usage(5, 0)),
        (b'{"usage" : {"prompt_tokens":5,"total_tokens":5},"data":[%s]}', Usage(5, 0)),
        (b'{"usage":{"total_tokens":1},"data":[%s],"usage":{"total_tokens":2},"x":{"usage":{}}}', Usage(2, 0)),
        (b'{"data":[%s],"text":"\\"usage\\":{\\"total_tokens\\":3}"}', None),
        (b'{"data":[%s],"usage":{"prompt_tokens":5', None),
        (b'{"data":[%s],"usage":{"prompt_tokens":}}', None),
        (b'{"data":[%s],' + b'"usage":{' * 7000, None),
    ],
)
def test_json_usage_of_a_big_answer(body: bytes, usage: Usage | None) -> None:
    big = body % (b"0.25," * 300_000 + b"1")
    for size in (len(big), 65_536, 16_000):
        meter = JsonMeter()
        for piece in cut(big, size):
            meter.feed(piece)
        meter.finish()
        assert (meter.usage, meter.answer_bytes) == (usage, len(big))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_json_rename(size: int) -> None:
    meter = JsonMeter(rename_to="asked")
    assert all(meter.feed(piece) == b"" for piece in cut(ANSWER, size))
    assert meter.finish() == ANSWER.replace(b'"real"', b'"asked"')
    assert meter.usage == Usage(7, 9)


def test_json_rename_of_an_answer_too_big_to_hold() -> None:
    body = b'{"model":"real","x":"' + b"y" * (33 * 1024 * 1024) + b'","usage":{"total_tokens":3}}'
    meter = JsonMeter(rename_to="asked")
    pieces = [meter.feed(piece) for piece in cut(body, 1024 * 1024)]
    assert pieces[0] == b""
    assert b"".join(pieces) + meter.finish() == body
    assert meter.usage == Usage(3, 0)


@given(st.text(alphabet='{}[]",:\\ 1a\n', max_size=40).map(str.encode) | st.binary(max_size=30), st.booleans())
def test_any_bytes_pass_the_json_meter(body: bytes, rename: bool) -> None:
    for prefix in (b"", b'{"model":"real","usage":{'):
        meter = JsonMeter(rename_to="asked" if rename else None)
        out = b"".join([meter.feed(piece) for piece in cut(prefix + body, 5)]) + meter.finish()
        assert out.replace(b'"asked"', b'"real"') == prefix + body


@pytest.mark.parametrize(
    ("payload", "renamed"),
    [
        (b'{"model":"r"}', b'{"model":"\\u00e4"}'),
        (b' {"a":"model", "model" : "r" }', b' {"a":"model", "model" : "\\u00e4" }'),
        (b'{"response":{"model":"r","x":{"model":"r"}}}', b'{"response":{"model":"\\u00e4","x":{"model":"r"}}}'),
        (b'{"response":"model","model":"r"}', b'{"response":"model","model":"\\u00e4"}'),
        (b'{"model":null}', b'{"model":null}'),
        (b'{"x":{"model":"r"}}', b'{"x":{"model":"r"}}'),
        (b'["model"]', b'["model"]'),
        (b'{"model":"r"', b'{"model":"r"'),
        (b'{"response":{"model":"r"', b'{"response":{"model":"r"'),
        (b"", b""),
    ],
)
def test_rename_model(payload: bytes, renamed: bytes) -> None:
    assert rename_model(payload, "\u00e4") == renamed


# -- lists of models -----------------------------------------------------------------------------------------------


def test_merge_models() -> None:
    first = [{"id": "b", "object": "model", "created": 5, "owned_by": "me", "x": [1]}, {"id": "a"}]
    second = [{"id": "b", "owned_by": "other"}, {"id": "c", "created": None}]
    merged = merge_models([first, second])
    assert merged == [
        {"id": "a", "object": "model", "created": 0, "owned_by": "local"},
        first[0],
        {"id": "c", "object": "model", "created": None, "owned_by": "local"},
    ]
    assert first[1] == {"id": "a"}
    json.dumps(merged)


def test_merge_models_leaves_nonsense_out() -> None:
    assert merge_models([["x", None, {}, {"id": None}, {"id": ""}, {"id": 5}], []]) == []


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error":{"code":"insufficient_quota","type":"x"}}', True),
        (b'{"error":{"type":"insufficient_quota"}}', True),
        (b'{"error":{"code":"rate_limit_exceeded","message":"no insufficient_quota"}}', False),
        (b'{"error":"insufficient_quota"}', False),
        (b'["insufficient_quota"]', False),
        (b"insufficient_quota", False),
        (b"", False),
    ],
)
def test_insufficient_quota(body: bytes, expected: bool) -> None:
    assert insufficient_quota(body) is expected


def test_mentions_stream_options() -> None:
    assert mentions_stream_options(b'{"detail":"Unknown field: stream_options"}')
    assert mentions_stream_options(b"extra fields not permitted: include_usage")
    assert not mentions_stream_options(b'{"error":"model is missing"}')


# -- Retry-After ---------------------------------------------------------------------------------------------------

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "99999"}, 3600.0),
        ({"retry-after": "9" * 400}, 3600.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "NaN"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "\u00b2"}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "retry-after-ms": "x"}, 7.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT"}, 30.0),
        ({"retry-after": "Sunday, 06-Nov-94 08:50:07 GMT"}, 30.0),
        ({"retry-after": "Sun Nov  6 08:50:07 1994"}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:00:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 06 Nov 2094 08:00:00 GMT"}, 3600.0),
        ({"retry-after": "Sun, 99 Nov 1994 08:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    assert retry_after(raw, NOW) == expected


_DATE_PARTS = st.sampled_from(
    ["Sun,", "06", "Nov", "1994", "08:50:07", "GMT", "+9999", "-0000", "99", ":", "0", "-", ""]
)


@given(
    st.binary(max_size=30) | st.lists(_DATE_PARTS, max_size=8).map(lambda parts: " ".join(parts).encode()), st.floats()
)
def test_retry_after_takes_any_bytes(value: bytes, now: Any) -> None:
    for name in (b"retry-after", b"retry-after-ms"):
        seconds = retry_after([(name, value)], now)
        assert seconds is None or seconds >= 0 or now != now
