"""Endpoints at addresses where a cloud tells a machine's secrets: refused by what stands there and where it leads."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.endpoints import Endpoint
from balancer.core.errors import ConnectError
from balancer.upstream.addresses import REFUSED, is_refused
from balancer.upstream.control import ControlClient
from tests.admin_parts import AdminServer, admin_server
from tests.raw_server import RawServer, says_and_closes
from tests.running_balancer import RunningBalancer
from tests.upstream_client import connections, post

BAD_HOSTS = [
    "169.254.169.254",
    "169.254.0.1",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.254.169.254.",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "instance-data",
]
GOOD_HOSTS = [
    "127.0.0.1",
    "10.0.0.5",
    "192.168.1.9",
    "172.16.0.1",
    "100.64.0.1",
    "[::1]",
    "[fd00::5]",
    "localhost",
    "gpu-1",
]


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_every_way_to_write_them_is_known(host: str) -> None:
    assert is_refused(host.strip("[]").replace("%25", "%"))


@pytest.mark.parametrize("host", [*GOOD_HOSTS, "", "metadata.example.org", "169.253.255.255", "169.255.0.0"])
def test_where_model_servers_are_is_allowed(host: str) -> None:
    assert not is_refused(host.strip("[]"))


@given(st.integers(0, 2**32 - 1))
def test_every_notation_of_an_address_is_judged_alike(number: int) -> None:
    dotted = socket.inet_ntoa(number.to_bytes(4, "big"))
    others = (str(number), hex(number), f"::ffff:{dotted}", f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}")
    if number < 2**24:  # ip_address and inet_aton both read small numbers
        others = others[1:]
    assert {is_refused(each) for each in others} == {is_refused(dotted)}


@given(st.text(max_size=60))
def test_any_text_is_judged(text: str) -> None:
    is_refused(text)


# -- at the admin API


@pytest.fixture
async def server(template: Path, tmp_path: Path) -> AsyncIterator[AdminServer]:
    async with admin_server(template, tmp_path) as running:
        yield running


async def test_the_admin_api_refuses_them_by_the_field(server: AdminServer) -> None:
    await server.add("good")
    for host in BAD_HOSTS:
        bad = {"base_url": f"http://{host}:80/v1"}
        for method, path, body in (
            ("POST", "endpoints", {"name": "bad", **bad}),
            ("POST", "endpoints", [{"name": "also", "base_url": "http://a.test"}, {"name": "bad", **bad}]),
            ("PATCH", "endpoints/1", bad),
            ("PATCH", "endpoints", [{"id": 1, "fields": bad}]),
            ("POST", "test", bad),
            ("POST", "test", {"id": 1, **bad}),
        ):
            answer = await server.client.request(method, path, json=body)
            assert answer.status_code == 422, (host, path, answer.text)
            assert "base_url" in answer.json()["detail"][0]["loc"]
    assert len((await server.get("state"))["endpoints"]) == 1
    assert not server.asked, "nobody was asked"
    for number, host in enumerate(GOOD_HOSTS):
        await server.add(f"good-{number}", base_url=f"http://{host}:8000/v1")


@pytest.mark.parametrize("url", ["ftp://h/v1", "file:///etc/passwd", "javascript:alert(1)", "//h/v1", "h:80"])
async def test_only_http_and_https(server: AdminServer, url: str) -> None:
    answer = await server.client.post("endpoints", json={"name": "bad", "base_url": url})
    assert answer.status_code == 422


# -- where a name leads


class _Rebound(asyncio.Transport):
    """A transport whose other end has another address than it has: as after DNS rebinding."""

    def __init__(self, inner: asyncio.Transport, peer: tuple[Any, ...]) -> None:
        super().__init__({"peername": peer})
        self._inner = inner

    def abort(self) -> None:
        self._inner.abort()

    def write(self, data: Any) -> None:
        self._inner.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Elsewhere(asyncio.SelectorEventLoop):
    """Whatever name is connected to, it leads to `peer`; behind that stands whatever listens on 127.0.0.1."""

    peer: tuple[Any, ...] = ("169.254.169.254", 80)

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        transport, between = await super().create_connection(
            lambda: _Between(factory(), self.peer), "127.0.0.1", port, **options
        )
        return _Rebound(transport, self.peer), between.protocol


class _Between(asyncio.Protocol):
    """Tells a protocol what happens, over such a transport."""

    def __init__(self, protocol: asyncio.Protocol, peer: tuple[Any, ...]) -> None:
        self.protocol = protocol
        self._peer = peer

    def connection_made(self, transport: Any) -> None:
        self.protocol.connection_made(_Rebound(transport, self._peer))

    def data_received(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.protocol.connection_lost(exc)


@pytest.mark.parametrize("peer", [("169.254.169.254", 80), ("fd00:ec2::254", 80, 0, 0), ("fe80::1%eth0", 80, 0, 3)])
@pytest.mark.parametrize("allowed", [False, True])
def test_the_address_connected_to_is_judged_before_a_byte_is_sent(peer: tuple[Any, ...], allowed: bool) -> None:
    received: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(10))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def ask() -> None:
        async with RawServer(script) as server, connections(allow_link_local=allowed) as client:
            await (await post(client, Endpoint(1, "one", f"http://innocent.test:{server.port}/v1"))).read()

    loop = _Elsewhere()
    loop.peer = peer
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        if allowed:
            runner.run(ask())
        else:
            with pytest.raises(ConnectError, match="not allowed unless LB_ALLOW_LINK_LOCAL"):
                runner.run(ask())
    assert bool(b"".join(received)) is allowed


async def test_a_proxy_is_not_asked_for_them() -> None:
    async with RawServer(says_and_closes(b"HTTP/1.1 200 OK\r\n\r\n")) as proxy:
        async with connections(environ={"all_proxy": proxy.url}) as client:
            for scheme in ("http", "https"):
                with pytest.raises(ConnectError, match=REFUSED):
                    await post(client, Endpoint(1, "one", f"{scheme}://metadata.google.internal/v1"))
        assert proxy.connections == 0


async def test_probes_tests_and_requests_say_so(tmp_path: Path) -> None:
    """What stands in the database from before is not asked either."""
    async with RunningBalancer(tmp_path, allow_link_local=True) as balancer:
        body = {"name": "metadata", "base_url": "http://169.254.169.254/v1", "connected": True}
        await balancer.admin("POST", "/endpoints", body)
    async with RunningBalancer(tmp_path) as balancer:
        for path in ("/endpoints/1/test", "/endpoints/1/probe"):
            found = await balancer.admin("POST", path)
            assert (found["ok"], REFUSED in found["reason"]) == (False, True)
        answer = await balancer.client.post("/v1/chat/completions", json={"model": "m", "messages": []})
        assert answer.status_code == 502
        reverted = await balancer.admin("GET", "/requests")
        assert REFUSED in json.dumps(reverted)


async def test_the_control_client_never_raises_for_them() -> None:
    client = ControlClient()
    answer = await client.models(Endpoint(0, "", "http://2852039166/v1"))
    await client.close()
    assert (answer.verdict, answer.ok) == ("unreachable", False)
