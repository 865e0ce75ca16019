"""Bodies and header fields in both directions: what passes untouched, what is replaced, what stops here."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.raw_server import RawRequest, RawServer, answer, chunked, says
from tests.running import CHAT_PATH, RawClient, RunningGateway, chat_body, raw_client, request, wired

# What a parser and a printer of JSON would not give back: spacing, key order, escapes, numbers, doubled and odd keys.
ODD = (
    ' {"zzz" : [1,2 ,3],\t"model":%s,"messages":[{"role":"user","content":"\\u00e9\\ud83d\\ude42 é \\/ 日本"}],\r\n'
    '"big":123456789012345678901234567890, "float": 1.0e+2, "minus":-0.0,"unknown":{"model":"inner","":null},'
    '"a":1,"a":2 } \n'
)
ODD_EVENT = ('data: {"id":"é \\u00e9","model" : %s ,"choices":[{"index":0,"model":"inner"}], "n":1.0}\n\n', "[DONE]")
JSON_TYPE = b"Content-Type: application/json"


def odd(model: str) -> bytes:
    return (ODD % json.dumps(model)).encode()


async def post(gateway: RunningGateway, body: bytes, **headers: str) -> httpx.Response:
    return await gateway.client.post(CHAT_PATH, content=body, headers=headers)


# -- bodies -----------------------------------------------------------------------------------------------------------


async def test_bodies_pass_byte_for_byte() -> None:
    seen: list[RawRequest] = []
    async with (
        RawServer(says(answer(odd("whatever"), JSON_TYPE), seen=seen)) as server,
        RunningGateway(wired(server.url)) as gateway,
    ):
        response = await post(gateway, odd("plain"))
        assert seen[0].body == odd("plain")
        assert response.content == odd("whatever")
        assert response.headers["content-length"] == str(len(response.content))


async def test_an_alias_changes_the_model_and_nothing_else() -> None:
    seen: list[RawRequest] = []
    async with RawServer(says(answer(odd("org/real-model"), JSON_TYPE), seen=seen)) as server:
        endpoints = wired(server.url, model_aliases={"kürzel": "org/real-model"})
        async with RunningGateway(endpoints) as gateway:
            response = await post(gateway, odd("kürzel"))
            assert seen[0].body == odd("org/real-model")
            assert response.content == odd("kürzel")
            assert response.headers["x-selected-model"] == "org/real-model"
            assert (gateway.last.model, gateway.last.upstream_model) == ("kürzel", "org/real-model")


@pytest.mark.parametrize("include_usage", [False, True])
async def test_an_alias_in_a_stream(include_usage: bool) -> None:
    seen: list[RawRequest] = []
    event, done = ODD_EVENT
    told, wanted = ((event % json.dumps(name) * 3 + f"data: {done}\n\n").encode() for name in ("real", "asked"))
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    stream += chunked(*(told[i : i + 7] for i in range(0, len(told), 7)))
    async with RawServer(says(stream, seen=seen)) as server:
        endpoints = wired(server.url, model_aliases={"asked": "real"}, include_usage=include_usage)
        async with RunningGateway(endpoints) as gateway:
            response = await post(gateway, b'{"model":"asked","stream":true,"n": 1.0}')
            assert response.content == wanted
            options = b'"stream_options":{"include_usage":true},' * include_usage
            assert seen[0].body == b"{" + options + b'"model":"real","stream":true,"n": 1.0}'


async def test_an_alias_leaves_errors_of_the_endpoint_alone() -> None:
    said = answer(b'{"error":{"message":"no"},"model":"real"}', JSON_TYPE, status=b"422 No")
    async with (
        RawServer(says(said)) as server,
        RunningGateway(wired(server.url, model_aliases={"asked": "real"})) as gateway,
    ):
        assert (await post(gateway, b'{"model":"asked"}')).content == b'{"error":{"message":"no"},"model":"real"}'


async def test_each_endpoint_is_given_its_own_name_for_the_model() -> None:
    async with (
        FakeServer(Behaviour(name="one", models=("m-1",), fault="status")) as one,
        FakeServer(Behaviour(name="two", models=("m-2",))) as two,
    ):
        first, second = wired(one, two)
        endpoints = [replace(first, model_aliases={"m": "m-1"}), replace(second, model_aliases={"m": "m-2"})]
        async with RunningGateway(endpoints) as gateway:
            response = await gateway.chat(model="m")
            assert (response.status_code, response.json()["model"]) == (200, "m")
            assert response.headers["x-selected-model"] == "m-2"
            assert [json.loads(fake.stats.last_body)["model"] for fake in (one, two)] == ["m-1", "m-2"]


@pytest.mark.parametrize("body", [b'{"messages":[]}', b'{"model":null}', b'{"model":""}'])
async def test_a_request_without_a_model_goes_on_as_it_is_where_no_list_is_known(body: bytes) -> None:
    seen: list[RawRequest] = []
    async with RawServer(says(answer(b"{}"), seen=seen)) as server, RunningGateway(wired(server.url)) as gateway:
        response = await post(gateway, body)
        assert response.status_code == 200
        assert seen[0].body == body
        assert "x-selected-model" not in response.headers


async def test_bodies_in_chunks_and_of_a_megabyte() -> None:
    seen: list[RawRequest] = []
    big = chat_body(padding="é" * 500_000)
    async with (
        RawServer(says(answer(big, JSON_TYPE), seen=seen)) as server,
        RunningGateway(wired(server.url)) as gateway,
    ):
        response = await post(gateway, big)
        assert response.content == seen[0].body == big
        async with raw_client(gateway.url) as client:
            client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            client.send(chunked(*(big[i : i + 100_003] for i in range(0, len(big), 100_003))))
            status, _, body = await client.answer()
        assert (status, body) == (200, big)
        assert seen[1].body == big
        assert b"content-length: %d" % len(big) in seen[1].lines
        assert not any(line.startswith(b"transfer-encoding") for line in seen[1].lines)


# -- header fields ----------------------------------------------------------------------------------------------------


async def fields_seen(gateway: RunningGateway, *lines: bytes, path: str = CHAT_PATH) -> dict[bytes, bytes]:
    """Send those header lines; the fields that arrive at the endpoint, which must say each once."""
    seen: list[RawRequest] = []
    async with RawServer(says(answer(b"{}"), seen=seen)) as server:
        gateway.pool.apply(wired(server.url, api_key="endpoint-key"))
        async with raw_client(gateway.url) as client:
            client.post(chat_body(), *lines, path=path)
            await client.answer()
    first, *rest = seen[0].lines
    pairs = [line.lower().partition(b": ") for line in rest]
    assert len({name for name, _, _ in pairs}) == len(pairs)
    return {b"": first, **{name: value for name, _, value in pairs}}


async def test_fields_that_stop_here() -> None:
    async with RunningGateway([]) as gateway:
        fields = await fields_seen(
            gateway,
            b"Connection: keep-alive, X-Private, close-not",
            b"X-Private: 1",
            b"Close-Not: 1",
            b"Keep-Alive: timeout=5",
            b"TE: trailers",
            b"Trailer: x-sum",
            b"Upgrade: h2c",
            b"Proxy-Authorization: Basic abc",
            b"Proxy-Connection: keep-alive",
            b"Cookie: session=1",
            b"Authorization: Bearer client-token",
            b"Accept-Encoding: gzip, br",
            b"X-Admin-Token: admin",
            b"X-Forwarded-For: 10.0.0.1",
            b"Forwarded: for=10.0.0.1",
            b"X-LB-Anything: 1",
        )
        assert set(fields) == {
            b"",
            b"host",
            b"content-length",
            b"authorization",
            b"accept-encoding",
            b"x-request-id",
        }
        assert fields[b"authorization"] == b"bearer endpoint-key"
        assert fields[b"accept-encoding"] == b"identity"
        assert fields[b"host"].startswith(b"127.0.0.1:")
        assert fields[b"content-length"] == b"%d" % len(chat_body())


async def test_fields_that_pass() -> None:
    async with RunningGateway([]) as gateway:
        fields = await fields_seen(
            gateway,
            b"Content-Type: application/json",
            b"OpenAI-Organization: org",
            b"X-Odd: \xe9 \xff",
            b"User-Agent: me",
        )
        assert fields[b"content-type"] == b"application/json"
        assert fields[b"openai-organization"] == b"org"
        assert fields[b"x-odd"] == b"\xe9 \xff".lower()
        assert fields[b"user-agent"] == b"me"


@pytest.mark.parametrize("key", ["", "sk-endpoint"])
async def test_the_client_token_never_goes_on(key: str) -> None:
    async with (
        FakeServer(Behaviour(api_key=key)) as fake,
        RunningGateway(wired(fake, api_key=key), tokens=["ct-secret"]) as gateway,
    ):
        response = await gateway.client.post(
            CHAT_PATH, content=chat_body(), headers={"authorization": "Bearer ct-secret"}
        )
        assert response.status_code == 200
        assert fake.stats.last_headers.get("authorization", "") == (f"Bearer {key}" if key else "")
        assert "ct-secret" not in repr(gateway.last)


async def test_encodings_are_the_client_s_business_where_nothing_is_read() -> None:
    async with RunningGateway([]) as gateway:
        fields = await fields_seen(gateway, b"Accept-Encoding: gzip", path="/v1/audio/speech")
        assert fields[b"accept-encoding"] == b"gzip"
        assert fields[b""] == b"POST /audio/speech HTTP/1.1"


async def test_the_query_passes() -> None:
    async with RunningGateway([]) as gateway:
        query = "?api-version=2&x=%20%22%E9&&y=[1]{}|"
        fields = await fields_seen(gateway, path=CHAT_PATH + query + "#fragment")
        assert fields[b""] == f"POST /chat/completions{query} HTTP/1.1".encode()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"abc-123", b"abc-123"),
        (b"x" * 300, b"x" * 128),
        (b"a b\xe9c", b"abc"),
        (b"\xff", None),
        (b"", None),
    ],
)
async def test_request_ids_are_kept_cut_or_made(given: bytes, kept: bytes | None) -> None:
    async with RunningGateway([]) as gateway:
        fields = await fields_seen(gateway, b"X-Request-ID: " + given)
        assert fields[b"x-request-id"] == gateway.last.request_id.encode()
        if kept is not None:
            assert fields[b"x-request-id"] == kept
        else:
            assert fields[b"x-request-id"].startswith(b"req-")


async def test_request_ids_that_are_made_differ() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        ids = [(await gateway.chat()).headers["x-request-id"] for _ in range(3)]
        assert len(set(ids)) == 3


async def answer_to(gateway: RunningGateway, said: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    async with RawServer(says(said)) as server:
        gateway.pool.apply(wired(server.url, name="Größe 100% ✓"))
        async with raw_client(gateway.url) as client:
            client.post(chat_body())
            return await client.answer()


async def test_fields_of_the_answer() -> None:
    said = answer(
        b'{"a": 1}',
        b"Connection: keep-alive, X-Hop",
        b"X-Hop: 1",
        b"Keep-Alive: timeout=5",
        b"Set-Cookie: a=1",
        b"Proxy-Authenticate: Basic",
        b"X-Request-Id: theirs",
        b"X-LB-Endpoint: liar",
        b"X-Attempts: 9",
        b"X-RateLimit-Remaining: 7",
        b"OpenAI-Processing-Ms: 12",
        b"Content-Type: application/json",
    )
    async with RunningGateway([]) as gateway:
        status, fields, body = await answer_to(gateway, said)
        assert (status, body) == (200, b'{"a": 1}')
        port = fields.pop(b"x-routed-node").removeprefix(b"127.0.0.1:")
        assert port.isdigit()
        assert fields == {
            b"x-ratelimit-remaining": b"7",
            b"openai-processing-ms": b"12",
            b"content-type": b"application/json",
            b"content-length": b"8",
            b"x-lb-endpoint": b"Gr%C3%B6%C3%9Fe 100%25 %E2%9C%93",
            b"x-selected-model": b"fake-model",
            b"x-request-id": gateway.last.request_id.encode(),
            b"x-attempts": b"1",
            b"x-failover-count": b"0",
        }


async def test_a_model_name_in_a_header_field_is_made_visible() -> None:
    async with FakeServer(Behaviour(models=())) as fake, RunningGateway(wired(fake)) as gateway:
        response = await gateway.chat(model="模型 1%")
        assert response.headers["x-selected-model"] == "%E6%A8%A1%E5%9E%8B 1%25"


@pytest.mark.parametrize("line", [b"X-Nothing: 1", b"Content-Length: 5"], ids=["right", "with a length"])
async def test_an_answer_without_content(line: bytes) -> None:
    said = b"HTTP/1.1 204 No Content\r\n" + line + b"\r\n\r\n"
    async with RunningGateway([]) as gateway, RawServer(says(said)) as server:
        gateway.pool.apply(wired(server.url))
        response = await gateway.chat()
        assert (response.status_code, response.content) == (204, b"")
        assert gateway.last.attempts[0].outcome == "success"


async def test_a_close_delimited_answer() -> None:
    async def script(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"a": 1}')

    async with RawServer(script) as server, RunningGateway(wired(server.url)) as gateway:
        assert (await gateway.chat()).json() == {"a": 1}


async def test_two_requests_on_one_connection() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway, raw_client(gateway.url) as client:
        for _ in range(2):
            client.post(chat_body())
            assert (await client.answer())[0] == 200
        await check_pipelined(client)
        assert fake.stats.total_requests == 4
        assert gateway.traffic.finished == 4


async def check_pipelined(client: RawClient) -> None:
    client.send(request(chat_body(max_tokens=2)) + request(chat_body(max_tokens=4)))
    lengths = [json.loads((await client.answer())[2])["usage"]["completion_tokens"] for _ in range(2)]
    assert lengths == [2, 4]
