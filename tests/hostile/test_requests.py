"""Odd requests: paths that try to leave their place, upgrades, expectations, header injection in both directions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import FakeServer
from tests.raw_server import RawServer, read_request
from tests.running import CHAT_BODY, RunningGateway, chat_body, raw_client, request, wired
from tests.running_balancer import RunningBalancer

BODY = chat_body()


@pytest.fixture
async def balancer(tmp_path: Path) -> AsyncIterator[RunningBalancer]:
    async with RunningBalancer(tmp_path, client_tokens=("a-client",)) as running:
        yield running


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../admin/api/state",
        "/v1/%2e%2e/admin/api/state",
        "/v1/..%2fadmin/api/state",
        "//admin/api/state",
        "/admin//api/state",
        "/admin/api/state;x=1",
        "/ADMIN/api/state",
        "/admin/assets/../../../settings.py",
        "/admin/assets/..%2f..%2f..%2fsettings.py",
        "/admin/assets/%2e%2e/%2e%2e/admin-token",
        "/admin/assets//etc/passwd",
        "/admin/api/endpoints/1%00",
        "/v1/models/../../admin/api/state",
        "http://127.0.0.1/admin/api/state",
        "http://elsewhere/admin/api/state",
        "*",
    ],
)
async def test_no_path_leads_past_the_authorization(balancer: RunningBalancer, path: str) -> None:
    async with raw_client(balancer.url) as client:
        client.send(b"GET %b HTTP/1.1\r\nhost: balancer\r\nconnection: close\r\n\r\n" % path.encode())
        answer = await client.rest()
    assert answer[9:12] in (b"400", b"401", b"404", b"405"), answer[:200]
    assert b"routing_mode" not in answer and b"root:" not in answer


H2C = (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAoAAAAAIAAAAA")


@pytest.mark.parametrize("lines", [H2C, (b"connection: upgrade", b"upgrade: something/2"), (b"upgrade: h2c",)])
async def test_another_protocol_is_not_spoken_and_the_request_is_served(lines: tuple[bytes, ...]) -> None:
    """Some HTTP clients ask for HTTP/2 with every first request."""
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway, raw_client(gateway.url) as client:
        for _ in range(2):
            client.post(BODY, *lines)
            status, headers, body = await client.answer()
            assert (status, headers.get(b"upgrade")) == (200, None)
            assert json.loads(body)["choices"]
        assert fake.stats.last_body == BODY


@pytest.mark.parametrize("step", [1, 7, 100_000])
async def test_such_requests_may_come_in_any_pieces_and_one_behind_another(step: int) -> None:
    chunked = request(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), *H2C, b"transfer-encoding: chunked")
    chunked = chunked.replace(b"content-length: %d\r\n" % (len(BODY) + len(b"%x" % len(BODY)) + 9), b"")
    assert b"content-length" not in chunked
    data = request(BODY, *H2C) + chunked + request(BODY) + request(BODY, *H2C, b"connection: close")
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway, raw_client(gateway.url) as client:
        for start in range(0, len(data), step):
            client.send(data[start : start + step])
            if step < 100:
                await asyncio.sleep(0)
        answer = await client.rest()
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 4 == answer.count(b"HTTP/1.1 ")
        assert fake.stats.total_requests == 4


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/realtime HTTP/1.1\r\nhost: b\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-key: eA==\r\nsec-websocket-version: 13\r\n\r\n",
        request(BODY, b"connection: keep-alive, Upgrade", b"upgrade: WebSocket"),
        b"CONNECT elsewhere:443 HTTP/1.1\r\nhost: elsewhere:443\r\n\r\n",
    ],
)
async def test_websockets_and_tunnels_are_refused(head: bytes) -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway, raw_client(gateway.url) as client:
        client.send(head + b"what may follow")
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1
        assert b'"upgrade_not_supported"' in answer and b"not supported: send an ordinary HTTP request" in answer
        assert not fake.stats.total_requests


@pytest.mark.parametrize("hidden", [b"content-length: 0", b"transfer-encoding: chunked"])
async def test_nothing_is_smuggled_behind_an_upgrade(hidden: bytes) -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway, raw_client(gateway.url) as client:
        client.send(request(BODY, *H2C, hidden) + request(BODY))
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1
        assert not fake.stats.total_requests


async def test_a_client_that_waits_for_100_is_told_to_go_on() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway, raw_client(gateway.url) as client:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: b\r\ncontent-length: %d\r\nexpect: 100-continue\r\n\r\n"
        client.send(head % len(BODY))
        async with asyncio.timeout(5):
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        client.send(BODY)
        assert (await client.head())[0] == 200


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb: c", b"a\x00b"])
async def test_no_header_of_a_client_becomes_two(value: bytes) -> None:
    """A line break or a zero byte inside a field is refused (RFC 9110 section 5.5)."""
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = await read_request(reader)
            heads.append(asked.head)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

    async with RawServer(script) as server, RunningGateway(wired(f"{server.url}/v1")) as gateway:
        async with raw_client(gateway.url) as client:
            client.post(BODY, b"x-request-id: " + value, b"connection: close")
            answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1
        assert not heads, "the endpoint was not asked"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/anything/chat/completions"])
async def test_a_web_page_elsewhere_spends_nothing(tmp_path: Path, path: str) -> None:
    """A browser lets any page send a text, blindly. With client tokens it would not know one."""
    async with FakeServer() as fake, RunningBalancer(tmp_path) as balancer:
        await balancer.add("endpoint", fake)
        for site, status in (("cross-site", 403), ("Cross-Site", 403), ("same-origin", 200), ("none", 200)):
            headers = {"content-type": "text/plain", "sec-fetch-site": site}
            answer = await balancer.client.post(path, content=BODY, headers=headers)
            assert answer.status_code == status, answer.text
            if status == 403:
                assert answer.json()["error"]["code"] == "cross_site_request"
        assert fake.stats.requests.get("/v1/chat/completions") == 2


async def test_a_client_with_a_token_may_be_anywhere(balancer: RunningBalancer) -> None:
    headers = {"authorization": "Bearer a-client", "sec-fetch-site": "cross-site"}
    answer = await balancer.client.post("/v1/chat/completions", content=BODY, headers=headers)
    assert answer.status_code == 503, "nothing is configured"


async def test_a_body_that_stops_on_the_way_to_the_admin_api(tmp_path: Path) -> None:
    async with RunningBalancer(tmp_path, body_timeout_seconds=0.2) as balancer, raw_client(balancer.url) as client:
        client.send(b"POST /admin/api/session HTTP/1.1\r\nhost: b\r\ncontent-length: 100\r\n\r\n{")
        assert (await client.answer())[0] == 408
        assert await client.rest() == b""


async def test_a_name_with_a_line_break_in_the_query_stays_in_the_query() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        answer = await gateway.client.post(
            "/v1/chat/completions?node=a%0d%0aset-cookie:%20b=c&x=%0d%0ay:z", json=CHAT_BODY
        )
        assert "set-cookie" not in answer.headers and "y" not in answer.headers


@pytest.mark.parametrize("line", [b"set-cookie: a=b", b"x-evil: a\rset-cookie: b=c", b"x-evil: a\n set-cookie: b=c"])
async def test_no_header_of_an_endpoint_becomes_two_or_sets_a_cookie(line: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n%b\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}" % line)
        await writer.drain()

    async with RawServer(script) as server, RunningGateway(wired(f"{server.url}/v1")) as gateway:
        answer = await gateway.client.post("/v1/chat/completions", json=CHAT_BODY)
        assert answer.status_code in (200, 502)
        assert "set-cookie" not in answer.headers
        assert "\n" not in answer.headers.get("x-evil", "")
