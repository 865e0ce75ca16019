"""Pace and faults of the fake backend: as scripts where time matters, on sockets where the client's view does."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tester.fake_answers import Request, answer
from load_tester.fake_behaviour import Behaviour
from load_tester.fake_faults import OWN_PACKET_PAUSE_SECONDS, Step, after_fault, choose_fault, script
from tests.fakes import BODIES, CHAT, STREAM, FakeServer, events_of, http_client


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


@pytest.fixture
async def client(fake: FakeServer) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(fake) as http:
        yield http


def steps_of(behaviour: Behaviour, body: dict[str, Any], path: str = "/v1/chat/completions") -> list[Step]:
    request = Request("POST", path, {}, json.dumps(body).encode())
    reply = answer(request, behaviour, serial=1, created=1, rng=random.Random(1))
    return list(script(reply, request, behaviour, behaviour.fault, 1))


@given(
    tokens=st.integers(1, 40),
    per_chunk=st.integers(1, 7),
    per_write=st.integers(0, 9),
    ttft=st.sampled_from([0.0, 0.25]),
    tpot=st.sampled_from([0.0, 0.125]),
)
def test_pace_and_batches_never_change_the_bytes(
    tokens: int, per_chunk: int, per_write: int, ttft: float, tpot: float
) -> None:
    behaviour = Behaviour(completion_tokens=tokens, tokens_per_chunk=per_chunk)
    varied = replace(behaviour, chunks_per_write=per_write, ttft_seconds=ttft, tpot_seconds=tpot)
    body = {"messages": ["x"], "stream": True}
    expected, steps = steps_of(behaviour, body), steps_of(varied, body)
    assert b"".join(step.data for step in steps) == b"".join(step.data for step in expected)
    assert sum(step.completion_tokens for step in steps) == tokens
    waited = sum(step.wait_seconds or 0.0 for step in steps)
    assert waited == pytest.approx(ttft + (tokens - 1) * tpot)
    (whole,) = steps_of(varied, {"messages": ["x"]})
    assert (whole.wait_seconds or 0.0) == pytest.approx(waited)


def test_first_token_after_ttft_then_one_every_tpot() -> None:
    behaviour = Behaviour(ttft_seconds=0.5, tpot_seconds=0.1, completion_tokens=3)
    steps = steps_of(behaviour, {"messages": ["x"], "stream": True})
    assert [step.wait_seconds for step in steps] == [None, 0.5, 0.0, 0.1, 0.1, 0.0, 0.0]
    assert [step.completion_tokens for step in steps] == [0, 0, 1, 1, 1, 0, 0]


def test_writes_hold_as_many_chunks_as_asked() -> None:
    body = {"messages": ["x"], "stream": True}
    for per_write, writes in ((0, 1), (1, 13), (4, 4)):  # role, ten tokens, finish reason, [DONE]
        steps = steps_of(Behaviour(completion_tokens=10, chunks_per_write=per_write), body)
        assert len([step for step in steps if step.data]) == 1 + writes
        assert all(step.wait_seconds is None for step in steps) == (per_write == 0)
    assert len(steps_of(Behaviour(completion_tokens=2_000), body)) > 4, "large streams are written in parts"


def test_done_in_its_own_packet() -> None:
    steps = steps_of(Behaviour(done_in_own_packet=True), {"messages": ["x"], "stream": True})
    assert steps[-1].data == b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    assert steps[-1].wait_seconds == OWN_PACKET_PAUSE_SECONDS


async def test_slowdown_grows_with_requests_in_flight(fake: FakeServer, client: httpx.AsyncClient) -> None:
    fake.behaviour = replace(fake.behaviour, slowdown_per_inflight=0.5, fault="stall_headers")
    assert fake.slowdown() == 1.0
    waiting = [asyncio.create_task(client.post("/chat/completions", json=CHAT)) for _ in range(3)]
    await fake.wait_for(lambda stats: stats.inflight == 3)
    assert fake.slowdown() == 2.0
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await fake.wait_for(lambda stats: stats.inflight == 0 and stats.disconnects == 3)
    assert fake.stats.max_inflight == 3


async def test_paced_answers_take_their_time(fake: FakeServer, client: httpx.AsyncClient) -> None:
    fake.behaviour = replace(fake.behaviour, ttft_seconds=0.05, tpot_seconds=0.02)
    loop = asyncio.get_running_loop()
    for body in (CHAT, STREAM):
        started = loop.time()
        assert (await client.post("/chat/completions", json=body)).status_code == 200
        assert loop.time() - started >= 0.05 + 4 * 0.02


@pytest.mark.parametrize("body", [CHAT, STREAM])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset", httpx.ReadError),
        ("stall_headers", httpx.ReadTimeout),
        ("stall_body", httpx.ReadTimeout),
        ("cut", httpx.RemoteProtocolError),
        ("malformed", httpx.RemoteProtocolError),
    ],
)
async def test_broken_connections(
    fake: FakeServer, client: httpx.AsyncClient, fault: str, error: type[Exception], body: dict[str, Any]
) -> None:
    fake.behaviour = fake.behaviour.changed({"fault": fault, "fault_count": 1})
    with pytest.raises(error):
        await client.post("/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.2 if "stall" in fault else 5))
    assert fake.behaviour.fault == "none"
    assert (await client.post("/chat/completions", json=body)).status_code == 200
    await fake.wait_for(lambda stats: stats.inflight == 0)
    assert fake.stats.faults == 1


@pytest.mark.parametrize("fault", ["cut", "stall_body"])
async def test_streams_break_after_the_given_number_of_events(
    fake: FakeServer, client: httpx.AsyncClient, fault: str
) -> None:
    fake.behaviour = fake.behaviour.changed({"fault": fault, "fault_after": 3})
    received = b""
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadTimeout)):
        async with client.stream(
            "POST", "/chat/completions", json=STREAM, timeout=httpx.Timeout(5, read=0.5)
        ) as answered:
            async for data in answered.aiter_raw():
                received += data
    assert len(events_of(received.decode())) == 3
    assert fake.stats.completion_tokens == 2


@pytest.mark.parametrize("fault", ["bad_json", "error_in_200"])
async def test_streams_go_wrong_after_the_given_number_of_events(
    fake: FakeServer, client: httpx.AsyncClient, fault: str
) -> None:
    fake.behaviour = fake.behaviour.changed({"fault": fault, "fault_after": 2})
    answered = await client.post("/chat/completions", json=STREAM)
    payloads = [block.removeprefix("data: ") for block in answered.text.split("\n\n")[:-1]]
    assert answered.status_code == 200
    assert [json.loads(payload)["object"] for payload in payloads[:2]] == ["chat.completion.chunk"] * 2
    if fault == "error_in_200":
        assert json.loads(payloads[2])["error"]["type"] == "server_error"
        assert len(payloads) == 3
    else:
        with pytest.raises(json.JSONDecodeError):
            json.loads(payloads[2])
        assert payloads[-1] == "[DONE]"


@pytest.mark.parametrize(("path", "body"), BODIES.items())
async def test_wrong_bodies_on_every_path(
    fake: FakeServer, client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    async def post(fault: str) -> httpx.Response:
        fake.behaviour = Behaviour().changed({"fault": fault, "fault_status": 529, "retry_after": "7"})
        return await client.post(f"/{path}", json=body)

    with pytest.raises(json.JSONDecodeError):
        (await post("bad_json")).json()
    page = await post("html")
    assert page.headers["content-type"].startswith("text/html")
    assert page.status_code == 200
    status = await post("status")
    assert (status.status_code, status.headers["retry-after"]) == (529, "7")
    in_200 = await post("error_in_200")
    assert (in_200.status_code, "error" in in_200.json()) == (200, True)
    assert (await post("empty_stream")).content == b""
    redirect = await post("redirect")
    assert redirect.status_code == 307
    fake.behaviour = Behaviour()
    url = httpx.URL(fake.base_url).join(redirect.headers["location"])
    followed = await client.post(url, json=body)
    assert followed.status_code == 404
    assert fake.stats.requests["/redirected/v1/" + path] == 1
    assert fake.stats.completion_tokens == 0


async def test_empty_stream_has_no_event(fake: FakeServer, client: httpx.AsyncClient) -> None:
    fake.behaviour = replace(fake.behaviour, fault="empty_stream")
    answered = await client.post("/chat/completions", json=STREAM)
    assert answered.headers["content-type"].startswith("text/event-stream")
    assert answered.content == b""


@pytest.mark.parametrize(
    ("status", "code", "kind", "shown_code"),
    [
        (429, "", "rate_limit_error", "rate_limit_exceeded"),
        (429, "insufficient_quota", "insufficient_quota", "insufficient_quota"),
        (401, "", "invalid_request_error", "invalid_api_key"),
        (503, "", "server_error", None),
    ],
)
async def test_status_fault_has_an_envelope(
    fake: FakeServer, client: httpx.AsyncClient, status: int, code: str, kind: str, shown_code: str | None
) -> None:
    fake.behaviour = replace(
        fake.behaviour, fault="status", fault_status=status, fault_code=code, retry_after_ms="1500"
    )
    answered = await client.post("/chat/completions", json=STREAM)
    error = answered.json()["error"]
    assert (answered.status_code, error["type"], error["code"]) == (status, kind, shown_code)
    assert answered.headers["retry-after-ms"] == "1500"
    assert "retry-after" not in answered.headers


@pytest.mark.parametrize(("scope", "hit"), [("post", "POST"), ("get", "GET"), ("all", "GET POST")])
async def test_faults_hit_only_their_scope(fake: FakeServer, client: httpx.AsyncClient, scope: str, hit: str) -> None:
    fake.behaviour = fake.behaviour.changed({"fault": "status", "fault_scope": scope})
    posted = await client.post("/chat/completions", json=CHAT)
    listed = await client.get("/models")
    assert [method for method, a in (("GET", listed), ("POST", posted)) if a.is_error] == hit.split()


def test_fault_count_runs_out() -> None:
    behaviour = Behaviour(fault="reset", fault_count=2)
    once, endless = after_fault(behaviour), Behaviour(fault="reset")
    assert (once.fault, once.fault_count) == ("reset", 1)
    assert after_fault(once).fault == "none"
    assert after_fault(endless) == endless


def test_fault_probability_is_seeded() -> None:
    behaviour, request = Behaviour(fault="reset", fault_probability=0.3), Request("POST", "/v1/completions", {})

    def draw(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [choose_fault(request, behaviour, rng) for _ in range(2_000)]

    assert draw(1) == draw(1) != draw(2)
    assert draw(1).count("reset") == pytest.approx(600, rel=0.15)


async def test_port_closes_and_opens_again(fake: FakeServer, client: httpx.AsyncClient) -> None:
    assert (await client.get("/models")).status_code == 200
    port = fake.port
    await fake.stop_listening()
    await fake.wait_for(lambda stats: stats.connections == 0)
    with pytest.raises(httpx.ConnectError):
        await client.get("/models")
    await fake.listen_again()
    assert fake.port == port
    assert (await client.get("/models")).status_code == 200


async def test_answer_in_hand_survives_the_closing_of_the_port(fake: FakeServer, client: httpx.AsyncClient) -> None:
    fake.behaviour = replace(fake.behaviour, ttft_seconds=0.05)
    answered = asyncio.create_task(client.post("/chat/completions", json=CHAT))
    await fake.wait_for(lambda stats: stats.inflight == 1)
    await fake.stop_listening()
    assert (await answered).status_code == 200
    await fake.wait_for(lambda stats: stats.connections == 0)
    assert fake.stats.disconnects == 0


async def test_refusal_for_a_time_over_http(fake: FakeServer, client: httpx.AsyncClient) -> None:
    told = await client.patch(
        f"http://127.0.0.1:{fake.port}/_fake/behaviour", json={"fault": "refuse", "refuse_seconds": 0.1}
    )
    assert told.status_code == 200
    with pytest.raises(httpx.ConnectError):
        await client.get("/models")
    async with asyncio.timeout(5):
        while fake.behaviour.fault == "refuse":
            await asyncio.sleep(0.005)
        while (await _status_or_none(client)) != 200:
            await asyncio.sleep(0.005)


async def _status_or_none(client: httpx.AsyncClient) -> int | None:
    try:
        return (await client.get("/models")).status_code
    except httpx.ConnectError:
        return None


async def test_refusal_ends_early_in_process(fake: FakeServer, client: httpx.AsyncClient) -> None:
    fake.behaviour = replace(fake.behaviour, fault="refuse", refuse_seconds=3_600)
    with pytest.raises(httpx.ConnectError):
        await client.get("/models")
    await fake.listen_again()
    assert fake.behaviour.fault == "none"
    assert (await client.get("/models")).status_code == 200


async def test_closing_while_refusing_leaves_nothing() -> None:
    async with FakeServer(Behaviour(fault="refuse", refuse_seconds=3_600)) as fake:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", fake.port)
