"""The fake backend as a server: its switchboard, its connections, its command."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from load_tester.fake_answers import Request
from load_tester.fake_backend import main
from load_tester.fake_behaviour import BadBehaviour, Behaviour, parse_arguments
from tests.fakes import CHAT, STREAM, FakeServer, events_of, http_client


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


@pytest.fixture
async def client(fake: FakeServer) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(fake) as http:
        yield http


async def raw_exchange(fake: FakeServer, *pieces: bytes) -> bytes:
    """Sends the pieces one by one and returns all that comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


# --- the switchboard -------------------------------------------------------------------------------------------------


@pytest.fixture
async def switchboard(fake: FakeServer) -> AsyncIterator[httpx.AsyncClient]:
    url = f"http://127.0.0.1:{fake.port}/_fake"
    async with httpx.AsyncClient(base_url=url, timeout=5, trust_env=False) as http:
        yield http


async def test_behaviour_is_read_changed_and_reset_over_http(fake: FakeServer, switchboard: httpx.AsyncClient) -> None:
    before = (await switchboard.get("/behaviour")).json()
    changes = {"tpot_seconds": 1, "models": ["a", "b"], "api_key": "sk-new", "usage_style": "never"}
    after = await switchboard.patch("/behaviour", json=changes)
    assert after.status_code == 200
    assert (fake.behaviour.models, fake.behaviour.api_key) == (("a", "b"), "sk-new")
    assert "sk-new" not in after.text
    assert after.json() == {**before, "tpot_seconds": 1, "models": ["a", "b"], "usage_style": "never"}
    same = await switchboard.patch("/behaviour", json=after.json())
    assert same.json() == after.json(), "what is read can be written back"
    assert (await switchboard.post("/reset")).json() == before
    assert fake.behaviour == Behaviour()


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"ttft": 1}, "ttft"),
        ({"ttft_seconds": "1"}, "ttft_seconds"),
        ({"ttft_seconds": -1}, "ttft_seconds"),
        ({"ttft_seconds": True}, "ttft_seconds"),
        ({"ttft_seconds": None}, "ttft_seconds"),
        ({"completion_tokens": 1.5}, "completion_tokens"),
        ({"data_space": 1}, "data_space"),
        ({"models": "a"}, "models"),
        ({"models": ["a", 1]}, "models"),
        ({"models": {"a": 1}}, "models"),
        ({"headers": ["a: b\r\nc: d"]}, "headers"),
        ({"name": "two words"}, "name"),
        ({"retry_after": "1\n"}, "retry_after"),
        ({"api_key": "a\r\nb"}, "api_key"),
        ({"line_ending": "\r"}, "line_ending"),
        ({"fault": "explode"}, "fault"),
        ({"fault_status": 200}, "fault_status"),
        ({"fault_probability": 1.01}, "fault_probability"),
        ({"fault": "refuse"}, "refuse_seconds"),
    ],
)
async def test_bad_changes_are_refused_by_name_and_change_nothing(
    fake: FakeServer, switchboard: httpx.AsyncClient, changes: dict[str, Any], param: str
) -> None:
    refused = await switchboard.patch("/behaviour", json={"seed": 5, **changes})
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == param
    assert refused.json()["error"]["message"].startswith(param)
    assert fake.behaviour == Behaviour()
    with pytest.raises(BadBehaviour, match=param):
        Behaviour().changed(changes)


async def test_switchboard_refuses_what_it_does_not_know(switchboard: httpx.AsyncClient) -> None:
    assert (await switchboard.patch("/behaviour", content=b"{")).status_code == 400
    assert (await switchboard.patch("/behaviour", json=[1])).status_code == 422
    assert (await switchboard.get("/nothing")).status_code == 404
    assert (await switchboard.post("/behaviour", json={})).status_code == 404


