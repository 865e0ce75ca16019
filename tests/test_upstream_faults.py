"""The data plane's HTTP/1.1 client against endpoints that misbehave, on real sockets: no leak, the right words."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import suppress
from dataclasses import replace

import pytest

from balancer.core.endpoints import Endpoint
from balancer.core.errors import BrokenConnection, ConnectError, ProtocolError, UpstreamTimeout
from balancer.upstream.connections import Connections
from balancer.upstream.http1 import Connection
from tests.raw_server import (
    RawServer,
    Script,
    answer,
    both_loops,
    chunked,
    eventually,
    read_request,
    resets,
    says,
    says_and_closes,
    stays_silent,
)
from tests.upstream_client import STREAM_HEAD, ask, connections, endpoint, post, read_to_end, whole


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


# -- connecting


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        (f"http://127.0.0.1:{closed_port()}", "connection refused"),
        ("http://nobody.invalid", "name not known|name server not answering"),
    ],
)
@both_loops
async def test_nobody_there(base_url: str, words: str) -> None:
    async with connections() as client:
        with pytest.raises(ConnectError, match=f"^({words})$"):
            await ask(client, Endpoint(1, "one", base_url))


async def test_nobody_at_any_of_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, closed_port())) for address in ("127.0.0.1", "127.0.0.2")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    async with connections() as client:
        with pytest.raises(ConnectError, match=r"^connection refused$"):
            await ask(client, Endpoint(1, "one", "http://several.example"))


@both_loops
async def test_connecting_has_a_time_of_its_own() -> None:
    async with RawServer(stays_silent) as server, connections(connect_timeout_seconds=0.05) as client:
        with pytest.raises(ConnectError, match=r"^connect timed out after 0\.05 s$"):
            await ask(client, Endpoint(1, "one", server.url.replace("http", "https")))
        await eventually(lambda: server.connections == 1 and not server.running)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (says_and_closes(), "TLS: connection closed during the handshake"),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "TLS: .+"),
    ],
    ids=["closes", "speaks HTTP"],
)
@both_loops
async def test_no_tls_there(script: Script, words: str) -> None:
    async def any_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reader.feed_data(b"\r\n\r\n")
        await script(reader, writer)

    async with RawServer(any_bytes) as server, connections() as client:
        with pytest.raises(ConnectError, match=f"^{words}$"):
            await ask(client, Endpoint(1, "one", server.url.replace("http", "https")))
        await eventually(lambda: not server.running)


# -- a reused connection that died


def answers_once_then(next_one: Script) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"first"))
        await read_request(reader)
        await next_one(reader, writer)

    return script


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Nothing more is said."""


async def cuts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    resets(writer)


@pytest.mark.parametrize("end", [closes, cuts])
@both_loops
async def test_a_stale_connection_is_replaced_once(end: Script) -> None:
    async with RawServer(answers_once_then(end), says(answer(b"second"))) as server, connections() as client:
        assert await ask(client, endpoint(server)) == b"first"
        response = await post(client, endpoint(server))
        assert not response.reused
        assert await whole(response) == b"second"
        assert server.connections == 2


@both_loops
async def test_the_replacement_is_a_fresh_connection_and_the_last_one() -> None:
    both_idle = answers_once_then(closes)
    async with RawServer(both_idle, both_idle, says_and_closes()) as server, connections() as client:
        for response in [await post(client, endpoint(server)) for _ in range(2)]:
            await whole(response)
        with pytest.raises(BrokenConnection, match=r"^closed the connection before answering$"):
            await ask(client, endpoint(server))
        assert server.connections == 3
        await eventually(lambda: repr(client) == "<Connections: 1 open, 1 idle>")


@both_loops
async def test_a_fresh_connection_that_dies_is_not_replaced() -> None:
    async with RawServer(says_and_closes()) as server, connections() as client:
        with pytest.raises(BrokenConnection, match=r"^closed the connection before answering$"):
            await ask(client, endpoint(server))
        assert server.connections == 1


