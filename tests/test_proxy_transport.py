"""Writes to a client that leave as one: the transport by itself, and answers on a real server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from balancer.proxy.endpoint import TRANSPORT_EXTENSION, ProxyEndpoint
from balancer.proxy.transport import JoiningTransport, Outlet
from balancer.wire.openai import OPERATIONS
from tests.fakes import FakeServer
from tests.running import CHAT_BODY, CHAT_PATH, RunningApp, RunningGateway, wired


class _Noted:
    """Notes writes and closing, and passes them on to `transport` if there is one."""

    def __init__(self, transport: Any = None) -> None:
        self.transport = transport
        self.acts: list[bytes | str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name, None)

    def write(self, data: bytes) -> None:
        self.acts.append(data)
        if self.transport is not None:
            self.transport.write(data)

    def close(self) -> None:
        self.acts.append("closed")
        if self.transport is not None:
            self.transport.close()


def joining(noted: _Noted) -> JoiningTransport:
    return JoiningTransport(cast(asyncio.Transport, noted))


def test_what_is_held_leaves_in_one_write() -> None:
    noted = _Noted()
    transport = joining(noted)
    transport.write(b"at once")
    transport.hold()
    transport.write(b"head, ")
    transport.write(b"body")
    assert noted.acts == [b"at once"]
    transport.let_go()
    transport.write(b"more")
    assert noted.acts == [b"at once", b"head, body", b"more"]


def test_letting_go_of_nothing_writes_nothing() -> None:
    noted = _Noted()
    transport = joining(noted)
    transport.hold()
    transport.let_go()
    transport.let_go()
    assert noted.acts == []


def test_closing_comes_behind_what_is_held() -> None:
    noted = _Noted()
    transport = joining(noted)
    transport.hold()
    transport.write(b"head, body")
    transport.close()
    transport.let_go()
    assert noted.acts == [b"head, body", "closed"]


@dataclass
class _Flow:
    write_paused: bool = False


@dataclass
class _Answering:
    transport: Any
    flow: _Flow
    chunked_encoding: bool | None = True


def test_an_outlet_writes_chunks_and_tells_of_room() -> None:
    noted, flow = _Noted(SimpleNamespace(write=lambda data: None, is_closing=lambda: False)), _Flow()
    outlet = Outlet(_Answering(joining(noted), flow))
    assert outlet.write(b"data: x\n\n")
    flow.write_paused = True
    assert not outlet.write(b"y" * 16)
    assert not outlet.has_room
    flow.write_paused = False
    assert outlet.has_room
    assert noted.acts == [b"9\r\ndata: x\n\n\r\n", b"10\r\n" + b"y" * 16 + b"\r\n"]


def test_an_outlet_writes_nothing_to_a_client_that_left() -> None:
    noted = _Noted(SimpleNamespace(is_closing=lambda: True))
    assert Outlet(_Answering(joining(noted), _Flow())).write(b"late")
    assert noted.acts == []


class _Protocol(HttpToolsProtocol):
    """As the balancer serves, but each client's writes are noted."""

    clients: list[_Noted]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        noted = _Noted(transport)
        self.clients.append(noted)
        super().connection_made(cast(asyncio.Transport, joining(noted)))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, Any] = {TRANSPORT_EXTENSION: self.transport}
        self.scope["extensions"] = extensions


def joined_gateway(fake: FakeServer) -> tuple[RunningGateway, list[_Noted]]:
    gateway = RunningGateway(wired(fake))
    route = Route(CHAT_PATH, ProxyEndpoint(gateway.gateway, OPERATIONS[CHAT_PATH]), methods=["POST"])
    clients: list[_Noted] = []
    gateway.app = RunningApp(Starlette(routes=[route]), http=type("Protocol", (_Protocol,), {"clients": clients}))
    return gateway, clients


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_an_answer_is_one_write(connection: str) -> None:
    async with FakeServer() as fake:
        gateway, clients = joined_gateway(fake)
        async with gateway:
            answer = await gateway.client.post(CHAT_PATH, json=CHAT_BODY, headers={"connection": connection})
            assert answer.status_code == 200
            assert answer.json()["choices"]
            (client,) = clients
            first, *rest = client.acts
            assert isinstance(first, bytes)
            assert first.startswith(b"HTTP/1.1 200 OK\r\n")
            assert first.endswith(b"}")
            assert set(rest) == (set() if connection == "keep-alive" else {"closed"})


async def test_a_stream_begins_with_its_head_and_its_first_event() -> None:
    async with FakeServer() as fake:
        gateway, clients = joined_gateway(fake)
        async with gateway:
            answer = await gateway.client.post(CHAT_PATH, json=CHAT_BODY | {"stream": True})
            assert answer.text.endswith("data: [DONE]\n\n")
            (client,) = clients
            first, last = client.acts[0], client.acts[-1]
            assert isinstance(first, bytes)
            assert isinstance(last, bytes)
            assert first.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"data: " in first
            assert last.endswith(b"0\r\n\r\n")
