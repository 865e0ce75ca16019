"""Admin pages and API on a port of their own; everything on loopback unless told."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import httpx
import pytest

from balancer.settings import Settings
from tests.fakes import FakeServer
from tests.running import eventually
from tests.test_process import ADMIN, TOKEN, Served, run, serving

ADMIN_PATHS = (
    "/admin",
    "/admin/",
    "/admin/api/state",
    "/admin/api/openapi.json",
    "/admin/api",
    "/admin/favicon.svg",
    "/",
)
PUBLIC_PATHS = ("/v1/models", "/v1/nodes", "/health", "/ready", "/metrics", "/healthz", "/api/routing/stats")


async def admin_url(served: Served) -> str:
    def found() -> re.Match[str] | None:
        return re.search(r"admin pages at (http://\S+)/admin", "".join(served.lines))

    await eventually(found)
    url = found()
    assert url is not None
    return url[1]


async def test_each_port_serves_its_own_and_nothing_else(tmp_path: Path) -> None:
    async with (
        FakeServer() as fake,
        serving(tmp_path, LB_ADMIN_PORT="0") as served,
        httpx.AsyncClient(trust_env=False, headers={**ADMIN, "accept": "text/html"}) as client,
    ):
        inside = await admin_url(served)
        for path in ADMIN_PATHS:
            assert (await client.get(served.url + path)).status_code == 404, path
            assert (await client.get(inside + path)).status_code in (
                200,
                307,
                404 if path == "/admin/api" else 200,
                503,
            )
        for path in PUBLIC_PATHS:
            assert (await client.get(served.url + path)).status_code in (200, 503), path
            assert (await client.get(inside + path)).status_code == 404, path
        # What a client says about itself moves it to no other port.
        port = inside.rpartition(":")[2]
        for headers in ({"host": f"127.0.0.1:{port}"}, {"x-forwarded-port": port}, {"x-forwarded-host": inside}):
            assert (await client.get(f"{served.url}/admin/api/state", headers=headers)).status_code == 404

        body = {"name": "gpu-1", "base_url": fake.base_url, "connected": True}
        assert (await client.post(f"{served.url}/admin/api/endpoints", json=body)).status_code in (404, 405)
        assert (await client.post(f"{inside}/admin/api/endpoints", json=body)).status_code == 200
        login = await client.post(f"{inside}/admin/api/session", json={"token": TOKEN}, headers={"x-admin-token": ""})
        assert login.status_code == 200 and "lb_session=" in login.headers["set-cookie"]
        chat = {"model": "fake-model", "messages": [{"role": "user", "content": "hi"}]}
        assert (await client.post(f"{served.url}/v1/chat/completions", json=chat)).status_code == 200
        assert (await client.post(f"{inside}/v1/chat/completions", json=chat)).status_code in (404, 405)
        served.process.terminate()
        assert await served.ended() == 0


async def test_a_port_that_cannot_be_had_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = await run(tmp_path, "serve", LB_ADMIN_PORT=port)
    assert code == 1 and "LB_ADMIN_PORT" in err and "Traceback" not in err
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    code, _, err = await run(tmp_path, "serve", LB_PORT=port, LB_ADMIN_PORT=port)
    assert code == 1 and "another port" in err


@pytest.mark.parametrize("settings", [{}, {"LB_ADMIN_PORT": "0"}])
async def test_nothing_listens_beyond_this_machine_unless_told(tmp_path: Path, settings: dict[str, str]) -> None:
    assert (Settings().host, Settings().admin_host) == ("127.0.0.1", "127.0.0.1")
    async with serving(tmp_path, **settings) as served:
        table = Path(f"/proc/{served.process.pid}/net/tcp")
        if not table.exists():
            pytest.skip("needs /proc")
        own = {link.readlink() for link in Path(f"/proc/{served.process.pid}/fd").iterdir() if link.is_symlink()}
        inodes = {str(each)[8:-1] for each in own if str(each).startswith("socket:[")}
        listening = []
        for name in ("tcp", "tcp6"):
            rows = [line.split() for line in table.with_name(name).read_text().splitlines()[1:]]
            listening += [row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes]
        assert listening == ["0100007F"] * (1 + len(settings)), "127.0.0.1 in the kernel's notation"