async def test_statistics_over_http(
    fake: FakeServer, client: httpx.AsyncClient, switchboard: httpx.AsyncClient
) -> None:
    fake.behaviour = replace(fake.behaviour, prompt_tokens=9, fault="status", fault_scope="get")
    await client.post("/chat/completions?x=1", json=CHAT, headers={"X-Seen": "yes"})
    await client.get("/models")
    seen = (await switchboard.get("/stats")).json()
    assert seen["requests"] == {"/v1/chat/completions": 1, "/v1/models": 1}
    assert (seen["prompt_tokens"], seen["completion_tokens"], seen["total_requests"]) == (9, 5, 2)
    assert (seen["inflight"], seen["max_inflight"], seen["disconnects"], seen["faults"]) == (0, 1, 0, 1)
    await client.post("/chat/completions", json=CHAT, headers={"X-Seen": "yes"})
    seen = (await switchboard.get("/stats")).json()
    assert seen["last_headers"]["x-seen"] == "yes"
    assert json.loads(seen["last_body"]) == CHAT
    await switchboard.post("/reset")
    seen = (await switchboard.get("/stats")).json()
    assert (seen["total_requests"], seen["prompt_tokens"], seen["last_body"]) == (0, 0, "")
    assert seen["connections"] == 2


async def test_counted_paths_are_bounded(fake: FakeServer) -> None:
    for number in range(1_010):
        fake.stats.count(Request("GET", f"/{number}", {}))
    assert len(fake.stats.requests) == 1_001
    assert fake.stats.total_requests == 1_010


# --- the connection --------------------------------------------------------------------------------------------------

REQUEST = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 14\r\n%b\r\n" + b'{"prompt":"x"}'
LAST = REQUEST % b"connection: close\r\n"


async def test_requests_are_read_however_they_are_cut(fake: FakeServer) -> None:
    whole = await raw_exchange(fake, LAST)
    bytewise = await raw_exchange(fake, *(LAST[i : i + 1] for i in range(len(LAST))))
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert whole.partition(b"\r\n\r\n")[2].replace(b"fake-1", b"fake-2") == bytewise.partition(b"\r\n\r\n")[2]


async def test_pipelined_requests_are_answered_in_order(fake: FakeServer) -> None:
    fake.behaviour = replace(fake.behaviour, ttft_seconds=0.002)
    answered = await raw_exchange(fake, (REQUEST % b"") * 20 + LAST)
    numbers = [int(part.split(b'"')[0]) for part in answered.split(b'"id":"cmpl-fake-')[1:]]
    assert numbers == list(range(1, 22))
    assert fake.stats.max_inflight == 1


async def test_too_many_pipelined_requests_close_the_connection(fake: FakeServer) -> None:
    assert (await raw_exchange(fake, (REQUEST % b"") * 100 + LAST)).count(b"HTTP/1.1 200") == 101
    fake.behaviour = replace(fake.behaviour, ttft_seconds=0.01)
    assert (await raw_exchange(fake, (REQUEST % b"") * 100)).count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * (2**20 + 1) + b"\r\n\r\n", b"431"),
    ],
)
async def test_what_is_no_request_is_refused(fake: FakeServer, sent: bytes, status: bytes) -> None:
    try:
        answered = await raw_exchange(fake, sent)
    except ConnectionError:
        assert status == b"431", "unread bytes turn the end into a reset"
    else:
        assert answered.startswith(b"HTTP/1.1 " + status)
    await fake.wait_for(lambda stats: stats.connections == 0)
    assert fake.stats.total_requests == 0


async def test_expectation_is_met(fake: FakeServer) -> None:
    answered = await raw_exchange(fake, REQUEST % b"expect: 100-continue\r\nconnection: close\r\n")
    assert answered.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_old_clients_get_a_stream_that_ends_with_the_connection(fake: FakeServer) -> None:
    body = json.dumps(STREAM).encode()
    head = b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body)
    head_sent, _, events = (await raw_exchange(fake, head + body)).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head_sent
    assert events_of(events.decode())[-1] == "[DONE]"


async def test_upgrade_is_answered_but_never_made(fake: FakeServer) -> None:
    head = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    assert (await raw_exchange(fake, head + b"PRI * HTTP/2.0")).startswith(b"HTTP/1.1 200 OK\r\n")
    await fake.wait_for(lambda stats: stats.connections == 0)


