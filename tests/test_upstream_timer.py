"""The one lazy timer of a connection: what counts as silence, turned by hand."""

from __future__ import annotations

import pytest

from balancer.core.errors import UpstreamTimeout
from tests.raw_server import answer, chunked
from tests.upstream_fakes import Bench, FakeLoop, begin, finish, read_all

CODED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_silence_before_the_answer(bench: Bench, loop: FakeLoop) -> None:
    response = bench.start(timeout_seconds=10)
    waiter = bench.connection.news(None)
    loop.advance(9.9)
    bench.feed(b"HTTP/1.1 102 Processing\r\n\r\n")
    assert not waiter.done()
    loop.advance(0.2)
    assert waiter.done()
    assert isinstance(bench.connection.failure(), UpstreamTimeout)
    assert str(bench.connection.failure()) == "silent for 10 s before answering"
    assert bench.transport.is_closing()
    assert loop.timers == []
    response.close()


def test_silence_inside_the_answer(bench: Bench, loop: FakeLoop) -> None:
    response = bench.start(timeout_seconds=120)
    bench.feed(CODED)
    for _ in range(50):
        reading = response.read()
        pending = begin(reading)
        loop.advance(119)
        assert not pending.done()
        bench.feed(chunked(b"x" * 100, last=False))
        assert finish(reading) == b"x" * 100
    reading = response.read()
    begin(reading)
    loop.advance(120)
    with pytest.raises(UpstreamTimeout, match=r"^silent for 120 s after 5,000 bytes$"):
        reading.send(None)


def test_silence_is_not_counted_while_nobody_reads(bench: Bench, loop: FakeLoop) -> None:
    response = bench.start(timeout_seconds=10)
    bench.connection.news(None)
    bench.feed(CODED)
    loop.advance(1000)
    reading = response.read()
    pending = begin(reading)
    loop.advance(9.9)
    assert not pending.done()
    loop.advance(0.1)
    assert pending.done()
    reading.close()


def test_silence_adds_up_over_pings(bench: Bench, loop: FakeLoop) -> None:
    response = bench.start(timeout_seconds=10)
    bench.feed(CODED)
    for _ in range(3):
        reading = response.read(3)
        begin(reading)
        loop.advance(3)
        assert finish(reading) is None
        loop.advance(100)  # a slow client takes the ping
    reading = response.read(3)
    begin(reading)
    loop.advance(1)
    with pytest.raises(UpstreamTimeout, match=r"^silent for 10 s after 0 bytes$"):
        reading.send(None)


def test_data_ends_the_silence_that_pings_added_up(bench: Bench, loop: FakeLoop) -> None:
    response = bench.start(timeout_seconds=10)
    bench.feed(CODED)
    for _ in range(10):
        reading = response.read(6)
        begin(reading)
        loop.advance(6)
        assert finish(reading) is None
        bench.feed(chunked(b"x", last=False))
        assert read_all(response) == (b"x", "waiting")


def test_silence_does_not_outlive_its_exchange(bench: Bench, loop: FakeLoop) -> None:
    response = bench.start(timeout_seconds=10)
    bench.feed(CODED)
    reading = response.read(6)
    begin(reading)
    loop.advance(6)
    assert finish(reading) is None
    bench.feed(chunked())
    response.close()
    bench.start(timeout_seconds=10)
    waiter = bench.connection.news(None)
    loop.advance(9)
    assert not waiter.done()


def test_a_stream_that_flows_sets_hardly_any_timer(bench: Bench, loop: FakeLoop) -> None:
    response = bench.start(timeout_seconds=100)
    bench.feed(CODED)
    for _ in range(1000):
        reading = response.read(15)
        begin(reading)
        loop.advance(0.02)
        bench.feed(chunked(b"x", last=False))
        assert finish(reading) == b"x"
    assert loop.timers_set <= 3
    response.close()
    assert loop.timers == []


def test_a_shorter_timeout_than_the_last_one_is_kept(bench: Bench, loop: FakeLoop) -> None:
    response = bench.start(timeout_seconds=100)
    bench.connection.news(None)
    bench.feed(answer())
    response.close()
    bench.start(timeout_seconds=5)
    waiter = bench.connection.news(None)
    loop.advance(5)
    assert waiter.done()


def test_a_long_upload_is_not_silence_while_it_moves(bench: Bench, loop: FakeLoop) -> None:
    bench.start(b"x" * 1_000_000, timeout_seconds=10)
    waiter = bench.connection.news(None)
    for left in (900_000, 500_000, 100_000):
        bench.transport.unsent = left
        loop.advance(10)
        assert not waiter.done()
    loop.advance(10)
    assert str(bench.connection.failure()) == "silent for 10 s before answering"
