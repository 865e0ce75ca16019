"""An endpoint that breaks after its answer was begun: the client is told, nothing is resent, nothing looks whole."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from balancer.core.endpoints import Outcome, Provenance
from load_tester.fake_behaviour import Behaviour
from load_tester.fake_faults import FAULT_MESSAGE
from tests.fakes import FakeServer, events_of
from tests.raw_server import RawServer, answer, chunked, dechunked, read_request, says_and_closes
from tests.running import RunningGateway, chat_body, raw_client, wired

SILENCE_SECONDS = 0.4
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED_HEAD = STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
CLOSING = b"connection: close"


async def raw_chat(gateway: RunningGateway, **fields: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, header fields and every byte behind them until the balancer closes."""
    async with raw_client(gateway.url) as client:
        client.post(chat_body(**fields))
        status, headers = await client.head()
        return status, headers, await client.rest()


def check_broken(gateway: RunningGateway, words: str) -> None:
    """One failed attempt behind a 200, with what had passed until then."""
    record = gateway.last
    assert (record.status, len(record.attempts)) == (200, 1)
    assert words in record.error
    assert record.attempts[0].outcome == Outcome.FAILED.value
    assert words in record.attempts[0].result
    state = gateway.state()
    assert (state.total_requests, state.total_failures, state.total_success) == (1, 1, 0)
    assert state.breaker.failures == 1
    assert record.usage is not None
    assert record.usage.provenance is Provenance.PARTIAL
    assert state.prompt_tokens_total == record.usage.prompt_tokens > 0
    assert state.completion_tokens_total == record.usage.completion_tokens
    assert gateway.failures() == gateway.failures(1) == 1
    assert [minute.failures for minute in gateway.traffic.minutes.values()] == [1]
    assert gateway.traffic.errors["upstream"] + gateway.traffic.errors["timeout"] == 1


