"""The process as an operator meets it: starting, signals, exit codes, the command line."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from balancer import __version__
from balancer.settings import SETTINGS
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.running import eventually

TOKEN = "operator-token"
ADMIN = {"x-admin-token": TOKEN}
KEY = "sk-provider-key-5678"
START_SECONDS = 20.0


def environment(directory: Path, **settings: str) -> dict[str, str]:
    """A clean environment with the database in `directory`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LB_")}
    return {**kept, "LB_DB_PATH": str(directory / "lb.db"), "LB_PORT": "0", "LB_ADMIN_TOKEN": TOKEN, **settings}


async def run(directory: Path, *arguments: str, given: str = "", **settings: str) -> tuple[int, str, str]:
    """Run a command to its end: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "balancer", *arguments),
        cwd=directory,
        env=environment(directory, **settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(given.encode()), START_SECONDS)
    return process.returncode or 0, out.decode(), err.decode()


class Served:
    """A serving process: its address, what it logged, and how it ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.lines.append(line.decode())
            found = re.search(r"listening on (http://\S+)", self.lines[-1])
            if found:
                self.url = found[1].rstrip('"}')

    async def ended(self) -> int:
        """Wait for the end; the exit code."""
        code = await asyncio.wait_for(self.process.wait(), START_SECONDS)
        await self.reading
        return code


