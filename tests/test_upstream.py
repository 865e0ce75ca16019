"""The data plane's HTTP/1.1 client against endpoints that behave."""

from __future__ import annotations

import asyncio
import socket

import pytest

from balancer.core.errors import ConnectError
from balancer.upstream.connections import Connections
from balancer.upstream.http1 import UpstreamResponse
from tests.raw_server import (
    RawRequest,
    RawServer,
    answer,
    both_loops,
    chunked,
    eventually,
    read_request,
    says,
    says_and_closes,
    stays_silent,
)
from tests.upstream_client import STREAM_HEAD, ask, connections, endpoint, post, whole


def read_now(response: UpstreamResponse) -> bytes | None:
    """`read()` without an event loop: fails where it would suspend."""
    with pytest.raises(StopIteration) as stopped:
        response.read().send(None)
    result: bytes | None = stopped.value.value
    return result


# -- the request


@both_loops
async def test_a_request_on_the_wire() -> None:
    seen: list[RawRequest] = []
    async with RawServer(says(answer(), seen=seen)) as server, connections() as client:
        to = endpoint(server, "/team a/v1", api_key="sk-1")
        lines = b"content-type: application/json\r\nx-a: b\r\n"
        await whole(await client.open(to, b"/chat/completions?x=1", lines, b'{"model":"m"}'))
        assert seen[0].lines == [
            b"POST /team%20a/v1/chat/completions?x=1 HTTP/1.1",
            b"host: 127.0.0.1:%d" % server.port,
            b"authorization: Bearer sk-1",
            b"content-type: application/json",
            b"x-a: b",
            b"content-length: 13",
        ]
        assert seen[0].body == b'{"model":"m"}'


@both_loops
async def test_without_key_and_without_body() -> None:
    seen: list[RawRequest] = []
    async with RawServer(says(answer(), seen=seen)) as server, connections() as client:
        await whole(await client.open(endpoint(server, ""), b"/models", b"", b"", method=b"GET"))
        await whole(await client.open(endpoint(server, ""), b"/models", b"", b""))
        host = b"host: 127.0.0.1:%d" % server.port
        assert seen[0].lines == [b"GET /models HTTP/1.1", host]
        assert seen[1].lines == [b"POST /models HTTP/1.1", host, b"content-length: 0"]


@pytest.mark.parametrize("path", [b"", b"models", b"/a b", b"/a\r\nx: y", b"/\x00"])
@both_loops
async def test_paths_that_cannot_be_sent(path: bytes) -> None:
    async with RawServer(stays_silent) as server, connections() as client:
        with pytest.raises(ValueError, match="path"):
            await client.open(endpoint(server), path, b"", b"")
        assert server.connections == 0


@both_loops
async def test_head_is_refused_because_its_answer_cannot_be_framed() -> None:
    async with RawServer(stays_silent) as server, connections() as client:
        with pytest.raises(ValueError, match="HEAD"):
            await client.open(endpoint(server), b"/models", b"", b"", method=b"HEAD")


@both_loops
async def test_a_large_body_arrives_whole() -> None:
    seen: list[RawRequest] = []
    body = bytes(range(256)) * 16 * 1024
    async with RawServer(says(answer(), seen=seen)) as server, connections() as client:
        assert await whole(await post(client, endpoint(server), body)) == b"ok"
        assert seen[0].body == body
        assert await ask(client, endpoint(server)) == b"ok"
        assert server.connections == 1


@both_loops
async def test_ipv6() -> None:
    seen: list[RawRequest] = []
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    async with RawServer(says(answer(), seen=seen), host="::1") as server, connections() as client:
        assert await ask(client, endpoint(server)) == b"ok"
        assert seen[0].lines[1] == b"host: [::1]:%d" % server.port


# -- the answer


@both_loops
async def test_an_answer_with_a_length() -> None:
    said = answer(b"hello", b"Content-Type: text/plain", b"X-A: 1", b"x-a: 2", status=b"404 Not Found")
    async with RawServer(says(said)) as server, connections() as client:
        response = await post(client, endpoint(server))
        assert response.status == 404
        assert response.headers == [
            (b"content-type", b"text/plain"),
            (b"x-a", b"1"),
            (b"x-a", b"2"),
            (b"content-length", b"5"),
        ]
        assert (await response.read(), response.complete) == (b"hello", True)
        assert await response.read() == b""
        response.close()
        response.close()
        assert repr(client) == "<Connections: 1 open, 1 idle>"
        with pytest.raises(RuntimeError, match="close"):
            await response.read()


