"""Tokens: asked for where needed, taken out where nobody asked, counted everywhere the same."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, get_args

import pytest

from balancer.core.endpoints import Provenance, Usage
from load_tester.fake_behaviour import Behaviour, UsageStyle
from tests.fakes import BODIES, FakeServer, events_of, http_client
from tests.raw_server import RawRequest, RawServer, answer, read_request, says
from tests.running import CHAT_PATH, RunningGateway, chat_body, content_of, eventually, wired

ASKS = {"stream_options": {"include_usage": True}}
STYLES = get_args(UsageStyle)
PATHS = ["chat/completions", "completions"]


def streamed(path: str, **fields: Any) -> dict[str, Any]:
    return {**BODIES[path], "model": "fake-model", "max_tokens": 5, "stream": True, **fields}


async def directly(behaviour: Behaviour, path: str, body: dict[str, Any]) -> bytes:
    """What the endpoint answers to a client that goes straight to it."""
    async with FakeServer(behaviour) as fake, http_client(fake) as client:
        return timeless((await client.post(f"/{path}", json=body)).content)


def timeless(stream: bytes) -> bytes:
    return re.sub(rb'"created":\d+', b'"created":0', stream)


def sent_to(fake: FakeServer) -> Any:
    """The body of the last request."""
    return json.loads(fake.stats.last_body)


# -- include_usage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("line_ending", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("style", STYLES)
async def test_a_client_that_did_not_ask_sees_what_it_would_see_directly(
    style: UsageStyle, line_ending: str, path: str
) -> None:
    behaviour = Behaviour(usage_style=style, line_ending=line_ending, data_space=path == "completions", prompt_tokens=9)
    body = streamed(path)
    async with FakeServer(behaviour) as fake, RunningGateway(wired(fake)) as gateway:
        response = await gateway.client.post(f"/v1/{path}", json=body)

        seen, expected = timeless(response.content), await directly(behaviour, path, body)
        if style == "reject_include_usage":
            assert "stream_options" not in sent_to(fake)
            seen = seen.replace(b"fake-2", b"fake-1")  # it was the second try
        else:
            assert sent_to(fake) == {**body, **ASKS}
        if style == "every_chunk":
            seen = seen.replace(b',"usage":null', b"")
        if style == "always":
            # Whoever sends it unasked cannot be told from one who was asked: it is taken out.
            expected = b"".join(part for part in _events(expected) if b'"choices":[],' not in part)
        assert seen == expected
        usage = gateway.last.usage
        assert usage is not None
        if style in ("never", "reject_include_usage"):
            assert usage.provenance is Provenance.ESTIMATED
            assert usage.completion_tokens == len(_events(expected)) - 1
        else:
            assert usage == Usage(9, 5)


def _events(stream: bytes) -> list[bytes]:
    return re.findall(rb".*?(?:\r\n\r\n|\n\n)", stream, re.DOTALL)


@pytest.mark.parametrize("style", STYLES)
async def test_a_client_that_asks_itself_gets_every_byte(style: UsageStyle) -> None:
    behaviour = Behaviour(usage_style=style, prompt_tokens=9)
    body = streamed("chat/completions", **ASKS)
    async with FakeServer(behaviour) as fake, RunningGateway(wired(fake)) as gateway:
        response = await gateway.client.post("/v1/chat/completions", json=body)
        assert sent_to(fake) == body
        assert timeless(response.content) == await directly(behaviour, "chat/completions", body)
        assert fake.stats.total_requests == 1
        assert response.status_code == (400 if style == "reject_include_usage" else 200)


@pytest.mark.parametrize("options", [{"include_usage": False}, {"other": 1}, {}, None])
async def test_other_stream_options_of_the_client_stay(options: dict[str, Any] | None) -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        response = await gateway.chat(stream=True, stream_options=options)
        assert sent_to(fake)["stream_options"] == {**(options or {}), "include_usage": True}
        assert b'"usage"' not in response.content


async def test_not_asked_where_the_operator_says_so_nor_without_a_stream() -> None:
    async with FakeServer() as fake:
        async with RunningGateway(wired(fake, include_usage=False)) as gateway:
            await gateway.chat(stream=True)
            assert "stream_options" not in sent_to(fake)
            assert gateway.last.usage is not None
            assert gateway.last.usage.provenance is Provenance.ESTIMATED
        async with RunningGateway(wired(fake)) as gateway:
            await gateway.client.post(CHAT_PATH, content=chat_body())
            assert fake.stats.last_body == chat_body()
            await gateway.client.post("/v1/responses", json={"input": "hello", "stream": True})
            assert "stream_options" not in sent_to(fake)


async def test_a_rejection_of_the_option_costs_one_request_and_is_remembered() -> None:
    async with (
        FakeServer(Behaviour(usage_style="reject_include_usage")) as fake,
        RunningGateway(wired(fake)) as gateway,
    ):
        for total in (2, 3, 4):
            response = await gateway.chat(stream=True)
            assert (response.status_code, response.headers["x-attempts"]) == (200, "1")
            assert content_of(response.text)
            assert fake.stats.total_requests == total
        # Another base URL is another server.
        state = gateway.state()
        async with FakeServer() as other:
            gateway.pool.apply(wired(other))
            assert state.endpoint.base_url == other.base_url
            await gateway.chat(stream=True)
            assert sent_to(other)["stream_options"] == {"include_usage": True}


async def test_an_ordinary_400_passes_after_at_most_one_more_try() -> None:
    refusing = Behaviour(fault="status", fault_status=400)
    async with FakeServer(refusing) as fake, FakeServer() as good, RunningGateway(wired(fake, good)) as gateway:
        response = await gateway.chat(stream=True)
        assert (response.status_code, response.headers["x-attempts"]) == (400, "1")
        assert (fake.stats.total_requests, good.stats.total_requests) == (2, 0)
        assert gateway.last.attempts[0].outcome == "neutral"
        # It says nothing about the option: that is still asked for.
        fake.behaviour = Behaviour()
        await gateway.chat(stream=True)
        assert "stream_options" in sent_to(fake)
        # Now that it is known to accept it, a 400 is the client's.
        fake.behaviour = refusing
        fake.stats.reset()
        assert (await gateway.chat(stream=True)).status_code == 400
        assert fake.stats.total_requests == 1


async def test_a_complaint_that_names_the_option_is_believed_at_any_time() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        await gateway.chat(stream=True)
        fake.behaviour = Behaviour(usage_style="reject_include_usage")
        assert (await gateway.chat(stream=True)).status_code == 200
        assert "stream_options" not in sent_to(fake)


async def test_a_second_try_that_fails_otherwise_is_judged_by_itself() -> None:
    complaint = answer(b'{"error": "stream_options"}', status=b"400 Bad Request")
    unavailable = answer(b"{}", status=b"503 Unavailable")
    async with (
        RawServer(says(complaint, unavailable)) as server,
        FakeServer() as good,
        RunningGateway(wired(server.url, good)) as gateway,
    ):
        response = await gateway.chat(stream=True)
        assert (response.status_code, response.headers["x-attempts"]) == (200, "2")
        assert [attempt.outcome for attempt in gateway.last.attempts] == ["failed", "success"]


# -- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["final_chunk", "never"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "embeddings", "rerank"])
async def test_every_operation_is_counted_in_every_place(path: str, stream: bool, style: UsageStyle) -> None:
    behaviour = Behaviour(usage_style=style, prompt_tokens=40, completion_tokens=5)
    body = {**BODIES[path], "model": "fake-model"}
    generates = path not in ("embeddings", "rerank")
    if stream and generates:
        body["stream"] = True
    async with FakeServer(behaviour) as fake, RunningGateway(wired(fake), tokens=["secret"]) as gateway:
        sent = json.dumps(body).encode()
        response = await gateway.client.post(f"/v1/{path}", content=sent, headers={"authorization": "Bearer secret"})
        assert response.status_code == 200

        await gateway.settled()
        usage = gateway.last.usage
        assert usage is not None
        if style == "final_chunk":
            assert usage == Usage(40, 5 if generates else 0)
        else:
            assert usage.provenance is Provenance.ESTIMATED
            assert usage.prompt_tokens == len(sent) // 4
            assert (usage.completion_tokens > 0) is generates
        check_counted(gateway, usage)
        assert (response.headers["x-request-id"], gateway.last.streamed) == (gateway.last.request_id, "stream" in body)


def check_counted(gateway: RunningGateway, usage: Usage) -> None:
    """One request's usage, and nothing else, stands in all totals."""
    state, (client, *_) = gateway.state(), gateway.tokens
    pair = (usage.prompt_tokens, usage.completion_tokens)
    assert (state.prompt_tokens_total, state.completion_tokens_total) == pair
    assert (client.name, client.requests, client.prompt_tokens, client.completion_tokens) == ("env-1", 1, *pair)
    now = gateway.gateway.clock()
    for series in (gateway.traffic.total, gateway.traffic.series(1)):
        rates = series.rates(now)
        assert round(60 * rates.tokens_per_second, 6) == usage.total_tokens
        assert round(60 * rates.requests_per_second, 6) == 1
    minutes = list(gateway.traffic.minutes.values())
    assert [(minute.requests, minute.failures) for minute in minutes] == [(1, 0)]
    assert [(minute.prompt_tokens, minute.completion_tokens) for minute in minutes] == [pair]
    counted = {kind: count for (_, kind, provenance), count in gateway.traffic.tokens.items()}
    assert counted == {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens}
    assert {provenance for _, _, provenance in gateway.traffic.tokens} == {usage.provenance}