async def test_stream_waits_for_a_slow_client_and_notices_when_it_leaves(fake: FakeServer) -> None:
    fake.behaviour = replace(fake.behaviour, completion_tokens=400_000)
    body = json.dumps({"messages": ["x"], "stream": True}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", fake.port, limit=1_024)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await fake.wait_for(lambda stats: stats.completion_tokens > 0)
    assert fake.stats.completion_tokens < 200_000
    assert fake.stats.inflight == 1
    writer.transport.abort()
    await fake.wait_for(lambda stats: stats.disconnects == 1 and stats.inflight == 0)
    assert fake.stats.completion_tokens < 200_000
    await writer.wait_closed()


async def test_closing_drops_what_is_in_hand() -> None:
    async with FakeServer(Behaviour(fault="stall_body")) as fake:
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
        writer.write(REQUEST % b"")
        await fake.wait_for(lambda stats: stats.inflight == 1)
    assert (fake.stats.inflight, fake.stats.connections, fake.stats.disconnects) == (0, 0, 0)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
    writer.close()
    await writer.wait_closed()


# --- the command -----------------------------------------------------------------------------------------------------


def test_arguments_become_behaviour() -> None:
    line = "--port 9001 --name gpu-1 --ttft 0.2 --tpot-seconds 2e-2 --models a b --no-data-space --line-ending crlf"
    arguments = parse_arguments([*line.split(), "--headers", "x-a: 1", "x-b: 2", "--fault", "status"])
    assert (arguments.host, arguments.port) == ("127.0.0.1", 9001)
    assert arguments.behaviour == Behaviour(
        name="gpu-1",
        ttft_seconds=0.2,
        tpot_seconds=0.02,
        models=("a", "b"),
        data_space=False,
        line_ending="\r\n",
        headers=("x-a: 1", "x-b: 2"),
        fault="status",
    )
    assert parse_arguments([]).behaviour == Behaviour()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--port 70000", "--port"),
        ("--port -1", "--port"),
        ("--tpot fast", "--tpot"),
        ("--tpot nan", "--tpot"),
        ("--ttft -1", "--ttft"),
        ("--completion-tokens 1.5", "--completion-tokens"),
        ("--fault explode", "--fault"),
        ("--usage-style sometimes", "--usage-style"),
        ("--line-ending cr", "--line-ending"),
        ("--headers nonsense", "--headers"),
        ("--fault refuse", "--refuse-seconds"),
        ("--speed 9", "--speed"),
    ],
)
def test_bad_arguments_are_named(line: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(line.split())
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]


def test_help_names_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for name in Behaviour().to_json():
        assert f"--{name.replace('_', '-')}" in text


async def test_command_serves_until_told_to_stop(fake: FakeServer) -> None:
    command = (sys.executable, "-m", "load_tester.fake_backend")
    process = await asyncio.create_subprocess_exec(*command, "--port", "0", "--name", "gpu-1", stdout=PIPE, stderr=PIPE)
    refused = await asyncio.create_subprocess_exec(*command, "--port", str(fake.port), stdout=PIPE, stderr=PIPE)
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("fake backend gpu-1 at http://127.0.0.1:")
        url = line.split()[-1]
        async with httpx.AsyncClient(base_url=url, timeout=5, trust_env=False) as http:
            assert (await http.post("/chat/completions", json=CHAT)).status_code == 200
            await http.patch(url.replace("/v1", "/_fake/behaviour"), json={"fault": "reset"})
            with pytest.raises(httpx.ReadError):
                await http.post("/chat/completions", json=CHAT)
        process.send_signal(signal.SIGTERM)
        assert (await process.communicate())[1] == b""
        assert process.returncode == 0
        complaint = (await refused.communicate())[1].decode()
        assert refused.returncode == 1
        assert f"cannot listen on 127.0.0.1:{fake.port}" in complaint
    finally:
        for started in (process, refused):
            if started.returncode is None:
                started.kill()
                await started.wait()
