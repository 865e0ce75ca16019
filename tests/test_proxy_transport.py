"""The short way to a client: what it writes, and that it speaks HTTP as the long way does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from balancer.proxy.endpoint import ProxyEndpoint
from balancer.proxy.transport import DirectAnswering, TransportProtocol
from balancer.server import ShortWay
from balancer.wire.openai import OPERATIONS
from tests.fakes import FakeServer
from tests.running import CHAT_BODY, CHAT_PATH, RunningApp, RunningGateway, content_of, raw_client, wired


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


class _Protocol(TransportProtocol):
    """As the balancer serves, but each client's writes are noted."""

    clients: list[_Noted]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        noted = _Noted(transport)
        self.clients.append(noted)
        super().connection_made(cast(asyncio.Transport, noted))


def noting() -> tuple[type[_Protocol], list[_Noted]]:
    clients: list[_Noted] = []
    return type("Protocol", (_Protocol,), {"clients": clients}), clients


# -- an answer by itself -------------------------------------------------------------------------------------------

Answer = Callable[[DirectAnswering], None]
Serve = Callable[[DirectAnswering], Coroutine[Any, Any, None]]


class Served:
    """An application that serves what is posted to `/` the short way, and nothing else."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve

    def direct(self, _: int | None) -> Mapping[bytes, Serve]:
        return {b"/": self._served}

    async def _served(self, answering: DirectAnswering) -> None:
        try:
            await self._serve(answering)
        finally:
            answering.over()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("this was to go the short way")


async def whole_body(answering: DirectAnswering) -> bytes:
    """The body of a request, as it comes."""
    body = await answering.read_body() or b""
    while answering.more_body:
        body += await answering.read_body() or b""
    return body


async def answers(answer: Answer, request: bytes, protocol: type[TransportProtocol] = TransportProtocol) -> bytes:
    """What a client gets for one request that is answered the short way."""

    async def serve(answering: DirectAnswering) -> None:
        await whole_body(answering)
        answer(answering)

    async with RunningApp(Served(serve), http=protocol) as running, raw_client(running.url) as client:
        client.send(request)
        return await client.rest()


LAST_REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


async def test_an_answer_of_known_length() -> None:
    def answer(answering: DirectAnswering) -> None:
        answering.begin(200, b"x-a: b\r\n", 5, b"he", more_body=True)
        answering.end(b"llo")

    got = await answers(answer, LAST_REQUEST)
    assert got == b"HTTP/1.1 200 OK\r\nx-a: b\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"


async def test_an_answer_of_unknown_length() -> None:
    def answer(answering: DirectAnswering) -> None:
        answering.begin(201, b"", None, b"", more_body=True)
        assert answering.write(b"")
        assert answering.write(b"x" * 16)
        answering.end(b"")

    head = b"HTTP/1.1 201 Created\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    assert await answers(answer, LAST_REQUEST) == head + b"10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"


async def test_an_answer_without_a_body() -> None:
    def answer(answering: DirectAnswering) -> None:
        answering.begin(204, b"", None, b"", more_body=False)

    assert await answers(answer, LAST_REQUEST) == b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


async def test_everything_at_once_is_one_write() -> None:
    def answer(answering: DirectAnswering) -> None:
        answering.begin(200, b"", None, b"hello", more_body=False)

    protocol, clients = noting()
    got = await answers(answer, LAST_REQUEST, protocol)
    assert got.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert [set(client.acts) for client in clients] == [{got, "closed"}]


@pytest.mark.parametrize(("body", "more_body"), [(b"toolong", True), (b"abc", False)])
async def test_a_body_of_another_length_than_told_is_a_mistake(body: bytes, more_body: bool) -> None:
    refused: list[str] = []

    def answer(answering: DirectAnswering) -> None:
        with pytest.raises(RuntimeError) as raised:
            answering.begin(200, b"", 5, body, more_body=more_body)
        refused.append(str(raised.value))
        answering.transport.close()
        answering.disconnected = True

    assert await answers(answer, LAST_REQUEST) == b""
    assert refused == ["the body is not as long as its head says"]


async def test_requests_behind_one_another_are_answered_in_order() -> None:
    waiting: list[DirectAnswering] = []

    def answer(answering: DirectAnswering) -> None:
        waiting.append(answering)
        answering.begin(200, b"", 1, b"%d" % len(waiting), more_body=False)

    more = b"POST /?c=%20d HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi" * 2
    got = await answers(answer, more + LAST_REQUEST)
    assert [part[-1:] for part in got.split(b"HTTP/1.1 200 OK")[1:]] == [b"1", b"2", b"3"]
    assert [each.query for each in waiting] == [b"c=%20d", b"c=%20d", b""]


async def test_who_has_left_gets_nothing() -> None:
    tried = asyncio.Event()
    gone = asyncio.Event()

    async def serve(answering: DirectAnswering) -> None:
        await whole_body(answering)
        left = asyncio.Event()
        answering.when_left(left.set)
        tried.set()
        await left.wait()
        answering.begin(200, b"", None, b"late", more_body=True)
        answering.write(b"later")
        answering.end(b"latest")
        gone.set()

    protocol, clients = noting()
    async with RunningApp(Served(serve), http=protocol) as running, raw_client(running.url) as client:
        client.send(LAST_REQUEST)
        await tried.wait()
        client.leave()
        await gone.wait()
    assert [act for noted in clients for act in noted.acts if act != "closed"] == []


async def test_a_connection_is_closed_when_it_was_idle_for_so_long_and_not_before() -> None:
    async def serve(answering: DirectAnswering) -> None:
        await whole_body(answering)
        answering.begin(200, b"", 1, b"x", more_body=False)

    async with RunningApp(Served(serve), timeout_keep_alive=0.6) as running, raw_client(running.url) as client:
        for _ in range(2):
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n")
            await asyncio.sleep(0.8)  # a request that arrives slowly is no silence
            client.send(b"hi")
            assert (await client.answer())[2] == b"x"
        began_at = asyncio.get_running_loop().time()
        assert await client.rest() == b""
        assert asyncio.get_running_loop().time() - began_at > 0.1


@pytest.mark.parametrize("size", [0, 1, 70_000])
async def test_a_body_that_has_arrived_is_taken_at_once(size: int) -> None:
    taken: list[bytes] = []

    async def serve(answering: DirectAnswering) -> None:
        whole = answering.take_body()
        taken.append(await whole_body(answering) if whole is None else whole)
        answering.begin(200, b"", 0, b"", more_body=False)

    async with RunningApp(Served(serve)) as running, raw_client(running.url) as client:
        for _ in range(2):
            client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
            assert (await client.answer())[0] == 200
    assert taken == [b"x" * size] * 2


# -- answers of the data plane ---------------------------------------------------------------------------------------


def joined_gateway(fake: FakeServer) -> tuple[RunningGateway, list[_Noted]]:
    gateway = RunningGateway(wired(fake))
    route = Route(CHAT_PATH, ProxyEndpoint(gateway.gateway, OPERATIONS[CHAT_PATH]), methods=["POST"])
    protocol, clients = noting()
    gateway.app = RunningApp(ShortWay(Starlette(routes=[route])), http=protocol)
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


@pytest.mark.parametrize("stream", [False, True])
async def test_on_another_server_the_answer_is_the_same(stream: bool) -> None:
    async with FakeServer() as fake:
        ours, theirs = RunningGateway(wired(fake)), RunningGateway(wired(fake))
        route = Route(CHAT_PATH, ProxyEndpoint(theirs.gateway, OPERATIONS[CHAT_PATH]), methods=["POST"])
        theirs.app = RunningApp(Starlette(routes=[route]), http=HttpToolsProtocol)
        async with ours, theirs:
            answers = [
                await each.client.post(CHAT_PATH, json=CHAT_BODY | {"stream": stream}) for each in (ours, theirs)
            ]
            assert [answer.status_code for answer in answers] == [200, 200]
            names = [{name for name, _ in answer.headers.raw} for answer in answers]
            assert names[0] == names[1]
            if stream:
                assert content_of(answers[0].text) == content_of(answers[1].text)
            assert ours.last.usage == theirs.last.usage
