"""What arrives goes to a sink without waking anybody: the same bytes, the same ends, the same silence as by reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.errors import UpstreamError, UpstreamTimeout
from balancer.upstream.http1 import BUFFER_LIMIT, UpstreamResponse
from tests.raw_server import chunked
from tests.test_upstream_http1 import CODED, cut, exchange, one_by_one
from tests.upstream_fakes import Bench, FakeLoop, Reading, begin, finish, read_all


@pytest.fixture
def loop() -> Iterator[FakeLoop]:
    made = FakeLoop()
    yield made
    made.close()


@pytest.fixture
def bench(loop: FakeLoop) -> Bench:
    return Bench(loop)


class Relay:
    """A relay under way, driven by hand. `room`: how many pieces the sink takes before it says that it is full."""

    def __init__(
        self, response: UpstreamResponse, *, room: int = 10**9, wake_after_seconds: float | None = None
    ) -> None:
        self.pieces: list[bytes] = []
        self._room = room
        self._running = cast(Reading, response.relay(self._take, wake_after_seconds))
        try:
            self.waiting: Any = begin(self._running)
        except StopIteration as stopped:
            self.waiting, self._result = None, stopped.value

    def _take(self, piece: bytes) -> bool:
        self.pieces.append(piece)
        return len(self.pieces) < self._room

    @property
    def ended(self) -> bool:
        return self.waiting is None or self.waiting.done()

    def result(self) -> object:
        return self._result if self.waiting is None else finish(self._running)

    def cancel(self) -> None:
        self._running.close()


def relayed(pieces: list[bytes], *, eof: bool) -> tuple[bytes, str]:
    """The body and the end of an answer that goes to a sink as far as it may."""
    loop = FakeLoop()
    try:
        return _relayed(Bench(loop), pieces, eof=eof)
    finally:
        loop.close()


def _relayed(bench: Bench, pieces: list[bytes], *, eof: bool) -> tuple[bytes, str]:
    response = bench.start()
    head, *rest = pieces
    bench.feed(head)
    while not response.status:
        head, *rest = rest
        bench.feed(head)
    body, end = read_all(response)
    if end != "waiting":
        return body, end
    relay = Relay(response)
    bench.feed(*rest)
    if eof:
        bench.connection.eof_received()
    body += b"".join(relay.pieces)
    if not relay.ended:
        relay.cancel()
        return body, "waiting"
    assert relay.result() is True
    last, end = read_all(response)
    return body + last, end


BODY = b"".join(chunked(b"%d " % number * number, last=False) for number in range(1, 9)) + chunked()


@pytest.mark.parametrize("eof", [False, True])
@pytest.mark.parametrize("data", [BODY, BODY[:-20], BODY[:-7] + b"nonsense\r\n", BODY + b"x"])
@pytest.mark.parametrize("split", [one_by_one, lambda data: [data]])
def test_a_relayed_answer_is_the_answer(data: bytes, eof: bool, split: Callable[[bytes], list[bytes]]) -> None:
    assert relayed([CODED, *split(data)], eof=eof) == exchange([CODED, *split(data)], eof)[2:4]


@given(st.lists(st.integers(0, 1000), max_size=8), st.booleans())
def test_cuts_change_nothing(places: list[int], eof: bool) -> None:
    assert relayed([CODED, *cut(BODY, places)], eof=eof) == relayed([CODED + BODY], eof=eof)


def test_nobody_is_woken_for_what_the_sink_takes(bench: Bench) -> None:
    response = bench.start()
    bench.feed(CODED)
    relay = Relay(response)
    for number in range(5):
        bench.feed(chunked(b"%d" % number, last=False))
        assert not relay.ended
    assert relay.pieces == [b"0", b"1", b"2", b"3", b"4"]
    bench.feed(chunked(b"last"))
    assert relay.ended
    assert relay.result() is True
    assert relay.pieces[-1] == b"4"
    assert read_all(response) == (b"last", "complete")


@pytest.mark.parametrize("data", [chunked(b"early", last=False), chunked(b"early"), chunked()])
def test_what_is_there_already_is_read_first(bench: Bench, data: bytes) -> None:
    response = bench.start()
    bench.feed(CODED + data)
    relay = Relay(response)
    assert (relay.waiting, relay.result(), relay.pieces) == (None, True, [])


def test_a_full_sink_gets_nothing_more_and_holds_the_endpoint_back(bench: Bench) -> None:
    response = bench.start()
    bench.feed(CODED)
    relay = Relay(response, room=2)
    bench.feed(chunked(b"a", last=False), chunked(b"b", last=False), chunked(b"c", last=False))
    assert relay.ended
    assert relay.pieces == [b"a", b"b"]
    bench.feed(chunked(b"d" * BUFFER_LIMIT, last=False))
    assert bench.transport.paused
    assert relay.result() is True
    assert read_all(response) == (b"c" + b"d" * BUFFER_LIMIT, "waiting")
    assert not bench.transport.paused
    again = Relay(response)
    bench.feed(chunked(b"e", last=False))
    assert again.pieces == [b"e"]
    again.cancel()


def test_after_a_cancelled_relay_the_rest_can_be_read(bench: Bench) -> None:
    response = bench.start()
    bench.feed(CODED)
    relay = Relay(response)
    bench.feed(chunked(b"a", last=False))
    relay.cancel()
    bench.feed(chunked(b"b"))
    assert relay.pieces == [b"a"]
    assert read_all(response) == (b"b", "complete")


def test_close_ends_a_relay(bench: Bench) -> None:
    response = bench.start()
    bench.feed(CODED)
    relay = Relay(response)
    response.close()
    bench.connection.data_received(chunked(b"late", last=False))
    assert relay.ended
    assert bench.transport.aborted
    with pytest.raises(RuntimeError, match="after close"):
        begin(cast(Reading, response.relay(lambda _: True)))


def test_silence_counts_from_the_last_piece(bench: Bench, loop: FakeLoop) -> None:
    response = bench.start(timeout_seconds=10)
    bench.feed(CODED)
    relay = Relay(response)
    for _ in range(20):
        loop.advance(9.5)
        bench.feed(chunked(b"x", last=False))
    assert not relay.ended
    assert loop.timers_set <= 40
    loop.advance(9.9)
    assert not relay.ended
    loop.advance(0.1)
    assert relay.ended
    assert relay.result() is True
    reading = response.read()
    with pytest.raises(UpstreamTimeout, match=r"^silent for 10 s after 20 bytes$"):
        reading.send(None)
    assert issubclass(UpstreamTimeout, UpstreamError)


def test_the_caller_wakes_when_nothing_came_for_so_long(bench: Bench, loop: FakeLoop) -> None:
    response = bench.start(timeout_seconds=10)
    bench.feed(CODED)
    for _ in range(3):
        relay = Relay(response, wake_after_seconds=3)
        loop.advance(2.9)
        bench.feed(chunked(b"x", last=False))
        loop.advance(2.9)
        assert not relay.ended
        loop.advance(0.2)
        assert relay.ended
        assert relay.result() is False
    for _ in range(2):  # 3 s of silence are behind us
        relay = Relay(response, wake_after_seconds=3)
        loop.advance(3)
        assert relay.result() is False
    relay = Relay(response, wake_after_seconds=3)
    loop.advance(1.1)
    assert relay.ended
    assert relay.result() is True
    assert "silent for 10 s" in read_all(response)[1]