@pytest.mark.parametrize("path", ["moderations", "images/generations", "audio/speech"])
async def test_what_reports_nothing_passes_and_is_counted_as_a_request(path: str) -> None:
    async with FakeServer() as fake, http_client(fake) as direct, RunningGateway(wired(fake)) as gateway:
        body = {**BODIES[path], "model": "fake-model"}
        response = await gateway.client.post(f"/v1/{path}", json=body)
        expected = (await direct.post(f"/{path}", json=body)).content.replace(b"fake-2", b"fake-1")
        assert timeless(response.content) == timeless(expected)
        assert (gateway.last.usage is None) is (path != "moderations")
        assert gateway.state().total_success == 1


async def test_errors_cost_no_tokens() -> None:
    async with FakeServer(Behaviour(fault="status")) as broken, FakeServer(Behaviour(prompt_tokens=7)) as good:
        async with RunningGateway(wired(broken)) as gateway:
            await gateway.chat()
            assert gateway.last.usage is None
        async with RunningGateway(wired(broken, good)) as gateway:
            await gateway.chat(max_tokens=3)
            assert gateway.last.usage == Usage(7, 3)
            assert (gateway.state(1).prompt_tokens_total, gateway.state(2).prompt_tokens_total) == (0, 7)


async def test_usage_in_the_last_but_one_packet() -> None:
    async with (
        FakeServer(Behaviour(done_in_own_packet=True, prompt_tokens=9)) as fake,
        RunningGateway(wired(fake)) as gateway,
    ):
        assert events_of((await gateway.chat(stream=True, max_tokens=3)).text)[-1] == "[DONE]"
        assert gateway.last.usage == Usage(9, 3)