@pytest.mark.parametrize("line_ending", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("asks", [False, True], ids=["injected", "as asked"])
@pytest.mark.parametrize("fault", ["cut", "stall_body"])
async def test_a_stream_that_breaks_ends_in_an_error_event(fault: Any, asks: bool, line_ending: str) -> None:
    behaviour = Behaviour(name="brittle", fault=fault, fault_after=4, line_ending=line_ending)
    async with FakeServer(behaviour) as brittle, FakeServer() as good:
        endpoints = wired(brittle, good, timeout=SILENCE_SECONDS)
        async with RunningGateway(endpoints) as gateway:
            options = {"stream_options": {"include_usage": True}} if asks else {}
            status, headers, body = await raw_chat(gateway, stream=True, **options)

            assert status == 200
            *chunks, last = events_of(dechunked(body).decode())
            assert len(chunks) == 4
            assert chunks[1]["choices"][0]["delta"]["content"] == "Tokens"
            assert set(last) == {"error"}
            assert "endpoint 'brittle'" in last["error"]["message"]
            assert headers[b"x-lb-endpoint"] == b"brittle"
            assert good.stats.total_requests == 0, "nothing is sent twice"
            await gateway.settled()
            check_broken(gateway, "cut after" if fault == "cut" else "silent for")
            assert gateway.last.usage is not None
            assert gateway.last.usage.completion_tokens == 4


async def test_a_break_inside_an_event_does_not_swallow_the_error() -> None:
    pieces = CHUNKED_HEAD + chunked(EVENT % b"one", b'data: {"choices":[{"del', last=False)
    async with (
        RawServer(says_and_closes(pieces)) as server,
        RunningGateway(wired(server.url, include_usage=False)) as gateway,
    ):
        _, _, body = await raw_chat(gateway, stream=True)
        first, broken, error = dechunked(body).removesuffix(b"\n\n").split(b"\n\n")
        assert first + b"\n\n" == EVENT % b"one"
        assert broken == b'data: {"choices":[{"del'
        assert "cut after" in json.loads(error.removeprefix(b"data: "))["error"]["message"]


async def test_an_unfinished_event_that_was_held_back_is_dropped() -> None:
    pieces = CHUNKED_HEAD + chunked(EVENT % b"one", b'data: {"choices":[{"del', last=False)
    async with RawServer(says_and_closes(pieces)) as server, RunningGateway(wired(server.url)) as gateway:
        _, _, body = await raw_chat(gateway, stream=True)
        first, error = dechunked(body).removesuffix(b"\n\n").split(b"\n\n")
        assert first + b"\n\n" == EVENT % b"one"
        assert b'"error"' in error


async def test_an_error_event_fits_into_a_stream_of_a_declared_length() -> None:
    head = STREAM_HEAD + b"Content-Length: 5000\r\n\r\n"
    async with (
        RawServer(says_and_closes(head + EVENT % b"one")) as server,
        RunningGateway(wired(server.url, include_usage=False)) as gateway,
    ):
        _, headers, body = await raw_chat(gateway, stream=True)
        assert b"content-length" not in headers
        assert b'data: {"error"' in dechunked(body)


async def test_an_encoded_stream_is_cut_rather_than_garbled() -> None:
    packed = gzip.compress(EVENT % b"one" * 1000)
    head = STREAM_HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    # Compressed events are not understood: they go on after 64 KB, or when the hold is over.
    pieces = chunked(packed + bytes(65_536), last=False)
    async with RawServer(says_and_closes(head + pieces)) as server, RunningGateway(wired(server.url)) as gateway:
        _, headers, body = await raw_chat(gateway, stream=True)
        assert headers[b"content-encoding"] == b"gzip"
        assert packed in body
        assert b"error" not in body
        assert not body.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("aliases", [{}, {"fake-model": "real"}], ids=["plain", "aliased"])
async def test_a_long_answer_that_breaks_is_cut_for_the_client_too(framing: str, aliases: dict[str, str]) -> None:
    text = b'{"choices": "' + b"x" * 100_000
    if framing == "length":
        said = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + text
    else:
        said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(text, last=False)
    async with (
        RawServer(says_and_closes(said)) as server,
        RunningGateway(wired(server.url, model_aliases=aliases)) as gateway,
    ):
        status, headers, body = await raw_chat(gateway)
        assert status == 200
        if b"content-length" in headers:
            assert headers[b"content-length"] == b"200000"
            assert body == text
        else:
            assert headers[b"transfer-encoding"] == b"chunked"
            assert not body.endswith(b"0\r\n\r\n")
            assert b"error" not in body
        await gateway.settled()
        check_broken(gateway, "cut after 100,013")


async def test_a_short_answer_that_breaks_is_mended_elsewhere() -> None:
    cut = says_and_closes(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 50_000)
    async with (
        RawServer(cut) as server,
        FakeServer(Behaviour(name="good")) as good,
        RunningGateway(wired(server.url, good)) as gateway,
    ):
        response = await gateway.chat()
        assert response.json()["object"] == "chat.completion"
        assert response.headers["x-attempts"] == "2"


async def test_a_break_in_an_error_answer_after_a_failed_stream() -> None:
    """What the first attempt's answer was must not decide how the second one's is ended."""
    cut = says_and_closes(b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\n{")
    async with (
        FakeServer(Behaviour(fault="error_in_200")) as first,
        RawServer(cut) as second,
        RunningGateway(wired(first, second.url)) as gateway,
    ):
        status, headers, body = await raw_chat(gateway, stream=True)
        assert (status, headers[b"content-length"], body) == (500, b"100", b"{")
        assert [attempt.outcome for attempt in gateway.last.attempts] == ["failed", "failed"]


async def test_times_are_those_of_the_answer_that_was_relayed() -> None:
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(1.0)
        writer.write(answer(b"{}", status=b"500 Oops"))

    async with (
        FakeServer(Behaviour(fault="error_in_200")) as first,
        RawServer(late) as second,
        RunningGateway(wired(first, second.url)) as gateway,
    ):
        assert (await gateway.chat(stream=True)).status_code == 500
        record = gateway.last
        assert record.first_byte_seconds is not None and record.first_byte_seconds > 0.9
        assert record.overhead_seconds is not None and record.overhead_seconds < 0.9


async def test_an_error_event_of_the_endpoint_itself_passes() -> None:
    async with (
        FakeServer(Behaviour(fault="error_in_200", fault_after=3)) as fake,
        RunningGateway(wired(fake)) as gateway,
    ):
        events = events_of((await gateway.chat(stream=True)).text)
        assert len(events) == 4
        assert events[-1]["error"]["message"] == FAULT_MESSAGE


async def test_bytes_behind_an_answer_reach_nobody() -> None:
    poisoned = answer(b'{"mine": 1}') + answer(b'{"yours": 1}')
    async with RawServer(says_and_closes(poisoned)) as server, RunningGateway(wired(server.url)) as gateway:
        assert (await gateway.chat()).json() == {"mine": 1}
        assert (await gateway.chat()).json() == {"mine": 1}
        assert server.connections == 2