@both_loops
async def test_a_stream_arrives_as_it_is_sent() -> None:
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAM_HEAD)
        for piece in (b"one", b"two"):
            await go.wait()
            go.clear()
            writer.write(chunked(piece, last=False))
        await go.wait()
        writer.write(chunked())
        await stays_silent(reader, writer)

    async with RawServer(script) as server, connections() as client:
        response = await post(client, endpoint(server))
        for expected in (b"one", b"two", b""):
            assert not response.complete
            reading = asyncio.ensure_future(response.read())
            await asyncio.sleep(0)
            assert not reading.done()
            go.set()
            assert await reading == expected
        assert response.complete
        response.close()
        assert repr(client) == "<Connections: 1 open, 1 idle>"


@both_loops
async def test_what_is_buffered_is_read_at_once_and_joined() -> None:
    async with RawServer(says(STREAM_HEAD + chunked(b"a", b"b", b"c"))) as server, connections() as client:
        response = await post(client, endpoint(server))
        assert read_now(response) == b"abc"
        assert read_now(response) == b""
        response.close()


@both_loops
async def test_read_wakes_for_a_ping_and_loses_nothing() -> None:
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAM_HEAD)
        await go.wait()
        writer.write(chunked(b"late"))
        await stays_silent(reader, writer)

    async with RawServer(script) as server, connections() as client:
        response = await post(client, endpoint(server))
        assert await response.read(0.01) is None
        assert await response.read(0.01) is None
        go.set()
        assert await response.read(30) == b"late"
        assert await response.read(30) == b""
        response.close()


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n", 304, b""),
        (answer(b""), 200, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(), 200, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 20 + answer(), 200, b"ok"),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (STREAM_HEAD + b"2;name=value\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n", 200, b"ok"),
    ],
    ids=["204", "304", "empty", "100", "103", "1.0 keep-alive", "extension and trailer"],
)
@both_loops
async def test_answers_after_which_the_connection_serves_again(said: bytes, status: int, body: bytes) -> None:
    async with RawServer(says(said)) as server, connections() as client:
        for reused in (False, True):
            response = await post(client, endpoint(server))
            assert (response.status, response.reused) == (status, reused)
            assert not {b"link", b"x-trailer"} & dict(response.headers).keys()
            assert await whole(response) == body
        assert b"x-trailer" not in dict(response.headers)
        assert server.connections == 1


@pytest.mark.parametrize(
    "said",
    [
        answer(b"ok", b"Connection: close"),
        answer(b"ok", b"Connection: x, Close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ok"),
    ],
    ids=["close", "close in a list", "1.0", "1.0 with a coding"],
)
@both_loops
async def test_answers_after_which_the_connection_is_closed(said: bytes) -> None:
    async with RawServer(says(said)) as server, connections(keepalive_expiry_seconds=60) as client:
        assert await ask(client, endpoint(server)) == b"ok"
        await eventually(lambda: not server.running)
        assert repr(client) == "<Connections: 0 open, 0 idle>"
        assert await ask(client, endpoint(server)) == b"ok"
        assert server.connections == 2


@both_loops
async def test_an_answer_without_length_ends_with_its_connection() -> None:
    script = says_and_closes(b"HTTP/1.1 200 OK\r\n\r\nup to the end")
    async with RawServer(script) as server, connections() as client:
        assert await ask(client, endpoint(server)) == b"up to the end"


@both_loops
async def test_a_slow_reader_slows_the_endpoint_down() -> None:
    piece, count = bytes(range(256)) * 64, 256

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * count))
            for _ in range(count):
                writer.write(piece)
                await writer.drain()

    async with RawServer(script) as server, connections() as client:
        response = await post(client, endpoint(server))
        read = []
        while not response.complete:
            for _ in range(200):
                await asyncio.sleep(0)  # enough for megabytes to arrive if nothing held them back
            read.append(await response.read() or b"")
        response.close()
        assert b"".join(read) == piece * count
        # One read of a loop's transport (256 KB) may follow what was just not too much.
        assert max(map(len, read)) <= (64 + 256) * 1024
        again = await post(client, endpoint(server))
        assert again.reused
        assert await whole(again) == piece * count


# -- keep-alive


