"""The full server in a thread, as notebooks start it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import balancer
from balancer import Endpoint
from tests.library_parts import MESSAGES, Backends, endpoint, until

ROOT = Path(__file__).parent.parent


@pytest.fixture
def backends() -> Iterator[Backends]:
    with Backends() as backends:
        yield backends
    until(lambda: "balancer server" not in {thread.name for thread in threading.enumerate()})


def chat(url: str, **fields: Any) -> httpx.Response:
    return httpx.post(
        f"{url}/v1/chat/completions", json={"model": "fake-model", "messages": MESSAGES, **fields}, trust_env=False
    )


def state(url: Any) -> Any:
    headers = {"x-admin-token": url.admin_token}
    return httpx.get(f"{url}/admin/api/state", headers=headers, trust_env=False).json()


def test_a_server_with_endpoints(backends: Backends) -> None:
    one, two = backends.fake(name="one"), backends.fake(name="two")
    given = [endpoint(one, api_key="sk-1", weight=2, max_connections=7), endpoint(two, priority_order=3, timeout=30)]
    with balancer.serve(given) as url:
        assert isinstance(url, str) and url.startswith("http://127.0.0.1:")
        assert [chat(url).headers["x-lb-endpoint"] for _ in range(2)] == ["one", "two"]
        seen = state(url)
        assert seen["routing_mode"] == "round_robin"
        first, second = seen["endpoints"]
        assert (first["weight"], first["max_concurrent"], first["connected"]) == (2, 7, True)
        assert (second["priority_order"], second["timeout"]) == (3, 30)
        assert one.stats.last_headers["authorization"] == "Bearer sk-1"
    with pytest.raises(httpx.ConnectError):
        chat(url)
    url.stop()


def test_without_a_directory_nothing_is_left(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with balancer.serve([endpoint(backends.fake())]):
        assert len(list(tmp_path.iterdir())) == 1
        with pytest.raises(ValueError, match=r"endpoints\[0\]\.name"):
            balancer.serve([Endpoint("http://gpu1:8000", name="x" * 121)])
    assert list(tmp_path.iterdir()) == []


def test_a_directory_keeps_configuration_and_counts(backends: Backends, tmp_path: Path) -> None:
    one = backends.fake(name="one")
    with balancer.serve([endpoint(one)], directory=tmp_path) as url:
        token = url.admin_token
        assert chat(url).status_code == 200
    with balancer.serve([endpoint(one, weight=5)], "failover", directory=str(tmp_path)) as url:
        assert url.admin_token == token
        (only,) = state(url)["endpoints"]
        assert (only["weight"], only["total_requests"]) == (5, 1)
        assert state(url)["routing_mode"] == "priority"


def test_settings_by_their_names(backends: Backends) -> None:
    settings = {"LB_CLIENT_TOKENS": "token-123", "LB_ADMIN_TOKEN": "admin-token-1"}
    with balancer.serve([endpoint(backends.fake())], settings=settings) as url:
        assert url.admin_token == "admin-token-1"
        assert chat(url).status_code == 401


def test_what_runs_is_finished_at_the_end(backends: Backends) -> None:
    one = backends.fake(ttft_seconds=0.2)
    answers: list[int] = []
    with balancer.serve([endpoint(one)]) as url:
        thread = threading.Thread(target=lambda: answers.append(chat(url).status_code))
        thread.start()
        until(lambda: one.stats.requests.get("/v1/chat/completions"))
    thread.join()
    assert answers == [200]


def test_what_cannot_be_served(backends: Backends) -> None:
    with balancer.serve() as url:
        assert chat(url).status_code == 503
        with pytest.raises(balancer.server.StartError, match="cannot listen"):
            balancer.serve(port=int(url.rpartition(":")[2]))
    for arguments, named in (
        ({"endpoints": ["http://gpu1"]}, "endpoints must hold Endpoint objects, not str"),
        ({"endpoints": [Endpoint("http://gpu1", timeout=0.1)]}, r"endpoints\[0\]\.timeout"),
        ({"strategy": "fastest"}, "unknown strategy 'fastest'"),
        ({"settings": {"LB_MAX_RETRIES": "x"}}, "LB_MAX_RETRIES"),
        ({"settings": {"LB_MAX_RETRIE": "1"}}, "did you mean LB_MAX_RETRIES"),
        ({"port": -1}, "LB_PORT"),
        ({"settings": {"LB_MAX_RETRIES": 1}}, "LB_MAX_RETRIES must be text such as '1', not 1"),
        (
            {"endpoints": [Endpoint("http://a", name="x"), Endpoint("http://b", name="x")]},
            "two endpoints are named 'x'",
        ),
        ({"endpoints": Endpoint("http://gpu1")}, "endpoints must be a list of Endpoint objects, not Endpoint"),
    ):
        with pytest.raises(ValueError, match=named):
            balancer.serve(**arguments)


def test_the_end_of_the_process_stops_it() -> None:
    script = "import balancer, tempfile; url = balancer.serve(); print(url); print(tempfile.gettempdir())"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=40, env=environ, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
