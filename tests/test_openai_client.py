"""The official `openai` client against the running balancer: sync and async, streamed or not, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.running_balancer import RunningBalancer

MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
TOKEN = "client-token-1"


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with FakeServer(Behaviour(prompt_tokens=5, completion_tokens=6)) as fake:
        yield fake


@pytest.fixture
async def balancer(tmp_path: Path, fake: FakeServer) -> AsyncIterator[RunningBalancer]:
    async with RunningBalancer(tmp_path, client_tokens=(TOKEN,), max_retries=1) as balancer:
        await balancer.add("gpu-1", fake)
        yield balancer


@pytest.fixture
async def client(balancer: RunningBalancer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{balancer.url}/v1", api_key=TOKEN, max_retries=0) as client:
        yield client


async def test_answers_whole_and_streamed(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="fake-model", messages=MESSAGES)
    assert whole.usage is not None and whole.usage.completion_tokens == 6
    stream = await client.chat.completions.create(model="fake-model", messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert all(chunk.usage is None for chunk in chunks)


async def test_usage_in_a_stream_when_asked_for(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="fake-model", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    last = [chunk async for chunk in stream][-1]
    assert last.choices == [] and last.usage is not None and last.usage.total_tokens == 11


async def test_the_other_operations(client: AsyncOpenAI) -> None:
    embedding = await client.embeddings.create(model="fake-model", input=["a", "b"])
    assert len(embedding.data) == 2
    assert [model.id async for model in client.models.list()] == ["fake-model"]
    assert (await client.models.retrieve("fake-model")).id == "fake-model"
    assert (await client.completions.create(model="fake-model", prompt="hi")).choices[0].text
    first = await client.responses.create(model="fake-model", input="hi")
    assert first.output_text
    second = await client.responses.create(model="fake-model", input="more", previous_response_id=first.id)
    assert second.id != first.id
    async with client.responses.stream(model="fake-model", input="hi") as events:
        final = await events.get_final_response()
    assert final.usage is not None and final.usage.output_tokens == 6
    assert (await client.moderations.create(model="fake-model", input="hi")).results
    speech = await client.audio.speech.create(model="fake-model", voice="alloy", input="hi")
    assert speech.content
    assert (await client.images.generate(model="fake-model", prompt="a wire")).data


async def test_errors_are_the_clients_own_exceptions(
    client: AsyncOpenAI, balancer: RunningBalancer, fake: FakeServer
) -> None:
    async def ask(**options: object) -> object:
        return await client.chat.completions.create(model="fake-model", messages=MESSAGES, **options)  # type: ignore[call-overload]

    with pytest.raises(openai.AuthenticationError) as refused:
        await client.with_options(api_key="wrong").chat.completions.create(model="fake-model", messages=MESSAGES)
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="absent", messages=MESSAGES)
    calm = fake.behaviour
    fake.behaviour = replace(calm, fault="status", fault_status=400)
    with pytest.raises(openai.BadRequestError):
        await ask()
    fake.behaviour = replace(calm, fault="status", fault_status=429, retry_after="7")
    with pytest.raises(openai.RateLimitError) as limited:
        await ask()
    assert limited.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.RateLimitError):
        await ask()  # throttled: the endpoint is not asked again
    assert (await balancer.endpoint("gpu-1"))["reason"] == "throttled"


async def test_a_stream_that_breaks_raises(client: AsyncOpenAI, balancer: RunningBalancer, fake: FakeServer) -> None:
    fake.behaviour = replace(fake.behaviour, fault="cut", fault_after=3, chunks_per_write=1, tpot_seconds=0.01)
    seen = 0
    with pytest.raises(openai.APIError):
        async for _ in await client.chat.completions.create(model="fake-model", messages=MESSAGES, stream=True):
            seen += 1
    assert seen >= 1
    record = (await balancer.admin("GET", "/requests"))["requests"][0]
    assert record["provenance"] == "partial"


async def test_the_synchronous_client(balancer: RunningBalancer) -> None:
    def ask() -> tuple[str, str]:
        with OpenAI(base_url=f"{balancer.url}/v1", api_key=TOKEN, max_retries=0) as client:
            whole = client.chat.completions.create(model="fake-model", messages=MESSAGES)
            stream = client.chat.completions.create(model="fake-model", messages=MESSAGES, stream=True)
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        return whole.choices[0].message.content or "", streamed

    whole, streamed = await asyncio.to_thread(ask)
    assert whole == streamed != ""


async def test_the_clients_request_id_is_kept(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="fake-model", messages=MESSAGES, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-lb-endpoint"] == "gpu-1"