@both_loops
async def test_a_reused_connection_that_had_begun_to_answer_is_not_replaced() -> None:
    async def begins(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 2")

    async with RawServer(answers_once_then(begins)) as server, connections() as client:
        await ask(client, endpoint(server))
        with pytest.raises(BrokenConnection, match=r"^closed the connection inside the response head$"):
            await ask(client, endpoint(server))
        assert server.connections == 1


@both_loops
async def test_a_reused_connection_that_stays_silent_is_a_timeout_and_not_replaced() -> None:
    async with RawServer(answers_once_then(stays_silent)) as server, connections() as client:
        await ask(client, endpoint(server))
        with pytest.raises(UpstreamTimeout):
            await ask(client, endpoint(server, timeout=0.05))
        assert server.connections == 1


# -- answers that break


@pytest.mark.parametrize(
    ("said", "body", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 1234, 1234, "cut after 1,234 of 5,000 bytes"),
        (STREAM_HEAD + chunked(b"x" * 10, last=False), 10, "cut after 10 bytes"),
        (STREAM_HEAD + chunked(b"x" * 10)[:-2], 10, "cut after 10 bytes"),
    ],
    ids=["length", "no last chunk", "no last line"],
)
@both_loops
async def test_a_cut_answer_is_read_up_to_the_cut(said: bytes, body: int, words: str) -> None:
    async with RawServer(says_and_closes(said)) as server, connections() as client:
        response = await post(client, endpoint(server))
        data, error = await read_to_end(response)
        assert data == b"x" * body
        assert isinstance(error, BrokenConnection)
        assert words in str(error)
        assert not response.complete
        response.close()


@both_loops
async def test_a_reset_in_an_answer_without_length() -> None:
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await go.wait()
        resets(writer)

    async with RawServer(script) as server, connections() as client:
        response = await post(client, endpoint(server))
        assert await response.read() == b"half"
        go.set()
        with pytest.raises(BrokenConnection, match=r"^answer cut after 4 bytes \(connection reset\)$"):
            await response.read()
        response.close()


@both_loops
async def test_a_refused_answer_closes_the_connection() -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"
    async with RawServer(says(said)) as server, connections() as client:
        with pytest.raises(ProtocolError, match=r"^not a valid HTTP answer: "):
            await ask(client, endpoint(server))
        await eventually(lambda: not server.running)


@pytest.mark.parametrize("tail", [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", b"HTTP/1.1 200", b"x"])
@both_loops
async def test_bytes_behind_an_answer_never_reach_the_next_one(tail: bytes) -> None:
    async with RawServer(says(answer(b"good") + tail), says(answer(b"next"))) as server, connections() as client:
        assert await ask(client, endpoint(server)) == b"good"
        assert await ask(client, endpoint(server)) == b"next"


@both_loops
async def test_bytes_on_an_idle_connection_never_reach_the_next_one() -> None:
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"good"))
        await go.wait()
        writer.write(answer(b"poison"))
        await stays_silent(reader, writer)

    async with RawServer(script, says(answer(b"next"))) as server, connections() as client:
        assert await ask(client, endpoint(server)) == b"good"
        go.set()
        await eventually(lambda: repr(client) == "<Connections: 0 open, 0 idle>")
        assert await ask(client, endpoint(server)) == b"next"


@both_loops
async def test_an_early_answer_is_delivered_and_its_connection_not_used_again() -> None:
    async def too_large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"too large", status=b"413 Content Too Large"))
        await writer.drain()

    async with RawServer(too_large, says(answer(b"next"))) as server, connections() as client:
        response = await post(client, endpoint(server), b"x" * 20_000_000)
        assert response.status == 413
        assert await whole(response) == b"too large"
        assert await ask(client, endpoint(server)) == b"next"
        assert server.connections == 2


# -- silence


@both_loops
async def test_silence_before_the_answer() -> None:
    async with RawServer(stays_silent) as server, connections() as client:
        with pytest.raises(UpstreamTimeout, match=r"^silent for 0\.05 s before answering$"):
            await ask(client, endpoint(server, timeout=0.05))
        await eventually(lambda: not server.running)


@both_loops
async def test_silence_inside_the_answer() -> None:
    async with RawServer(says(STREAM_HEAD + chunked(b"begun", last=False))) as server, connections() as client:
        response = await post(client, endpoint(server, timeout=0.3))
        data, error = await read_to_end(response)
        assert data == b"begun"
        assert str(error) == "silent for 0.3 s after 5 bytes"
        assert isinstance(error, UpstreamTimeout)
        response.close()
        await eventually(lambda: not server.running)


