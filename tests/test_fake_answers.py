"""What the fake backend says: every path as the official client reads it, usage styles, refusals."""

from __future__ import annotations

import random
import statistics
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import openai
import pytest

from load_tester.fake_answers import Request, answer
from load_tester.fake_behaviour import Behaviour
from load_tester.fake_bodies import SPEECH, answer_text
from tests.fakes import BODIES, STREAM, FakeServer, events_of, http_client


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


@pytest.fixture
async def client(fake: FakeServer) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(fake) as http:
        yield http


async def test_official_client_reads_every_answer(fake: FakeServer) -> None:
    fake.behaviour = replace(fake.behaviour, models=("fake-model", "org/fake-2"), api_key="sk-fake", prompt_tokens=7)
    async with openai.AsyncOpenAI(base_url=fake.base_url, api_key="sk-fake", max_retries=0) as ai:
        chat = await ai.chat.completions.create(
            model="fake-model", messages=[{"role": "user", "content": "x"}], max_tokens=5
        )
        assert chat.choices[0].message.content == answer_text(5)
        assert chat.choices[0].finish_reason == "length"
        assert chat.usage is not None
        assert (chat.usage.prompt_tokens, chat.usage.completion_tokens, chat.usage.total_tokens) == (7, 5, 12)
        text = await ai.completions.create(model="fake-model", prompt="x")
        assert text.choices[0].text == answer_text(16)
        assert text.choices[0].finish_reason == "stop"
        vectors = await ai.embeddings.create(model="org/fake-2", input=["a", "b"], dimensions=3)
        assert [len(row.embedding) for row in vectors.data] == [3, 3]
        assert vectors.usage.total_tokens == 7
        response = await ai.responses.create(model="fake-model", input="x", max_output_tokens=20)
        assert response.output_text == answer_text(20)
        assert response.usage is not None
        assert response.usage.output_tokens == 20
        assert not (await ai.moderations.create(input="x")).results[0].flagged
        assert (await ai.images.generate(prompt="x", model="fake-model")).data
        speech = await ai.audio.speech.create(model="fake-model", voice="alloy", input="x")
        assert speech.content == SPEECH
        assert [model.id async for model in ai.models.list()] == ["fake-model", "org/fake-2"]
        assert (await ai.models.retrieve("org/fake-2")).owned_by == "fake"
        with pytest.raises(openai.NotFoundError, match="`other` does not exist"):
            await ai.completions.create(model="other", prompt="x")
    assert fake.stats.completion_tokens == 5 + 16 + 20
    assert fake.stats.requests["/v1/models/org/fake-2"] == 1