async def test_live_counts_settle_to_the_true_number() -> None:
    """Events say too little here: each holds ten tokens. The stream counts while it runs, and is right in the end."""
    release = asyncio.Event()
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"ten tokens"}}]}\n\n'
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":50,"total_tokens":61}}\n\n'

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + chunk)
        for _ in range(4):
            await asyncio.sleep(0.1)
            writer.write(chunk)
        await release.wait()
        writer.write(usage + b"data: [DONE]\n\n")

    async with RawServer(script) as server, RunningGateway(wired(server.url)) as gateway:
        running = gateway.leaving(stream=True)
        series, clock = gateway.traffic.series, gateway.gateway.clock
        await eventually(lambda: series(1).rates(clock()).tokens_per_second > 0, "a count before the end")
        release.set()
        await running
        assert gateway.last.usage == Usage(11, 50)
        for each in (gateway.traffic.total, series(1)):
            assert round(60 * each.rates(clock()).tokens_per_second, 6) == 61


async def test_the_answer_of_a_compressing_endpoint_passes_unread() -> None:
    seen: list[RawRequest] = []
    packed = b"\x1f\x8b not really gzip"
    said = answer(packed, b"Content-Encoding: gzip", b"Content-Type: application/json")
    async with RawServer(says(said, seen=seen)) as server, RunningGateway(wired(server.url)) as gateway:
        async with gateway.client.stream("POST", "/v1/chat/completions", content=chat_body()) as response:
            assert b"".join([part async for part in response.aiter_raw()]) == packed
        assert b"accept-encoding: identity" in seen[0].lines
        await gateway.settled()
        assert gateway.last.usage is not None
        assert gateway.last.usage.provenance is Provenance.ESTIMATED
