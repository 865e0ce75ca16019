"""One connection without a socket: framing at any cut, limits, back-pressure, and its one timer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.errors import BrokenConnection
from balancer.upstream.http1 import Connection
from tests.raw_server import answer, chunked
from tests.upstream_fakes import Bench, FakeLoop, FakeOwner, FakeTransport, begin, read_all

HEAD = b"HTTP/1.1 200 OK\r\n"
CODED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


Seen = tuple[int, list[tuple[bytes, bytes]], bytes, str, int]


def exchange(pieces: Iterable[bytes], eof: bool = False) -> Seen:
    """All that can be seen of one exchange whose answer arrives in these pieces."""
    loop = FakeLoop()
    bench = Bench(loop)
    response = bench.start()
    bench.feed(*pieces)
    if eof:
        bench.connection.eof_received()
    body, end = read_all(response)
    response.close()
    loop.close()
    return response.status, response.headers, body, end, bench.owner.kept


def one_by_one(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


# -- framing


REFUSED_BY_THE_PARSER = [
    HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    HEAD + b"Content-Length: 2, 2\r\n\r\nok",
    HEAD + b"Content-Length: -2\r\n\r\nok",
    HEAD + b"Content-Length: +2\r\n\r\nok",
    HEAD + b"Content-Length: 0x2\r\n\r\nok",
    HEAD + b"Content-Length: 1 0\r\n\r\nok",
    HEAD + b"Content-Length: \r\n\r\nok",
    HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ok"),
    HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n" + chunked(b"ok"),
    HEAD + b"Transfer-Encoding: \r\n\r\n" + chunked(b"ok"),
    HEAD + b"Transfer-Encoding\t: chunked\r\n\r\n",
    HEAD + b"Content-Length : 2\r\n\r\nok",
    HEAD + b" Content-Length: 2\r\n\r\nok",
    HEAD + b"X: a\r\n folded\r\n\r\n",
    HEAD + b"X: a\0b\r\n\r\n",
    HEAD + b"X: a\rY: b\r\n\r\n",
    HEAD + b"X Y: a\r\n\r\n",
    HEAD + b": a\r\n\r\n",
    HEAD + b"no colon\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/3.0 200 OK\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
]

REFUSED_BY_US = [
    (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked(b"ok"), "transfer-encoding other than chunked"),
    (HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\nok", "transfer-encoding other than chunked"),
    (HEAD + b"Transfer-Encoding: identity\r\n\r\nok", "transfer-encoding other than chunked"),
    (HEAD + b"Transfer-Encoding: xchunked\r\n\r\nok", "transfer-encoding other than chunked"),
    (HEAD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + chunked(b"ok"), "transfer-encoding other than chunked"),
    (b"HTTP/1.1 099 OK\r\n\r\n", "answered status 099, which was not asked for"),
    (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx",
        "answered status 101, which was not asked for",
    ),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\nx", "answered status 101, which was not asked for"),
    (HEAD + b"".join(b"x-%d: y\r\n" % number for number in range(257)) + b"\r\n", "over 256 header fields"),
]


@pytest.mark.parametrize(
    ("data", "words"), [*((data, "not a valid HTTP answer: ") for data in REFUSED_BY_THE_PARSER), *REFUSED_BY_US]
)
@pytest.mark.parametrize("split", [lambda data: [data], one_by_one], ids=["whole", "byte by byte"])
def test_answers_that_are_refused(data: bytes, words: str, split: Callable[[bytes], list[bytes]]) -> None:
    status, _, body, end, kept = exchange(split(data))
    assert (status, body, kept) == (0, b"", 0)
    assert end.startswith(f"ProtocolError: {words}")


@pytest.mark.parametrize(
    "rest",
    [b"zz\r\nx", b"-2\r\nok\r\n", b"0x2\r\nok\r\n", b"\r\n", b"fffffffffffffffff\r\n", b"2 \r\nok\r\n", b"2\nok\n"],
)
@pytest.mark.parametrize("split", [lambda data: [data], one_by_one], ids=["whole", "byte by byte"])
def test_broken_chunks(rest: bytes, split: Callable[[bytes], list[bytes]]) -> None:
    status, _, body, end, kept = exchange(split(CODED + chunked(b"before", last=False) + rest))
    assert (status, body, kept) == (200, b"before", 0)
    assert end.startswith("ProtocolError: not a valid HTTP answer: ")


def test_a_chunk_longer_than_it_says() -> None:
    _, _, body, end, kept = exchange([CODED + b"2\r\nokk\r\n0\r\n\r\n"])
    assert (body, kept) == (b"ok", 0)
    assert end.startswith("ProtocolError: ")


CUT = "BrokenConnection: answer cut after"


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", "BrokenConnection: closed the connection before answering"),
        (b"HT", "BrokenConnection: closed the connection inside the response head"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "BrokenConnection: closed the connection inside the response head"),
        (HEAD + b"Content-Length: 5000\r\n\r\n" + b"x" * 1234, f"{CUT} 1,234 of 5,000 bytes (connection closed)"),
        (CODED + chunked(b"x" * 1234, last=False), f"{CUT} 1,234 bytes (connection closed)"),
        (CODED + chunked(b"x" * 1234)[:-1], f"{CUT} 1,234 bytes (connection closed)"),
        (CODED + b"4d2\r\n" + b"x" * 1000, f"{CUT} 1,000 bytes (connection closed)"),
    ],
)
def test_answers_that_end_too_early(data: bytes, end: str) -> None:
    for pieces in ([data], one_by_one(data)):
        *_, body, how, kept = exchange(pieces, eof=True)
        assert (body, how, kept) == (b"x" * data.count(b"x"), end, 0)


def test_a_reset_does_not_complete_an_answer_without_length(bench: Bench) -> None:
    response = bench.start()
    bench.feed(HEAD + b"\r\n" + b"half")
    bench.lose(ConnectionResetError())
    assert read_all(response) == (b"half", "BrokenConnection: answer cut after 4 bytes (connection reset)")


def test_a_reused_connection_that_dies_before_a_byte_is_stale(bench: Bench) -> None:
    response = bench.start()
    bench.feed(answer())
    response.close()
    response = bench.start()
    bench.lose(ConnectionResetError())
    assert read_all(response) == (b"", "StaleConnection: reset the connection before answering")


def test_a_reused_connection_that_dies_after_a_byte_is_broken(bench: Bench) -> None:
    response = bench.start()
    bench.feed(answer())
    response.close()
    response = bench.start()
    bench.feed(b"H")
    bench.lose()
    assert read_all(response) == (b"", "BrokenConnection: closed the connection inside the response head")


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, int, list[tuple[bytes, bytes]], bytes]:
    """A valid answer that keeps its connection: its bytes, status, headers and body."""
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nLink: a\r\n\r\n" * 2]))
    status = draw(st.sampled_from([200, 204, 304, 404, 500]))
    names, values = st.from_regex(rb"[A-Za-z][A-Za-z-]{0,9}", fullmatch=True), st.sampled_from([b"", b"v", b"a, b"])
    fields = draw(st.lists(st.tuples(names.map(lambda name: b"X-" + name), values), max_size=4))
    pieces = [] if status in (204, 304) else draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4))
    if status not in (204, 304) and draw(st.booleans()):
        fields.append((b"Transfer-Encoding", b"chunked"))
        body = chunked(*pieces)
        if draw(st.booleans()):
            body = body[:-2] + b"X-Trailer: t\r\n\r\n"
    else:
        fields.append((b"Content-Length", b"%d" % sum(map(len, pieces))))
        body = b"".join(pieces)
    head = b"HTTP/1.1 %d Any\r\n%b\r\n" % (status, b"".join(b"%b: %b\r\n" % pair for pair in fields))
    return interim + head + body, status, [(name.lower(), value) for name, value in fields], b"".join(pieces)


@given(st.lists(answers(), min_size=1, max_size=3), st.lists(st.integers(0, 1000), max_size=12))
def test_valid_answers_are_understood_at_any_cut(
    said: list[tuple[bytes, int, list[tuple[bytes, bytes]], bytes]], places: list[int]
) -> None:
    loop = FakeLoop()
    bench = Bench(loop)
    for number, (data, status, headers, body) in enumerate(said, 1):
        response = bench.start()
        bench.feed(*cut(data, places))
        assert (response.status, response.headers) == (status, headers)
        assert response.reused == (number > 1)
        assert read_all(response) == (body, "complete")
        response.close()
        assert bench.owner.kept == number
    loop.close()


@given(
    st.sampled_from([*REFUSED_BY_THE_PARSER, *(data for data, _ in REFUSED_BY_US)]),
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_refusals_are_the_same_at_any_cut(data: bytes, places: list[int]) -> None:
    assert exchange(cut(data, places)) == exchange([data])


@given(
    st.sampled_from([answer(b"body"), CODED + chunked(b"bo", b"dy"), HEAD + b"\r\nbody"]),
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=4),
    st.lists(st.integers(0, 200), max_size=6),
    st.booleans(),
)
def test_whatever_arrives_is_an_answer_or_an_upstream_error(
    data: bytes, edits: list[tuple[int, bytes]], places: list[int], eof: bool
) -> None:
    for place, insert in edits:
        at = place % (len(data) + 1)
        data = data[:at] + insert + data[at + 1 :]
    status, _, _, end, kept = exchange(cut(data, places), eof)
    assert kept == (end == "complete" and not eof) or not kept
    assert end in ("complete", "waiting") or end.split(":")[0] in ("BrokenConnection", "ProtocolError")
    assert status >= 200 or end != "complete"


# -- bytes behind an answer


@pytest.mark.parametrize("surplus", [b"H", b"HTTP/1.1 200 OK\r\nX:", answer(b"poison"), b"garbage", b"\0"])
@pytest.mark.parametrize("said", [answer(b"good"), CODED + chunked(b"good")], ids=["length", "chunked"])
@pytest.mark.parametrize("apart", [True, False], ids=["later", "together"])
def test_bytes_behind_an_answer_end_the_connection_and_not_the_answer(
    bench: Bench, surplus: bytes, said: bytes, apart: bool
) -> None:
    response = bench.start()
    bench.feed(said, surplus) if apart else bench.feed(said + surplus)
    assert bench.transport.is_closing()
    bench.lose()
    assert read_all(response) == (b"good", "complete")
    response.close()
    assert bench.owner.kept == 0


def test_bytes_on_an_idle_connection_end_it(bench: Bench) -> None:
    response = bench.start()
    bench.feed(answer())
    response.close()
    assert bench.owner.kept == 1
    bench.feed(b"\r\n")
    assert bench.transport.is_closing()
    assert bench.owner.events == ["made", "withdrawn"]


def test_a_connection_given_up_before_it_was_made_is_cut_when_it_is(loop: FakeLoop) -> None:
    owner, transport = FakeOwner(), FakeTransport()
    connection = Connection(owner, loop.as_loop(), lambda: loop.now)
    connection.abort()
    connection.connection_made(transport)
    assert transport.is_closing()
    assert owner.events == ["withdrawn"]


# -- limits


@pytest.mark.parametrize("size", [1000, 64 * 1024, 200_000], ids=str)
def test_a_head_of_64_kilobytes_is_accepted_and_no_more(bench: Bench, size: int) -> None:
    fixed = len(HEAD + b"x: \r\nContent-Length: 0\r\n\r\n")
    for extra, good in ((0, True), (0, True), (1, False)):
        response = bench.start()
        data = HEAD + b"x: %b\r\nContent-Length: 0\r\n\r\n" % (b"y" * (64 * 1024 - fixed + extra))
        bench.feed(*(data[at : at + size] for at in range(0, len(data), size)))
        end = "complete" if good else "ProtocolError: response head over 64 KB"
        assert read_all(response) == (b"", end)
        response.close()
    assert bench.transport.is_closing()


def test_a_long_body_in_one_piece_with_its_head_is_no_long_head(bench: Bench) -> None:
    response = bench.start()
    bench.feed(answer(b"x" * 300_000))
    assert read_all(response) == (b"x" * 300_000, "complete")


def test_interim_answers_without_end_are_refused(bench: Bench) -> None:
    response = bench.start()
    bench.feed(*[b"HTTP/1.1 102 Processing\r\n\r\n" * 100] * 100)
    assert read_all(response) == (b"", "ProtocolError: response head over 64 KB")


def test_a_long_head_does_not_count_as_framing(bench: Bench) -> None:
    response = bench.start()
    bench.feed(HEAD + b"x: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % (b"y" * 65_000), b"1;" + b"z" * 1000)
    bench.feed(b"\r\nx\r\n0\r\n\r\n")
    assert read_all(response) == (b"x", "complete")


@pytest.mark.parametrize("drip", [b";" + b"x" * 999, b"0\r\n" + b"a: b\r\n" * 200], ids=["extension", "trailers"])
def test_framing_without_end_is_refused(bench: Bench, drip: bytes) -> None:
    response = bench.start()
    bench.feed(CODED + chunked(b"begun", last=False) + b"1" * (drip[:1] == b";") + drip)
    assert read_all(response) == (b"begun", "waiting")
    assert bench.transport.is_reading()
    bench.feed(*[drip.removeprefix(b"0\r\n").replace(b";", b"x")] * 100)
    assert read_all(response) == (b"", "ProtocolError: over 64 KB of framing without content")


def test_back_pressure(bench: Bench) -> None:
    response = bench.start()
    bench.feed(HEAD + b"Content-Length: 1000000\r\n\r\n", b"x" * 60_000)
    assert bench.transport.is_reading()
    bench.feed(b"x" * 60_000)
    assert not bench.transport.is_reading()
    assert read_all(response) == (b"x" * 120_000, "waiting")
    assert bench.transport.is_reading()
    bench.feed(b"x")
    assert bench.transport.is_reading()


def test_no_back_pressure_against_a_reader_that_waits(bench: Bench) -> None:
    response = bench.start()
    bench.feed(HEAD + b"Content-Length: 1000000\r\n\r\n")
    waiter = bench.connection.news(None)
    bench.feed(b"x" * 200_000)
    assert waiter.done()
    assert bench.transport.is_reading()
    bench.feed(b"x" * 10_000)
    assert not bench.transport.is_reading()
    assert read_all(response) == (b"x" * 210_000, "waiting")


def test_a_connection_is_not_kept_paused(bench: Bench) -> None:
    response = bench.start()
    bench.feed(HEAD + b"Content-Length: 100000\r\n\r\n", b"x" * 70_000)
    assert not bench.transport.is_reading()
    bench.feed(b"x" * 30_000)
    response.close()
    assert bench.owner.kept == 1
    assert bench.transport.is_reading()
    response = bench.start()
    bench.feed(answer())
    assert read_all(response) == (b"ok", "complete")


def test_a_connection_is_not_kept_before_its_request_was_sent(bench: Bench) -> None:
    response = bench.start(b"x" * 100_000)
    assert len(bench.transport.written) > 100_000
    bench.transport.unsent = 1
    bench.feed(answer(status=b"413 Content Too Large"))
    assert read_all(response) == (b"ok", "complete")
    response.close()
    assert bench.transport.is_closing()
    assert bench.owner.kept == 0


# -- readers


def test_one_reader_at_a_time(bench: Bench) -> None:
    response = bench.start()
    bench.feed(CODED)
    reading = response.read()
    begin(reading)
    with pytest.raises(RuntimeError, match="another task"):
        response.read().send(None)
    reading.close()


def test_close_wakes_a_reader(bench: Bench) -> None:
    response = bench.start()
    bench.feed(CODED)
    reading = response.read()
    assert not begin(reading).done()
    response.close()
    with pytest.raises(BrokenConnection, match="given up"):
        reading.send(None)
    assert bench.transport.is_closing()


def test_a_cancelled_read_loses_nothing(bench: Bench) -> None:
    response = bench.start()
    bench.feed(CODED)
    assert read_all(response) == (b"", "waiting")
    bench.feed(chunked(b"kept"))
    assert read_all(response) == (b"kept", "complete")