async def test_official_client_reads_every_stream(fake: FakeServer) -> None:
    async with openai.AsyncOpenAI(base_url=fake.base_url, api_key="any", max_retries=0) as ai:
        chunks = await ai.chat.completions.create(
            model="fake-model",
            messages=[{"role": "user", "content": "x"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chat = [chunk async for chunk in chunks]
        assert "".join(c.choices[0].delta.content or "" for c in chat if c.choices) == answer_text(16)
        assert chat[-1].usage is not None
        assert chat[-1].usage.completion_tokens == 16
        pieces = await ai.completions.create(model="fake-model", prompt="x", stream=True)
        assert "".join([piece.choices[0].text async for piece in pieces]) == answer_text(16)
        events = [event async for event in await ai.responses.create(model="fake-model", input="x", stream=True)]
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == answer_text(16)
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage is not None
    assert events[-1].response.usage.output_tokens == 16
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert fake.stats.completion_tokens == 3 * 16


async def test_ranking_returns_the_best_documents(client: httpx.AsyncClient) -> None:
    answered = await client.post("/rerank", json={"query": "q", "documents": ["a", "b", "c"], "top_n": 2})
    assert [row["index"] for row in answered.json()["results"]] == [0, 1]


async def test_embeddings_come_as_numbers_or_base64(client: httpx.AsyncClient) -> None:
    plain = (await client.post("/embeddings", json={"input": [1, 2, 3]})).json()["data"]
    coded = await client.post("/embeddings", json={"input": ["a", "b"], "encoding_format": "base64"})
    assert len(plain) == 1
    assert len(plain[0]["embedding"]) == 8
    assert [type(row["embedding"]) for row in coded.json()["data"]] == [str, str]


@pytest.mark.parametrize(
    ("style", "asked", "expected"),
    [
        ("final_chunk", False, "-----"),
        ("final_chunk", True, "-----U"),
        ("always", False, "-----U"),
        ("every_chunk", False, "-----"),
        ("every_chunk", True, "nnnnnU"),
        ("with_choices", False, "----c"),
        ("with_choices", True, "----c"),
        ("never", True, "-----"),
        ("reject_include_usage", False, "-----"),
    ],
)
async def test_usage_styles(
    fake: FakeServer, client: httpx.AsyncClient, style: str, asked: bool, expected: str
) -> None:
    """- no usage, n null, c with choices, U alone; one mark for role, three tokens, finish reason and beyond."""
    fake.behaviour = fake.behaviour.changed({"usage_style": style, "completion_tokens": 3})
    body = {**STREAM, "stream_options": {"include_usage": True}} if asked else STREAM
    events = events_of((await client.post("/chat/completions", json=body)).text)
    assert events.pop() == "[DONE]"
    marks = ""
    for event in events:
        usage = event.get("usage", "-")
        marks += "n" if usage is None else "-" if usage == "-" else "c" if event["choices"] else "U"
    assert marks == expected


async def test_reject_include_usage_names_the_field(fake: FakeServer, client: httpx.AsyncClient) -> None:
    fake.behaviour = replace(fake.behaviour, usage_style="reject_include_usage")
    refused = await client.post("/chat/completions", json={**STREAM, "stream_options": {"include_usage": True}})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "stream_options"


async def test_never_means_no_usage_in_any_body(fake: FakeServer, client: httpx.AsyncClient) -> None:
    fake.behaviour = replace(fake.behaviour, usage_style="never")
    for path, body in list(BODIES.items())[:5]:
        assert not (await client.post(f"/{path}", json=body)).json().get("usage"), path


@pytest.mark.parametrize("line_ending", ["\n", "\r\n"])
@pytest.mark.parametrize("data_space", [True, False])
async def test_stream_spelling(fake: FakeServer, client: httpx.AsyncClient, line_ending: str, data_space: bool) -> None:
    fake.behaviour = replace(fake.behaviour, line_ending=line_ending, data_space=data_space)
    chat = (await client.post("/chat/completions", json=STREAM)).content.decode()
    response = (await client.post("/responses", json={"input": "x", "stream": True})).content.decode()
    gap = " " if data_space else ""
    assert chat.endswith(f"data:{gap}[DONE]{line_ending}{line_ending}")
    assert response.startswith(f"event:{gap}response.created{line_ending}data:{gap}{{")
    assert len(events_of(chat)) == 1 + 5 + 1 + 1
    assert ("\r" in chat) == (line_ending == "\r\n")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("POST", "chat/completions", b"{", 400, None),
        ("POST", "chat/completions", b"[" * 100_000, 400, None),
        ("POST", "chat/completions", b"[1]", 400, None),
        ("POST", "chat/completions", b"{}", 400, "messages"),
        ("POST", "rerank", b'{"query":"q","documents":[]}', 400, "documents"),
        ("POST", "completions", b'{"prompt":"x","model":3}', 400, "model"),
        ("POST", "completions", b'{"prompt":"x","model":"\\ud800"}', 400, "model"),
        ("POST", "completions", b'{"prompt":"x","model":"other"}', 404, "model"),
        ("GET", "models/other", b"", 404, "model"),
        ("GET", "chat/completions", b"", 405, None),
        ("DELETE", "models", b"", 405, None),
        ("POST", "nowhere", b"{}", 404, None),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, method: str, path: str, body: bytes, status: int, param: str | None
) -> None:
    refused = await client.request(method, f"/{path}", content=body)
    assert refused.status_code == status
    assert refused.json()["error"]["param"] == param


async def test_numbers_that_some_parsers_refuse_are_taken(client: httpx.AsyncClient) -> None:
    body = b'{"messages":["x"],"seed":%d,"temperature":NaN}' % 10**30
    assert (await client.post("/chat/completions", content=body)).status_code == 200


async def test_key_is_demanded_where_one_is_set(fake: FakeServer, client: httpx.AsyncClient) -> None:
    fake.behaviour = replace(fake.behaviour, api_key="sk-right")
    assert "sk-right" not in repr(fake.behaviour)
    for headers in ({}, {"authorization": "Bearer wrong"}):
        refused = await client.get("/models", headers=headers)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
    assert (await client.get("/models", headers={"authorization": "Bearer sk-right"})).status_code == 200


async def test_header_lines_are_added(fake: FakeServer, client: httpx.AsyncClient) -> None:
    fake.behaviour = replace(fake.behaviour, headers=("Set-Cookie: a=b", "x-ratelimit-limit-requests: 9"))
    headers = (await client.get("/models")).headers
    assert headers["set-cookie"] == "a=b"
    assert headers["x-ratelimit-limit-requests"] == "9"
    assert headers["x-fake-name"] == "fake"


def test_heavy_tail_keeps_its_mean_and_its_limit() -> None:
    behaviour = Behaviour(completion_tokens=200, completion_sigma=1.0)
    rng = random.Random(7)

    def length(body: bytes) -> int:
        request = Request("POST", "/v1/completions", {}, body)
        return answer(request, behaviour, serial=1, created=1, rng=rng).completion_tokens

    lengths = [length(b'{"prompt":"x"}') for _ in range(3_000)]
    assert statistics.mean(lengths) == pytest.approx(200, rel=0.1)
    assert max(lengths) > 1_500
    assert statistics.median(lengths) < 150
    assert max(length(b'{"prompt":"x","max_tokens":50}') for _ in range(200)) == 50
