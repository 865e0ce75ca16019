"""Chats that come piece by piece, in both faces of the library: text, result, breaks, and leaving early."""

from __future__ import annotations

import asyncio
import gc
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer import AsyncLoadBalancer, ChatStream, Endpoint, LoadBalancer
from balancer.library.results import StreamedChat
from load_tester.fake_behaviour import Behaviour
from load_tester.fake_bodies import answer_text
from tests.fakes import FakeServer
from tests.library_parts import MESSAGES, QUIET, Backends, endpoint, until
from tests.raw_server import RawServer, answer, chunked, says, says_and_closes

TEXT = answer_text(6)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def fake(name: str = "gpu-1", **behaviour: Any) -> FakeServer:
    return FakeServer(Behaviour(**{"name": name, "completion_tokens": 6, **behaviour}))


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def delta(**fields: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": fields}])


def streams(*events: bytes) -> RawServer:
    return RawServer(says(HEAD + chunked(*events)))


async def test_the_pieces_and_the_result() -> None:
    async with fake(chunks_per_write=1) as one, AsyncLoadBalancer([endpoint(one)], **QUIET) as balancer:
        stream = await balancer.chat(MESSAGES, stream=True)
        assert stream.endpoint == "gpu-1"
        pieces = [piece async for piece in stream]
        assert len(pieces) == 6 and "".join(pieces) == TEXT
        result = stream.result
        assert 0 < result.pop("response_time") < 5
        assert result.pop("usage")["completion_tokens"] == 6  # asked for, although the call did not
        assert result == {"success": True, "content": TEXT, "tool_calls": [], "error": "", "endpoint": "gpu-1"}
        assert balancer.get_stats()["total_success"] == 1
        assert [piece async for piece in stream] == []


async def test_tasks_may_share_a_stream() -> None:
    async with fake(completion_tokens=60) as one, AsyncLoadBalancer([endpoint(one)], **QUIET) as balancer:
        stream = await balancer.chat(MESSAGES, stream=True)

        async def take() -> int:
            return len([piece async for piece in stream])

        counts = await asyncio.gather(*(take() for _ in range(3)))
        assert sum(counts) == 60 and stream.result["success"]


def test_threads_may_share_a_stream() -> None:
    with Backends() as backends:
        one = backends.fake(completion_tokens=60, tpot_seconds=0.001)
        with LoadBalancer([endpoint(one)], **QUIET) as balancer, ThreadPoolExecutor(3) as threads:
            stream = balancer.chat(MESSAGES, stream=True)
            counts = list(threads.map(lambda _: len(list(stream)), range(3)))
            assert sum(counts) == 60 and stream.result["success"]


async def test_before_the_end_there_is_no_success() -> None:
    async with fake() as one, AsyncLoadBalancer([endpoint(one)], **QUIET) as balancer:
        stream = await balancer.chat(MESSAGES, stream=True)
        assert (stream.result["success"], stream.result["error"]) == (False, "the stream has not ended yet")
        await stream.aclose()
        assert stream.result["error"] == "the stream was closed before its end"
        assert [piece async for piece in stream] == []
        stats = balancer.get_stats()
        assert (stats["total_failures"], stats["endpoints"][0]["active_connections"]) == (0, 0)


async def test_calls_of_tools_come_in_parts() -> None:
    def part(index: int, **call: Any) -> bytes:
        return delta(tool_calls=[{"index": index, **call}])

    events = (
        part(0, id="c1", type="function", function={"name": "add", "arguments": ""}),
        part(1, id="c2", function={"name": "sub", "arguments": '{"b":'}),
        part(0, function={"arguments": '{"a":'}),
        part(1, function={"arguments": " 2}"}) + part(0, function={"arguments": " 1}"}),
        b"data: [DONE]\n\n",
    )
    async with streams(*events) as raw, AsyncLoadBalancer([Endpoint(raw.url)], **QUIET) as balancer:
        stream = await balancer.chat(MESSAGES, model="m", stream=True)
        assert [piece async for piece in stream] == []
        assert stream.result["success"]
        assert stream.result["tool_calls"] == [
            {"id": "c1", "name": "add", "arguments": {"a": 1}},
            {"id": "c2", "name": "sub", "arguments": {"b": 2}},
        ]


@pytest.mark.parametrize("ending", [b"", b"data: [DONE]\n\n"])
async def test_odd_events_do_no_harm(ending: bytes) -> None:
    odd = b": comment\n\ndata: nonsense\n\n" + event(choices=[3]) + event(choices=[{"delta": 4}]) + event(choices=5)
    rest = delta(content=["x"], tool_calls=6) + delta(content="b", tool_calls=[{"index": "x"}])
    last = ending or delta(content="c").rstrip()  # a stream may end without a blank line
    async with (
        streams(delta(content="a"), odd, rest + last) as raw,
        AsyncLoadBalancer([Endpoint(raw.url)], **QUIET) as balancer,
    ):
        stream = await balancer.chat(MESSAGES, model="m", stream=True)
        assert "".join([piece async for piece in stream]) == ("ab" if ending else "abc")
        assert stream.result["success"]


async def test_an_endpoint_that_does_not_stream() -> None:
    body = json.dumps({"choices": [{"message": {"content": "whole"}}]}).encode()
    async with (
        RawServer(says(answer(body), answer(b"<html>"))) as raw,
        AsyncLoadBalancer([Endpoint(raw.url, name="raw")], **QUIET) as balancer,
    ):
        stream = await balancer.chat(MESSAGES, model="m", stream=True)
        assert [piece async for piece in stream] == ["whole"] and stream.result["success"]
        stream = await balancer.chat(MESSAGES, model="m", stream=True)
        assert [piece async for piece in stream] == []
        assert stream.result["error"] == "endpoint 'raw': answered something that is not JSON"


async def test_failover_before_the_first_piece_and_none_after_it() -> None:
    async with fake("early", fault="error_in_200") as early, fake("late", fault="cut", fault_after=3) as late:
        late.behaviour = late.behaviour.changed({"chunks_per_write": 1, "tpot_seconds": 0.005})
        async with AsyncLoadBalancer(map(endpoint, (early, late)), **QUIET) as balancer:
            stream = await balancer.chat(MESSAGES, model="fake-model", stream=True)
            pieces = [piece async for piece in stream]
            result = stream.result
            assert 1 <= len(pieces) < 6
            assert (result["success"], result["endpoint"], result["content"]) == (False, "late", "".join(pieces))
            assert result["error"].startswith("endpoint 'late': answer cut after")
            assert [each["total_failures"] for each in balancer.get_stats()["endpoints"]] == [1, 1]


async def test_an_error_in_the_middle_of_a_stream() -> None:
    async with (
        streams(delta(content="a"), event(error={"message": "out of memory"})) as raw,
        AsyncLoadBalancer([Endpoint(raw.url, name="raw")], **QUIET) as balancer,
    ):
        stream = await balancer.chat(MESSAGES, model="m", stream=True)
        assert [piece async for piece in stream] == ["a"]
        assert stream.result["error"] == "endpoint 'raw': broke off its answer: out of memory"
        assert balancer.get_stats()["total_failures"] == 1


async def test_a_stream_that_nobody_begins() -> None:
    async with fake(fault="status", fault_status=400) as one, AsyncLoadBalancer([endpoint(one)], **QUIET) as balancer:
        for status, is_named in ((400, True), (500, False)):
            one.behaviour = one.behaviour.changed({"fault_status": status})
            stream = await balancer.chat(MESSAGES, model="fake-model", stream=True)
            assert [piece async for piece in stream] == []
            assert stream.result["endpoint"] == ("gpu-1" if is_named else None)
            assert f"endpoint 'gpu-1': answered {status}: " in stream.result["error"]


async def test_an_endpoint_that_refuses_the_usage_option() -> None:
    async with fake(usage_style="reject_include_usage") as one, AsyncLoadBalancer([endpoint(one)], **QUIET) as balancer:
        stream = await balancer.chat(MESSAGES, model="fake-model", stream=True)
        assert "".join([piece async for piece in stream]) == TEXT
        assert stream.result["success"] and stream.result["usage"] == {}


async def test_leaving_early_frees_the_endpoint() -> None:
    async with (
        fake(tpot_seconds=0.5, completion_tokens=1000) as one,
        AsyncLoadBalancer([endpoint(one, max_tokens=1000)], **QUIET) as balancer,
    ):
        async with await balancer.chat(MESSAGES, stream=True) as stream:
            assert await anext(stream)
        await one.wait_for(lambda stats: stats.disconnects == 1)
        stream = await balancer.chat(MESSAGES, stream=True)
        await anext(stream)
        del stream
        gc.collect()
        await one.wait_for(lambda stats: stats.disconnects == 2)
        stream = await balancer.chat(MESSAGES, stream=True)
        await anext(stream)
        pending = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        pending.cancel()
        await one.wait_for(lambda stats: stats.inflight == 0)
        stats = balancer.get_stats()
        assert (stats["total_failures"], stats["endpoints"][0]["active_connections"]) == (0, 0)


@given(st.lists(st.integers(0, 400), max_size=8))
def test_the_pieces_of_a_stream_do_not_matter(cuts: list[int]) -> None:
    events = (
        delta(role="assistant", content="") + delta(content="voilà ") + delta(content="日本"),
        delta(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "add", "arguments": '{"a": 1}'}}]),
        event(choices=[], usage={"total_tokens": 7}) + b"data: [DONE]\n\n",
    )
    data = b"".join(events)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chat = StreamedChat()
    texts = [text for start, end in pairwise(places) for text in chat.feed(data[start:end])] + chat.finish()
    assert texts == ["voilà ", "日本"] == chat.content
    assert chat.tool_calls == [{"id": "c1", "name": "add", "arguments": {"a": 1}}]
    assert (chat.usage, chat.broken) == ({"total_tokens": 7}, "")


