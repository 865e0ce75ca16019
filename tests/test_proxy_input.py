"""Bad input and limits: the right status in the right envelope, at once, and nothing stays behind."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from balancer.core.errors import InvalidRequest
from balancer.wire.stored_responses import StoredResponses
from load_tester.fake_behaviour import Behaviour
from tests.fakes import BODIES, FakeServer
from tests.raw_server import chunked
from tests.running import CHAT_PATH, RunningGateway, chat_body, eventually, raw_client, request, wired

LIMIT = 10_000


def envelope(response: httpx.Response) -> dict[str, Any]:
    return check_envelope(response.headers["content-type"].encode(), response.content)


def check_envelope(content_type: bytes, body: bytes) -> dict[str, Any]:
    assert content_type == b"application/json"
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return dict(error)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", None, "empty"),
        (b"{", None, "not valid JSON"),
        (b'{"model": "m"', None, "line 1 column"),
        (b"\xff\xfe", None, "UTF-8"),
        (b"[]", None, "must be a JSON object, not an array"),
        (b"1", None, "not a number"),
        (b"[" * 100_000, None, "cannot be read"),
        (b'{"model": 1}', "model", "must be a string"),
        (b'{"model": ["m"]}', "model", "not an array"),
        (b'{"model": "a\\u0000b"}', "model", "control characters"),
        (b'{"model": "%s"}' % (b"x" * 300), "model", "256"),
        (b'{"stream": "yes"}', "stream", "must be a boolean"),
        (b'{"stream": true, "stream_options": 1}', "stream_options", "an object or null"),
    ],
)
async def test_a_body_that_cannot_be_used(body: bytes, param: str | None, words: str) -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        response = await gateway.client.post(CHAT_PATH, content=body)
        error = envelope(response)
        assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
        assert words in error["message"]
        assert response.headers["x-attempts"] == "0"
        assert fake.stats.total_requests == 0
        record = gateway.last
        assert (record.status, record.endpoint, record.usage) == (400, None, None)
        assert gateway.traffic.errors == {"invalid_request": 1}
        # The connection serves on.
        assert (await gateway.chat()).status_code == 200


@pytest.mark.parametrize("path", list(BODIES))
async def test_every_operation_refuses_alike(path: str) -> None:
    async with RunningGateway([]) as gateway:
        response = await gateway.client.post(f"/v1/{path}", content=b"{")
        assert response.status_code == 400
        assert envelope(response)["message"]


# -- length -----------------------------------------------------------------------------------------------------------


async def check_too_large(gateway: RunningGateway, *pieces: bytes) -> None:
    """Send the pieces, however long the balancer takes them, and read the refusal to the end of the connection."""
    async with raw_client(gateway.url) as client:
        for piece in pieces:
            client.send(piece)
        status, fields = await client.head()
        body = await client.reader.readexactly(int(fields[b"content-length"]))
        assert (status, fields[b"connection"]) == (413, b"close")
        error = check_envelope(fields[b"content-type"], body)
        assert error["code"] == "body_too_large"
        assert str(LIMIT) in error["message"]
        client.writer.write_eof()
        assert await client.rest() == b""
    await gateway.settled()
    assert (gateway.last.status, gateway.last.model) == (413, None)


@pytest.mark.parametrize("size", [LIMIT + 1, 30 * LIMIT, 500 * LIMIT])
async def test_a_body_too_long_by_its_length(size: int) -> None:
    async with RunningGateway([], max_body_bytes=LIMIT) as gateway:
        await check_too_large(gateway, request(b"x" * size))


async def test_a_body_announced_too_long_is_not_waited_for() -> None:
    async with RunningGateway([], max_body_bytes=LIMIT) as gateway:
        await check_too_large(gateway, request(b"x" * 30 * LIMIT)[:200])


@pytest.mark.parametrize("size", [LIMIT + 1, 30 * LIMIT])
async def test_a_body_too_long_in_chunks(size: int) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    async with RunningGateway([], max_body_bytes=LIMIT) as gateway:
        await check_too_large(gateway, head, chunked(*[b"x" * 1000] * (size // 1000), b"x" * 1001, last=False))


async def test_a_client_that_expects_to_be_asked_is_told_before_it_sends() -> None:
    async with RunningGateway([], max_body_bytes=LIMIT) as gateway, raw_client(gateway.url) as client:
        client.send(request(b"x" * 30 * LIMIT, b"expect: 100-continue").partition(b"xxx")[0])
        status, _, _ = await client.answer()
        assert status == 413
        client.leave()


async def test_a_body_of_just_the_limit() -> None:
    body = chat_body()
    body += b" " * (LIMIT - len(body))
    async with FakeServer() as fake, RunningGateway(wired(fake), max_body_bytes=LIMIT) as gateway:
        assert (await gateway.client.post(CHAT_PATH, content=body)).status_code == 200
        async with raw_client(gateway.url) as client:
            client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            client.send(chunked(body[:5000], body[5000:]))
            assert (await client.answer())[0] == 200


# -- framing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [b"zz\r\nhello\r\n", b"5\r\nhello world\r\n", b"-1\r\n\r\n"])
async def test_broken_chunks_end_the_connection_and_nothing_else(broken: bytes) -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        async with raw_client(gateway.url) as client:
            client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            await eventually(lambda: gateway.gateway.active)
            client.send(broken)
            status, _ = await client.head()
            assert status == 400
            await client.rest()
        record = await gateway.recorded(1)
        assert record.status == 400, "as the client was told"
        assert fake.stats.total_requests == 0
        assert (await gateway.chat()).status_code == 200


# -- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer wrong", "Basic right", "right", "Bearer right2"])
async def test_a_missing_or_wrong_token(value: str | None) -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake), tokens=["right"]) as gateway:
        headers = {} if value is None else {"authorization": value}
        response = await gateway.client.post(CHAT_PATH, content=b"x" * 100_000, headers=headers)
        assert (response.status_code, envelope(response)["code"]) == (401, "invalid_api_key")
        assert gateway.traffic.errors == {"unauthorized": 1}
        assert not gateway.traffic.log, "strangers must not be able to flush the log"
        right = {"authorization": "bearer  right"}
        assert (await gateway.client.post(CHAT_PATH, content=chat_body(), headers=right)).status_code == 200
        assert gateway.last.client == "env-1"
        assert fake.stats.total_requests == 1


async def test_what_is_not_http_is_refused_in_the_envelope() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway, raw_client(gateway.url) as client:
        client.send(b"this is not HTTP\r\n\r\n")
        status, _ = await client.head()
        assert status == 400
        assert json.loads(await client.rest())["error"]["code"] == "bad_http"


# -- draining ---------------------------------------------------------------------------------------------------------


async def test_draining_takes_nothing_new_and_finishes_what_runs() -> None:
    async with FakeServer(Behaviour(tpot_seconds=0.02)) as fake, RunningGateway(wired(fake)) as gateway:
        running = asyncio.create_task(gateway.chat(max_tokens=5))
        await fake.wait_for(lambda stats: stats.inflight)
        gateway.gateway.draining = True
        response = await gateway.chat()
        assert (response.status_code, envelope(response)["code"]) == (503, "shutting_down")
        assert response.headers["connection"] == "close"
        assert response.headers["retry-after"]
        assert (await running).status_code == 200
        assert fake.stats.total_requests == 1


# -- previous_response_id ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_conversation_goes_on_where_it_was_begun(stream: bool) -> None:
    async with (
        FakeServer(Behaviour(name="one")) as one,
        FakeServer(Behaviour(name="two")) as two,
        RunningGateway(wired(one, two), strategy="round_robin") as gateway,
    ):

        async def respond(**fields: Any) -> httpx.Response:
            body = {"model": "fake-model", "input": "hello", "stream": stream, **fields}
            return await gateway.client.post("/v1/responses", json=body)

        first = await respond()
        served = first.headers["x-lb-endpoint"]
        response_id = f"resp-{served}-1"
        assert response_id in first.text
        for _ in range(4):
            assert (await respond(previous_response_id=response_id)).headers["x-lb-endpoint"] == served
        assert {(await respond()).headers["x-lb-endpoint"] for _ in range(2)} == {"one", "two"}

        # Nobody else knows the conversation: there is no failover, also not when its endpoint is gone.
        (one if served == "one" else two).behaviour = Behaviour(name=served, fault="status")
        gateway.dispatcher.budget.floor = 0
        failed = await respond(previous_response_id=response_id)
        assert (failed.status_code, failed.headers["x-attempts"]) == (500, "1")
        assert gateway.dispatcher.budget.refused_total == 0, "no retry was wanted"
        gateway.pool.apply([])
        assert (await respond(previous_response_id=response_id)).status_code == 503


async def test_an_unknown_conversation() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        body = {"input": "hello", "previous_response_id": "resp-never-seen"}
        response = await gateway.client.post("/v1/responses", json=body)
        error = envelope(response)
        assert (response.status_code, error["param"]) == (400, "previous_response_id")
        assert error["code"] == "previous_response_not_found"
        assert "resp-never-seen" in error["message"]
        assert fake.stats.total_requests == 0
        # Elsewhere the field means nothing.
        assert (await gateway.chat(previous_response_id="resp-never-seen")).status_code == 200


def test_conversations_are_forgotten_oldest_first() -> None:
    stored = StoredResponses(size=2)
    for number in range(3):
        stored.note(b'{"id": "resp-%d", "object": "response"}' % number, number)
    assert [stored.keeper(f"resp-{number}") for number in (1, 2)] == [1, 2]
    stored.note(b'{"id": "msg-1", "object": "error"}', 9)
    for forgotten in ("resp-0", "msg-1"):
        with pytest.raises(InvalidRequest, match=forgotten):
            stored.keeper(forgotten)


# -- what goes wrong here ---------------------------------------------------------------------------------------------


async def test_an_exception_nobody_thought_of_leaves_nothing_counted() -> None:
    def broken_clock() -> float:
        raise ZeroDivisionError

    async with (
        FakeServer(Behaviour(fault="status")) as fake,
        RunningGateway(wired(fake), wall_clock=broken_clock, expected_complaints=1) as gateway,
    ):
        response = await gateway.chat()
        assert (response.status_code, envelope(response)["code"]) == (500, "internal_error")
        assert response.headers["x-attempts"] == "1"
        assert "ZeroDivisionError" in gateway.app.complaints[0]
        record = gateway.last
        assert (record.status, record.error) == (500, "internal error")
        assert [attempt.outcome for attempt in record.attempts] == ["neutral"]
        assert gateway.traffic.errors == {"internal": 1}