@both_loops
async def test_the_connection_used_last_is_used_first() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = b"%d" % server.connections
        await says(answer(number))(reader, writer)

    async with RawServer(script) as server, connections() as client:
        first = await post(client, endpoint(server))
        second = await post(client, endpoint(server))
        assert await whole(second) == b"2"
        assert await whole(first) == b"1"
        assert repr(client) == "<Connections: 2 open, 2 idle>"
        assert [await ask(client, endpoint(server)) for _ in range(3)] == [b"1", b"1", b"1"]


@both_loops
async def test_idle_connections_are_too_old_after_a_while() -> None:
    now = 0.0
    async with (
        RawServer(says(answer())) as server,
        connections(keepalive_expiry_seconds=40, clock=lambda: now) as client,
    ):
        for now, connected in ((0.0, 1), (39.0, 1), (78.0, 1), (118.0, 2), (200.0, 3)):  # noqa: B007 - the clock's
            await ask(client, endpoint(server))
            assert server.connections == connected
            await eventually(lambda: repr(client) == "<Connections: 1 open, 1 idle>")


@both_loops
async def test_idle_connections_are_closed_after_a_while() -> None:
    async with RawServer(says(answer())) as server, connections(keepalive_expiry_seconds=0.05) as client:
        first = await post(client, endpoint(server))
        await ask(client, endpoint(server))
        await whole(first)
        await eventually(lambda: not server.running)
        assert repr(client) == "<Connections: 0 open, 0 idle>"
        await ask(client, endpoint(server))
        await eventually(lambda: not server.running)


@both_loops
async def test_only_so_many_connections_are_kept() -> None:
    async with RawServer(says(answer())) as server, connections(max_keepalive=2) as client:
        for response in [await post(client, endpoint(server)) for _ in range(5)]:
            assert await whole(response) == b"ok"
        await eventually(lambda: server.running == 2)
        assert repr(client) == "<Connections: 2 open, 2 idle>"


@both_loops
async def test_a_connection_the_endpoint_closes_is_gone_at_once() -> None:
    async with RawServer(says_and_closes(answer())) as server, connections() as client:
        await ask(client, endpoint(server))
        await eventually(lambda: repr(client) == "<Connections: 0 open, 0 idle>")


@both_loops
async def test_forget_closes_what_is_idle_and_lets_the_rest_finish() -> None:
    async with RawServer(says(answer(b"x" * 100))) as server, connections() as client:
        running = await post(client, endpoint(server))
        await ask(client, endpoint(server))
        assert repr(client) == "<Connections: 2 open, 1 idle>"
        client.forget(1)
        client.forget(2)
        await eventually(lambda: server.running == 1)
        assert await whole(running) == b"x" * 100
        await eventually(lambda: not server.running)


@both_loops
async def test_a_changed_endpoint_does_not_get_the_old_connections() -> None:
    async with RawServer(says(answer(b"a"))) as old, RawServer(says(answer(b"b"))) as new, connections() as client:
        running = await post(client, endpoint(old))
        assert await ask(client, endpoint(old)) == b"a"
        assert await ask(client, endpoint(new)) == b"b"
        assert await whole(running) == b"a"
        assert await ask(client, endpoint(new)) == b"b"
        await eventually(lambda: not old.running)
        assert (old.connections, new.connections) == (2, 1)


@both_loops
async def test_a_changed_key_takes_effect_at_once() -> None:
    seen: list[RawRequest] = []
    async with RawServer(says(answer(), seen=seen)) as server, connections() as client:
        for key in ("sk-old", "sk-new", ""):
            await ask(client, endpoint(server, api_key=key))
        assert [line for request in seen for line in request.lines if b"authorization" in line] == [
            b"authorization: Bearer sk-old",
            b"authorization: Bearer sk-new",
        ]
        assert server.connections == 1
        with pytest.raises(ConnectError, match=r"^api_key: holds characters that cannot be sent$"):
            await ask(client, endpoint(server, api_key="a\r\nb"))


@both_loops
async def test_close_waits_until_every_socket_is_closed() -> None:
    async with RawServer(says(answer(b"x" * 10_000_000))) as server:
        client = Connections()
        await ask(client, endpoint(server))
        await post(client, endpoint(server))
        await client.close()
        assert repr(client) == "<Connections: 0 open, 0 idle>"
        await client.close()
        with pytest.raises(ConnectError, match="shutting down"):
            await post(client, endpoint(server))
        assert server.connections == 1
