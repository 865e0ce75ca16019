"""The short way to the data plane: what it takes, and that all else goes the usual way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import FakeServer
from tests.running_balancer import RunningBalancer


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


@pytest.fixture
async def balancer(tmp_path: Path, fake: FakeServer) -> AsyncIterator[RunningBalancer]:
    async with RunningBalancer(tmp_path) as running:
        await running.add("one", fake)
        yield running


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/v1/chat%2Fcompletions", "/v1/%63hat/completions", "/v1/any-pool/chat/completions"],
)
async def test_every_spelling_of_a_path_is_served(balancer: RunningBalancer, fake: FakeServer, path: str) -> None:
    body = {"model": "fake-model", "messages": [{"role": "user", "content": "hello"}]}
    answer = await balancer.client.post(path, json=body)
    assert (answer.status_code, answer.json()["object"]) == (200, "chat.completion")
    assert fake.stats.total_requests == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/embeddings", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/nothing", 404),
    ],
)
async def test_what_is_not_served_is_refused_in_the_envelope(
    balancer: RunningBalancer, fake: FakeServer, method: str, path: str, status: int
) -> None:
    answer = await balancer.client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, "unknown_url")
    assert fake.stats.total_requests == 0