@both_loops
async def test_silence_while_pings_are_sent() -> None:
    async with RawServer(says(STREAM_HEAD)) as server, connections() as client:
        response = await post(client, endpoint(server, timeout=0.3))
        pings = 0
        with pytest.raises(UpstreamTimeout):
            while await response.read(0.06) is None:
                pings += 1
        assert 1 <= pings <= 5
        response.close()


# -- leaving early


async def nothing_is_left(client: Connections, server: RawServer) -> None:
    """No socket on either side, and no timer or callback that still knows a connection."""
    await eventually(lambda: repr(client) == "<Connections: 0 open, 0 idle>" and not server.running)

    def gone() -> bool:
        gc.collect()
        return not any(type(thing) is Connection for thing in gc.get_objects())

    await eventually(gone)


@pytest.mark.parametrize("where", ["tcp", "tls handshake", "tunnel", "inner handshake", "head", "reused head"])
@pytest.mark.usefixtures("fresh_heap")
@both_loops
async def test_a_cancelled_open_leaves_nothing(where: str) -> None:
    async def established(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await stays_silent(reader, writer)

    scripts = {"inner handshake": established, "reused head": answers_once_then(stays_silent)}
    async with RawServer(scripts.get(where, stays_silent)) as server:
        tunnel = where in ("tunnel", "inner handshake")
        async with connections(environ={"https_proxy": server.url} if tunnel else {}) as client:
            to = endpoint(server)
            if where == "reused head":
                await ask(client, to)
            if tunnel or where == "tls handshake":
                to = replace(to, base_url=server.url.replace("http", "https"))
            opening = asyncio.ensure_future(post(client, to))
            if where == "tcp":
                await asyncio.sleep(0)
            else:
                await eventually(lambda: server.running)
                for _ in range(20):
                    await asyncio.sleep(0)
            assert not opening.done()
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            del opening
            await nothing_is_left(client, server)


@pytest.mark.usefixtures("fresh_heap")
@both_loops
async def test_cancelled_at_any_step() -> None:
    async with RawServer(says(answer(b"x" * 200_000))) as server, connections() as client:
        for steps in range(40):
            asking = asyncio.ensure_future(ask(client, endpoint(server)))
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                assert await asking == b"x" * 200_000
            if steps % 2:
                client.forget(1)
        client.forget(1)
        del asking
        await nothing_is_left(client, server)


@pytest.mark.usefixtures("fresh_heap")
@both_loops
async def test_closing_early_tells_the_endpoint() -> None:
    async with RawServer(says(STREAM_HEAD + chunked(b"begun", last=False))) as server, connections() as client:
        response = await post(client, endpoint(server))
        assert await response.read() == b"begun"
        response.close()
        await eventually(lambda: not server.running)
        del response
        await nothing_is_left(client, server)


@both_loops
async def test_a_cancelled_read_can_be_repeated() -> None:
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAM_HEAD)
        await go.wait()
        writer.write(chunked(b"kept"))
        await stays_silent(reader, writer)

    async with RawServer(script) as server, connections() as client:
        response = await post(client, endpoint(server))
        reading = asyncio.ensure_future(response.read())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        go.set()
        assert await whole(response) == b"kept"
        assert repr(client) == "<Connections: 1 open, 1 idle>"


@both_loops
async def test_shutdown_ends_what_runs() -> None:
    async with RawServer(says(STREAM_HEAD), stays_silent) as server:
        client = Connections()
        response = await post(client, endpoint(server))
        reading = asyncio.ensure_future(response.read())
        opening = asyncio.ensure_future(post(client, endpoint(server)))
        await eventually(lambda: server.running == 2)
        await client.close()
        for task in (reading, opening):
            with pytest.raises(BrokenConnection, match=r"^the exchange was given up$"):
                await task
        response.close()
        assert repr(client) == "<Connections: 0 open, 0 idle>"


@both_loops
async def test_shutdown_while_connecting() -> None:
    async with RawServer(stays_silent) as server:
        client = Connections()
        opening = asyncio.ensure_future(post(client, endpoint(server)))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(ConnectError, match=r"^the balancer is shutting down$"):
            await opening
        await eventually(lambda: repr(client) == "<Connections: 0 open, 0 idle>" and not server.running)
