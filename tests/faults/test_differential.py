"""The parser of answers against a second implementation of HTTP/1.1: generated answers, well formed and broken, have
the same status and body for both, or both refuse them; `DELIBERATE` is the list of what may differ, and each entry is
tested to be true.
"""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.faults.two_parsers import DELIBERATE, HEAD, REFUSED, allowed, ours, theirs
from tests.raw_server import chunked

# `make fuzz` asks for more.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "400"))


@pytest.mark.parametrize("name", DELIBERATE)
def test_deliberate_differences_are_there(name: str) -> None:
    pattern, example, ours_refuses = DELIBERATE[name]
    assert re.search(pattern, example)
    assert (ours(example, len(example)) is REFUSED) == ours_refuses
    assert (theirs(example) is REFUSED) != ours_refuses


START_LINES = st.sampled_from(
    [HEAD] * 8
    + [
        *(b"HTTP/1.1 %b\r\n" % status for status in (b"204 No", b"304 Same", b"404 Not", b"500", b"999 X", b"099 X")),
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 103 Early\r\nLink: a\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\n",
        *(
            b"HTTP/1.2 200 OK\r\n",
            b"\r\n" + HEAD,
            b"HTTP/1.1 20 OK\r\n",
            b"HTTP/1.1  200 OK\r\n",
            b"HTTP/1.1 200 O\0K\r\n",
        ),
    ]
)
LENGTHS = st.sampled_from(
    [b"%d" % number for number in range(12)] + [b"+2", b"-2", b"2, 2", b"0x2", b"", b"02", b"2 2", b"9" * 25]
)
CODINGS = st.sampled_from(
    [b"chunked"] * 6 + [b"Chunked", b"gzip, chunked", b"identity", b"", b"chunked, chunked", b"\tchunked "]
)
FIELDS = st.one_of(
    LENGTHS.map(lambda value: b"Content-Length: " + value + b"\r\n"),
    CODINGS.map(lambda value: b"Transfer-Encoding: " + value + b"\r\n"),
    st.sampled_from(
        [
            b"X: y\r\n",
            b"X:y\r\n",
            b"X: \r\n",
            b"X: y\r\n z\r\n",
            b"X : y\r\n",
            b"X: a\x01\r\n",
            b"X: \xe9\r\n",
            b"nothing\r\n",
            b"Connection: close\r\n",
            b"Connection: keep-alive\r\n",
            b"Upgrade: x\r\n",
            b"X: y\n",
            b": y\r\n",
            b"X(: y\r\n",
        ]
    ),
)
TEXT = st.binary(max_size=9).map(lambda data: bytes(97 + byte % 26 for byte in data))
CHUNKS = st.lists(
    st.one_of(
        TEXT.map(lambda text: chunked(b"a" + text, last=False)),
        st.sampled_from(
            [
                b"2;a=b\r\nok\r\n",
                b"2 \r\nok\r\n",
                b"02\r\nok\r\n",
                b"2;\r\nok\r\n",
                b"2\nok\r\n",
                b"2\r\nok\n",
                b"2\r\nokk\r\n",
                b"-2\r\nok\r\n",
                b"g\r\n",
                b"\r\n",
                b"A\r\n0123456789\r\n",
                b"0" * 30 + b"1\r\nx\r\n",
                b"f" * 17 + b"\r\nx",
            ]
        ),
    ),
    max_size=3,
).map(b"".join)
BODIES = st.one_of(
    TEXT,
    st.builds(
        lambda body, end: body + end,
        CHUNKS,
        st.sampled_from([b"0\r\n\r\n"] * 4 + [b"", b"0\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\n\n"]),
    ),
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Bytes that look much like an answer: of parts that are mostly right, now and then with a byte changed."""
    fields = b"".join(draw(st.lists(FIELDS, max_size=3)))
    data = draw(START_LINES) + fields + b"\r\n" + draw(BODIES) + draw(st.sampled_from([b""] * 4 + [b"x", HEAD]))
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 999), st.binary(max_size=1)), max_size=2)):
        at = place % len(data)
        data = data[:at] + byte + data[at + 1 :]
    return data


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """An answer that is framed as it should be, now and then with a byte changed."""
    body, framing = draw(TEXT), draw(st.sampled_from(["length", "chunks", "close"]))
    fields = draw(st.sampled_from([b"", b"X: y\r\n", b"Connection: close\r\n"]))
    if framing == "length":
        fields += b"Content-Length: %d\r\n" % len(body)
    elif framing == "chunks":
        fields, body = fields + b"Transfer-Encoding: chunked\r\n", chunked(*([body] if body else []), b"more")
    data = draw(START_LINES) + fields + b"\r\n" + body
    if draw(st.booleans()):
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(max_size=1)) + data[at + 1 :]
    return data


@settings(max_examples=EXAMPLES, deadline=None)
@given(answers() | nearly_right(), st.sampled_from([1, 3, 10_000]))
def test_both_understand_the_same_or_one_has_a_reason_to_refuse(data: bytes, step: int) -> None:
    mine, other = ours(data, step), theirs(data)
    event("refused by both" if mine is other is REFUSED else "understood by both" if mine and other else "by one")
    if mine is not REFUSED and other is not REFUSED:
        assert mine == other, "two parties would see different answers"
    elif mine is not other:
        assert allowed(data, ours_refuses=mine is REFUSED), (mine, other)
