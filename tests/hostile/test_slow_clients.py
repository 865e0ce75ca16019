"""Clients that keep a connection and send nothing, or a byte now and then."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace

import pytest

from balancer.proxy.reception import ClientLimits
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.running import RawClient, RunningGateway, chat_body, eventually, raw_client, request, wired

# Long enough for what a busy machine does in between, where a test says that it must not be cut.
PATIENT = ClientLimits(header_timeout_seconds=30, body_timeout_seconds=30, keep_alive_seconds=30)
BODY = chat_body()
BEGINNING = b"POST /v1/chat/completions HTTP/1.1\r\nhost: b\r\ncontent-length: %d\r\n" % len(BODY)


def timed_out(answer: bytes) -> None:
    """Fails unless the one answer is a 408 that clients can read."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n"), answer
    assert b"connection: close" in head and b"content-length: %d" % len(body) in head
    assert json.loads(body)["error"]["code"] == "request_timeout"


async def drips(client: RawClient, piece: bytes) -> bytes:
    """Send `piece` again and again until the server closes; what it said."""
    rest = asyncio.create_task(client.rest())
    while not rest.done():
        client.send(piece)
        await asyncio.sleep(0.01)
    return await rest


async def test_a_connection_on_which_nothing_comes_is_closed() -> None:
    limits = replace(PATIENT, header_timeout_seconds=0.2)
    async with RunningGateway([], limits=limits) as gateway, raw_client(gateway.url) as client:
        assert await client.rest() == b"", "nothing was asked: there is nothing to answer"
        await eventually(lambda: not gateway.reception.open)


@pytest.mark.parametrize("beginning", [b"P", b"POST /v1/chat", BEGINNING, BEGINNING + b"x-a: b", BEGINNING + b"\r"])
async def test_a_head_that_stops(beginning: bytes) -> None:
    limits = replace(PATIENT, header_timeout_seconds=0.2)
    async with RunningGateway([], limits=limits) as gateway, raw_client(gateway.url) as client:
        client.send(beginning)
        timed_out(await client.rest())
        assert gateway.reception.given_up == {"head": 1, "body": 0}


async def test_a_head_in_drips_gets_no_more_time() -> None:
    limits = replace(PATIENT, header_timeout_seconds=0.2)
    async with RunningGateway([], limits=limits) as gateway, raw_client(gateway.url) as client:
        client.send(BEGINNING)
        timed_out(await drips(client, b"x-a: b\r\n"))


async def test_blank_lines_are_no_request() -> None:
    limits = replace(PATIENT, header_timeout_seconds=0.2)
    async with RunningGateway([], limits=limits) as gateway, raw_client(gateway.url) as client:
        with suppress(ConnectionResetError):  # one of them came too late
            assert await drips(client, b"\r\n") == b""
        await eventually(lambda: not gateway.reception.open)


async def test_a_head_that_stops_behind_a_request_that_went_well() -> None:
    limits = replace(PATIENT, header_timeout_seconds=0.2)
    async with (
        FakeServer() as fake,
        RunningGateway(wired(fake), limits=limits) as gateway,
        raw_client(gateway.url) as client,
    ):
        client.post(BODY)
        assert (await client.answer())[0] == 200
        client.send(BEGINNING)
        timed_out(await client.rest())


async def test_a_body_that_stops() -> None:
    limits = replace(PATIENT, body_timeout_seconds=0.2)
    async with (
        FakeServer() as fake,
        RunningGateway(wired(fake), limits=limits) as gateway,
        raw_client(gateway.url) as client,
    ):
        client.send(BEGINNING + b"\r\n" + BODY[:10])
        timed_out(await client.rest())
        record = await gateway.recorded(1)
        assert (record.status, record.attempts) == (408, [])
        assert gateway.reception.given_up == {"head": 0, "body": 1}
        assert not fake.stats.total_requests


async def test_a_body_that_comes_slowly_but_comes_is_no_silence() -> None:
    limits = replace(PATIENT, body_timeout_seconds=1.5, header_timeout_seconds=0.4)
    async with (
        FakeServer() as fake,
        RunningGateway(wired(fake), limits=limits) as gateway,
        raw_client(gateway.url) as client,
    ):
        client.send(BEGINNING + b"\r\n")
        began_at = asyncio.get_running_loop().time()
        for place in range(len(BODY)):
            client.send(BODY[place : place + 1])
            await asyncio.sleep(2.0 / len(BODY))
        assert asyncio.get_running_loop().time() - began_at > limits.body_timeout_seconds
        assert (await client.head())[0] == 200


async def test_a_body_that_stops_behind_its_answer_ends_the_connection() -> None:
    limits = replace(PATIENT, body_timeout_seconds=0.2)
    async with RunningGateway([], tokens=["t"], limits=limits) as gateway, raw_client(gateway.url) as client:
        client.send(BEGINNING + b"\r\n" + BODY[:10])
        assert (await client.answer())[0] == 401
        assert await client.rest() == b"", "one answer for one request"


async def test_an_answer_may_take_its_time() -> None:
    limits = ClientLimits(header_timeout_seconds=0.4, body_timeout_seconds=0.4, keep_alive_seconds=0.4)
    slow = Behaviour(ttft_seconds=1.0)
    async with (
        FakeServer(slow) as fake,
        RunningGateway(wired(fake), limits=limits) as gateway,
        raw_client(gateway.url) as client,
    ):
        client.post(BODY)
        assert (await client.answer())[0] == 200


async def test_a_request_that_stops_behind_an_answer_under_way_does_not_spoil_it() -> None:
    limits = replace(PATIENT, header_timeout_seconds=0.1)
    paced = Behaviour(completion_tokens=20, tpot_seconds=0.03)
    async with (
        FakeServer(paced) as fake,
        RunningGateway(wired(fake), limits=limits) as gateway,
        raw_client(gateway.url) as client,
    ):
        client.send(request(chat_body(stream=True)) + BEGINNING)
        answer = await client.rest()
        assert answer.count(b"HTTP/1.1 ") == 1 and b"data: [DONE]" in answer
        assert answer.endswith(b"\r\n0\r\n\r\n")


async def test_garbage_behind_a_request_does_not_spoil_its_answer() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway, raw_client(gateway.url) as client:
        client.send(request(BODY) + b"\x00 what is this\r\n\r\n")
        assert (await client.answer())[0] == 200
        assert await client.rest() == b""


async def test_a_client_that_does_not_take_the_end_of_its_last_answer_is_dropped() -> None:
    limits = replace(PATIENT, write_timeout_seconds=0.3)
    long = Behaviour(completion_tokens=200_000)
    async with FakeServer(long) as fake, RunningGateway(wired(fake), limits=limits) as gateway:
        gateway.app.shrink_send_buffers()
        async with raw_client(gateway.url, receive_buffer=4096, reads=False) as client:
            client.post(chat_body(max_tokens=8000), b"connection: close")
            await gateway.recorded(1)
            assert gateway.last.status == 200
            await eventually(lambda: not gateway.reception.open)
