"""The official client over a balancer in the same script: one changed line, everything else as ever."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest

from balancer import AsyncLoadBalancer, Endpoint, LoadBalancer
from load_tester.fake_behaviour import Behaviour
from load_tester.fake_bodies import answer_text
from tests.fakes import FakeServer
from tests.library_parts import QUIET, Backends, endpoint
from tests.raw_server import RawRequest, RawServer, answer, says, stays_silent

MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
TEXT = answer_text(6)


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with FakeServer(Behaviour(name="gpu-1", completion_tokens=6, prompt_tokens=5, chunks_per_write=1)) as fake:
        yield fake


@pytest.fixture
async def client(fake: FakeServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with AsyncLoadBalancer([endpoint(fake)], **QUIET) as balancer, balancer.as_openai_client() as client:
        yield client


async def test_answers_whole_and_streamed(client: openai.AsyncOpenAI, fake: FakeServer) -> None:
    whole = await client.chat.completions.create(model="fake-model", messages=MESSAGES)
    assert whole.choices[0].message.content == TEXT and whole.usage is not None
    # Nothing is added that existing code did not ask for.
    assert json.loads(fake.stats.last_body) == {"model": "fake-model", "messages": MESSAGES}
    stream = await client.chat.completions.create(model="fake-model", messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert all(chunk.usage is None for chunk in chunks)
    raw = await client.chat.completions.with_raw_response.create(model="auto", messages=MESSAGES)
    assert (raw.headers["x-lb-endpoint"], raw.parse().model) == ("gpu-1", "fake-model")


async def test_usage_in_a_stream_when_asked_for(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="fake-model", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    last = [chunk async for chunk in stream][-1]
    assert last.choices == [] and last.usage is not None and last.usage.total_tokens == 11


async def test_the_other_operations(client: openai.AsyncOpenAI) -> None:
    assert len((await client.embeddings.create(model="fake-model", input=["a", "b"])).data) == 2
    assert [model.id async for model in client.models.list()] == ["fake-model"]
    assert (await client.models.retrieve("fake-model")).id == "fake-model"
    assert (await client.completions.create(model="fake-model", prompt="hi")).choices[0].text
    assert (await client.responses.create(model="fake-model", input="hi")).output_text
    async with client.responses.stream(model="fake-model", input="hi") as events:
        final = await events.get_final_response()
    assert final.usage is not None and final.usage.output_tokens == 6
    assert (await client.moderations.create(model="fake-model", input="hi")).results
    assert (await client.audio.speech.create(model="fake-model", voice="alloy", input="hi")).content
    assert (await client.images.generate(model="fake-model", prompt="a wire")).data


async def test_a_conversation_goes_on_where_it_is_kept() -> None:
    async with (
        FakeServer(Behaviour(name="a")) as a,
        FakeServer(Behaviour(name="b")) as b,
        AsyncLoadBalancer([endpoint(a), endpoint(b)], **QUIET) as balancer,
    ):
        client = balancer.as_openai_client()
        first = await client.responses.create(model="fake-model", input="hi")
        for _ in range(3):
            await client.responses.create(model="fake-model", input="more", previous_response_id=first.id)
        assert (a.stats.total_requests, b.stats.total_requests) == (4, 0)
        with pytest.raises(openai.BadRequestError, match="not known to this balancer"):
            await client.responses.create(model="fake-model", input="more", previous_response_id="resp_x")


async def test_errors_are_the_clients_own_exceptions(client: openai.AsyncOpenAI, fake: FakeServer) -> None:
    async def ask(model: str = "fake-model", **fields: Any) -> object:
        return await client.chat.completions.create(model=model, messages=MESSAGES, **fields)

    with pytest.raises(openai.NotFoundError, match="does not exist"):
        await client.models.retrieve("absent")
    with pytest.raises(openai.NotFoundError, match="is not served; known are: /v1/chat/completions"):
        await client.files.list()
    with pytest.raises(openai.BadRequestError, match="'stream' must be a boolean"):
        await ask(stream="yes")
    fake.behaviour = fake.behaviour.changed({"fault": "status", "fault_status": 400})
    with pytest.raises(openai.BadRequestError):
        await ask()
    fake.behaviour = fake.behaviour.changed({"fault_status": 500})
    with pytest.raises(openai.InternalServerError):
        await ask()
    fake.behaviour = fake.behaviour.changed({"fault_status": 401})
    with pytest.raises(openai.InternalServerError, match="endpoint 'gpu-1': refused its credentials") as refused:
        await ask()
    assert refused.value.status_code == 502


async def test_nobody_and_unknown_models() -> None:
    async with AsyncLoadBalancer([Endpoint("http://127.0.0.1:9", models=("llama-3",))], **QUIET) as balancer:
        client = balancer.as_openai_client()
        with pytest.raises(openai.NotFoundError, match="did you mean 'llama-3'") as missing:
            await client.chat.completions.create(model="lama-3", messages=MESSAGES)
        assert missing.value.code == "model_not_found"
        balancer.remove_endpoint("http://127.0.0.1:9")
        with pytest.raises(openai.InternalServerError, match="none is configured") as nobody:
            await client.chat.completions.create(model="llama-3", messages=MESSAGES)
        assert nobody.value.status_code == 503 and nobody.value.response.headers["retry-after"]


async def test_headers_and_query_go_on_but_for_the_clients_key() -> None:
    seen: list[RawRequest] = []
    body = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "real", "choices": []})
    async with RawServer(says(answer(body.encode(), b"Content-Type: application/json"), seen=seen)) as raw:
        made = Endpoint(raw.url, "sk-endpoint", name="raw", model_aliases={"nice": "real"})
        async with AsyncLoadBalancer([made], **QUIET) as balancer:
            client = balancer.as_openai_client(api_key="sk-client", default_query={"v": "1"})
            told = await client.chat.completions.create(
                model="nice", messages=MESSAGES, extra_headers={"X-Mine": "1", "Cookie": "c=1", "X-Request-Id": "r-1"}
            )
            assert told.model == "nice"
    (request,) = seen
    assert request.lines[0] == b"POST /v1/chat/completions?v=1 HTTP/1.1"
    assert {b"authorization: Bearer sk-endpoint", b"x-mine: 1", b"x-request-id: r-1"} <= set(request.lines)
    assert b"sk-client" not in request.head and b"cookie" not in request.head
    assert json.loads(request.body)["model"] == "real"


async def test_the_transport_is_not_the_callers_to_choose() -> None:
    async with AsyncLoadBalancer([Endpoint("http://127.0.0.1:9")], **QUIET) as balancer:
        with pytest.raises(TypeError, match="http_client"):
            balancer.as_openai_client(http_client=None)


async def test_the_clients_timeout_is_kept() -> None:
    async with RawServer(stays_silent) as silent, AsyncLoadBalancer([Endpoint(silent.url)], **QUIET) as balancer:
        client = balancer.as_openai_client(timeout=0.05)
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="m", messages=MESSAGES)
        stats = balancer.get_stats()["endpoints"][0]
        assert (stats["active_connections"], stats["total_failures"]) == (0, 0)


async def test_a_stream_that_breaks_raises(client: openai.AsyncOpenAI, fake: FakeServer) -> None:
    fake.behaviour = fake.behaviour.changed({"fault": "cut", "fault_after": 3, "tpot_seconds": 0.005})
    seen = 0
    with pytest.raises(openai.APIError, match="endpoint 'gpu-1': answer cut"):
        async for _ in await client.chat.completions.create(model="fake-model", messages=MESSAGES, stream=True):
            seen += 1
    assert seen >= 1


async def test_leaving_a_stream_frees_the_endpoint(client: openai.AsyncOpenAI, fake: FakeServer) -> None:
    fake.behaviour = fake.behaviour.changed({"tpot_seconds": 0.5})
    async with await client.chat.completions.create(model="fake-model", messages=MESSAGES, stream=True) as stream:
        async for _ in stream:
            break
    await fake.wait_for(lambda stats: stats.disconnects == 1)


# -- without asyncio ---------------------------------------------------------------------------------------------------


@pytest.fixture
def backends() -> Iterator[Backends]:
    with Backends() as backends:
        yield backends


def test_the_synchronous_client(backends: Backends) -> None:
    one = backends.fake(name="gpu-1", tpot_seconds=0.002)
    with LoadBalancer([endpoint(one)], **QUIET) as balancer, balancer.as_openai_client() as client:
        whole = client.chat.completions.create(model="fake-model", messages=MESSAGES)
        stream = client.chat.completions.create(model="fake-model", messages=MESSAGES, stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert whole.choices[0].message.content == streamed == TEXT
        assert [model.id for model in client.models.list()] == ["fake-model"]
        backends.run(_change(one, tpot_seconds=0.5))
        with client.chat.completions.create(model="fake-model", messages=MESSAGES, stream=True) as stream:
            next(iter(stream))
        backends.run(one.wait_for(lambda stats: stats.disconnects == 1))
        backends.run(_change(one, fault="cut", fault_after=3, tpot_seconds=0.005))
        with pytest.raises(openai.APIError, match="answer cut"):
            for _ in client.chat.completions.create(model="fake-model", messages=MESSAGES, stream=True):
                pass
        backends.run(_change(one, fault="cut", fault_after=0))
        with pytest.raises(openai.APIError):
            client.chat.completions.create(model="fake-model", messages=MESSAGES)
        assert balancer.get_stats()["endpoints"][0]["active_connections"] == 0


async def _change(fake: FakeServer, **behaviour: Any) -> None:
    fake.behaviour = fake.behaviour.changed(behaviour)


def test_failover_under_the_client(backends: Backends) -> None:
    bad, good = backends.fake(name="bad", fault="reset"), backends.fake(name="good")
    with LoadBalancer([endpoint(bad), endpoint(good)], **QUIET) as balancer:
        client = balancer.as_openai_client()
        raw = client.chat.completions.with_raw_response.create(model="fake-model", messages=MESSAGES)
        assert raw.headers["x-lb-endpoint"] == "good"


async def test_any_http_client_may_use_the_transport(client: openai.AsyncOpenAI) -> None:
    # Files and other bodies that are no JSON have no place here, but must not do harm either.
    async with httpx.AsyncClient(transport=client._client._transport, base_url="http://balancer") as plain:  # type: ignore[arg-type]
        assert (await plain.get("/v1/models")).json()["data"][0]["id"] == "fake-model"
        assert (await plain.post("/v1/chat/completions", content=b"\xff")).status_code == 400
        assert (await plain.post("/v1/audio/transcriptions", files={"file": b"x"})).status_code == 404
        for field in ({"x-bad": "a\r\nx-evil: 1"}, {"x bad": "1"}, {"x-bad": "a\0"}):
            refused = await plain.post("/v1/chat/completions", json={"model": "fake-model"}, headers=field)
            assert refused.status_code == 400 and "cannot be sent" in refused.text
        assert (await plain.request("DELETE", "/v1/models/fake-model")).status_code == 404


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "balancer.library.openai_client", raising=False)
    monkeypatch.setitem(sys.modules, "openai", None)
    balancer = AsyncLoadBalancer([Endpoint("http://127.0.0.1:9")], **QUIET)
    with pytest.raises(ImportError, match="needs the package openai: pip install openai"):
        balancer.as_openai_client()
    asyncio.run(balancer.close())
