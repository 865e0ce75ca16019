"""A kept connection that dies, or says too much, between two requests: the next one does not notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.faults.answers import Said, completion, stream
from tests.raw_server import RawServer, Script, read_request, resets
from tests.running import RunningGateway, wired

Turn = Callable[[asyncio.StreamWriter], None]


def answers_once(said: Said, then: Turn, *, at_once: bool) -> Script:
    """A script: one good answer, and then, at once or when the next request has come, something else."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said.sized())
        await writer.drain()
        if not at_once:
            await read_request(reader)
        then(writer)

    return script


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("then", "at_once"),
    [
        (lambda writer: writer.close(), False),
        (lambda writer: writer.close(), True),
        (resets, False),
        (resets, True),
        (lambda writer: writer.write(b"HTTP/1.1 408 Too Slow\r\n\r\n"), True),
    ],
    ids=["closed when used", "closed at once", "reset when used", "reset at once", "an answer that nobody asked for"],
)
async def test_a_kept_connection_that_dies_costs_nobody_anything(then: Turn, at_once: bool, streamed: bool) -> None:
    said = stream("a", "b") if streamed else completion("a")
    script = answers_once(said, then, at_once=at_once)
    async with RawServer(script) as server, RunningGateway(wired(server.url, include_usage=False)) as gateway:
        for _ in range(3):
            answer = await gateway.chat(stream=streamed)
            assert (answer.status_code, answer.content) == (200, said.whole)
            assert answer.headers["x-attempts"] == "1"
        await gateway.settled()
        state = gateway.state()
        assert (state.total_requests, state.total_success, state.total_failures) == (3, 3, 0)
        assert state.breaker.failures == 0
        assert server.connections == 3