@asynccontextmanager
async def serving(directory: Path, **settings: str) -> AsyncIterator[Served]:
    """A process that listens."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "balancer"),
        cwd=directory,
        env=environment(directory, **settings),
        stderr=asyncio.subprocess.PIPE,
    )
    served = Served(process)
    try:
        await asyncio.wait_for(_listening(served), START_SECONDS)
        yield served
    finally:
        if process.returncode is None:
            process.kill()
        await served.ended()


async def _listening(served: Served) -> None:
    while not served.url:
        assert not served.reading.done(), "".join(served.lines)
        await asyncio.sleep(0.01)


async def add(served: Served, fake: FakeServer, **fields: Any) -> None:
    body = {"name": "gpu-1", "base_url": fake.base_url, "connected": True, **fields}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{served.url}/admin/api/endpoints", json=body, headers=ADMIN)
        assert answer.status_code == 200, answer.text


async def test_sigterm_lets_a_stream_finish_and_stores_it(tmp_path: Path) -> None:
    paced = Behaviour(completion_tokens=20, tpot_seconds=0.05, prompt_tokens=3)
    async with FakeServer(paced) as fake, serving(tmp_path) as served, httpx.AsyncClient(trust_env=False) as client:
        await add(served, fake)
        body = {"model": "fake-model", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with client.stream("POST", f"{served.url}/v1/chat/completions", json=body) as answer:
            pieces = answer.aiter_text()
            text = await anext(pieces)
            served.process.send_signal(signal.SIGTERM)
            ready = await client.get(f"{served.url}/ready")
            while ready.status_code == 200:  # the signal is on its way
                ready = await client.get(f"{served.url}/ready")
            assert ready.json()["draining"] is True
            refused = await client.post(f"{served.url}/v1/chat/completions", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
            text += "".join([piece async for piece in pieces])
        assert text.endswith("data: [DONE]\n\n")
        assert await served.ended() == 0
    async with serving(tmp_path) as again, httpx.AsyncClient(trust_env=False) as client:
        state = (await client.get(f"{again.url}/admin/api/state", headers=ADMIN)).json()
        assert state["endpoints"][0]["completion_tokens_total"] == 20


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    stalling = Behaviour(fault="stall_headers")
    async with FakeServer(stalling) as fake, serving(tmp_path) as served, httpx.AsyncClient(trust_env=False) as client:
        await add(served, fake)
        body = {"model": "fake-model", "messages": [{"role": "user", "content": "hi"}]}
        hanging = asyncio.create_task(client.post(f"{served.url}/v1/chat/completions", json=body, timeout=30))
        await fake.wait_for(lambda stats: stats.inflight)
        served.process.send_signal(signal.SIGINT)
        await eventually(lambda: any("draining" in line for line in served.lines), "draining")
        served.process.send_signal(signal.SIGINT)
        assert await served.ended() == 0
        with pytest.raises(httpx.HTTPError):
            (await hanging).raise_for_status()
        assert not any("Traceback" in line for line in served.lines), "".join(served.lines)


async def test_nothing_secret_and_no_prompt_is_logged(tmp_path: Path) -> None:
    async with (
        FakeServer(Behaviour(fault="status", fault_status=500)) as fake,
        serving(tmp_path, LB_LOG_LEVEL="DEBUG", LB_LOG_FORMAT="json", LB_CLIENT_TOKENS="client-secret") as served,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        await add(served, fake, api_key=KEY)
        body = {"model": "fake-model", "messages": [{"role": "user", "content": "a private prompt"}]}
        headers = {"authorization": "Bearer client-secret"}
        answer = await client.post(f"{served.url}/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 500
        served.process.terminate()
        await served.ended()
        logged = "".join(served.lines)
        for secret in (KEY, TOKEN, "client-secret", "a private prompt"):
            assert secret not in logged
        assert all(json.loads(line)["level"] for line in served.lines)


async def test_wrong_settings_stop_the_start_with_a_line_each(tmp_path: Path) -> None:
    code, _, err = await run(tmp_path, "serve", LB_PORT="lots", LB_FAIL_THRESHOLD="0", ROUTING_STRATEGY="fastest")
    assert code == 2
    problems = err.strip().splitlines()
    assert len(problems) == 3
    for name in ("LB_PORT", "LB_FAIL_THRESHOLD", "ROUTING_STRATEGY"):
        assert any(name in line for line in problems)


async def test_a_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = await run(tmp_path, "serve", LB_PORT=port)
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    assert port in err and "LB_PORT" in err


async def test_a_generated_admin_token_is_kept_and_named_not_logged(tmp_path: Path) -> None:
    async with serving(tmp_path, LB_ADMIN_TOKEN="change-me-admin-token") as served:
        code, token, _ = await run(tmp_path, "admin-token", LB_ADMIN_TOKEN="")
        assert code == 0
        kept = tmp_path / "admin-token"
        assert kept.read_text().strip() == token.strip() != "change-me-admin-token"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        async with httpx.AsyncClient(trust_env=False) as client:
            headers = {"x-admin-token": token.strip()}
            assert (await client.get(f"{served.url}/admin/api/state", headers=headers)).status_code == 200
    assert token.strip() not in "".join(served.lines)
    assert any("admin-token" in line for line in served.lines)


async def test_check_says_what_is_there_and_what_is_wrong(tmp_path: Path) -> None:
    code, out, err = await run(tmp_path, "check", LB_PROT="1")
    assert code == 0
    assert "0 endpoints" in out
    assert "LB_PORT" in err
    (tmp_path / "broken.db").write_bytes(b"no database at all" * 100)
    code, out, err = await run(tmp_path, "check", LB_DB_PATH=str(tmp_path / "broken.db"))
    assert code == 1
    assert "not an SQLite database" in err and "Traceback" not in err


async def test_configuration_goes_out_and_in_again(tmp_path: Path) -> None:
    origin, copy = tmp_path / "origin", tmp_path / "copy"
    origin.mkdir()
    copy.mkdir()
    async with FakeServer() as fake, serving(origin) as served:
        await add(served, fake, api_key=KEY, tags=["h100"], model_aliases={"gpt": "fake-model"}, weight=2.5)
    plain, full = tmp_path / "plain.json", tmp_path / "full.json"
    full.write_text("old")
    full.chmod(0o644)
    assert (await run(origin, "config", "export", str(plain)))[0] == 0
    assert (await run(origin, "config", "export", "--with-keys", str(full)))[0] == 0
    assert KEY not in plain.read_text()
    assert KEY in full.read_text()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (plain, full)] == [0o600, 0o600]

    code, out, _ = await run(copy, "config", "import", str(full))
    assert (code, out.splitlines()[0]) == (0, "1 endpoints created, 0 updated")
    assert (await run(copy, "config", "import", str(plain)))[1].startswith("0 endpoints created, 1 updated")
    code, exported, _ = await run(copy, "config", "export", "--with-keys")
    assert json.loads(exported) == json.loads(full.read_text()), "a file without keys leaves the keys alone"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a configuration"),
        ('{"format": "llm-balancer configuration", "version": 9}', "version 9"),
        ('{"format": "llm-balancer configuration", "version": 1, "routing_mode": "fastest"}', "routing_mode"),
        (
            '{"format": "llm-balancer configuration", "version": 1, "endpoints": [{"name": "x", "base_url": "ftp://x"}]}',
            "endpoints[0].base_url",
        ),
    ],
)
async def test_a_bad_import_names_what_is_wrong_and_changes_nothing(tmp_path: Path, text: str, expected: str) -> None:
    code, _, err = await run(tmp_path, "config", "import", "-", given=text)
    assert code == 1
    assert expected in err and "Traceback" not in err
    assert "revision 0, 0 endpoints" in (await run(tmp_path, "check"))[1]


async def test_help_lists_every_setting(tmp_path: Path) -> None:
    code, out, _ = await run(tmp_path, "--help")
    assert code == 0
    assert all(setting.name in out for setting in SETTINGS)
    assert (await run(tmp_path, "--version"))[1].strip() == __version__