# -- without asyncio ---------------------------------------------------------------------------------------------------


def test_pieces_without_asyncio() -> None:
    with Backends() as backends:
        one = backends.fake(chunks_per_write=1, tpot_seconds=0.002)
        with LoadBalancer([endpoint(one)], **QUIET) as balancer:
            stream = balancer.chat(MESSAGES, stream=True)
            assert isinstance(stream, ChatStream) and stream.endpoint == "fake"
            assert repr(stream) == "<ChatStream of 'fake'>"
            pieces = list(stream)
            assert len(pieces) == 6 and "".join(pieces) == TEXT == stream.result["content"]
            assert stream.result["success"] and list(stream) == []


def test_leaving_early_without_asyncio() -> None:
    with Backends() as backends:
        one = backends.fake(tpot_seconds=0.5, completion_tokens=1000)
        with LoadBalancer([endpoint(one, max_tokens=1000)], **QUIET) as balancer:
            for _ in balancer.chat(MESSAGES, stream=True):
                break
            until(lambda: one.stats.disconnects == 1)
            with balancer.chat(MESSAGES, stream=True) as stream:
                next(stream)
            until(lambda: one.stats.disconnects == 2)
            assert stream.result["error"] == "the stream was closed before its end"
            open_at_the_end = balancer.chat(MESSAGES, stream=True)
            next(open_at_the_end)
        until(lambda: one.stats.connections == 0)
        open_at_the_end.close()
        with pytest.raises(RuntimeError, match="closed"):
            next(open_at_the_end)


def test_a_break_without_asyncio() -> None:
    with Backends() as backends:
        raw = backends.raw(says_and_closes(HEAD + chunked(delta(content="a"), last=False)))
        with LoadBalancer([Endpoint(raw.url, name="raw")], **QUIET) as balancer:
            stream = balancer.chat(MESSAGES, model="m", stream=True)
            assert list(stream) == ["a"]
            assert "answer cut after" in stream.result["error"]
