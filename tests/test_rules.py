"""Rules of behaviour that no other test holds, and the page that names the test of each rule."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path

import pytest

from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.running import RunningGateway, content_of, wired

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/behaviour.md").read_text()


def test_every_rule_has_a_test_that_is_there() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 47))
    for number, _, tests in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert named, f"rule {number} names no test"
        for file, name in named:
            assert re.search(rf"def {name}\(", (ROOT / file).read_text()), f"rule {number}: {file}::{name}"


async def test_a_stream_may_last_longer_than_any_silence_is_tolerated() -> None:
    paced = Behaviour(completion_tokens=40, tpot_seconds=0.05)
    async with FakeServer(paced) as fake, RunningGateway(wired(fake, timeout=1.0)) as gateway:
        answer = await gateway.chat(stream=True, max_tokens=40)
        assert content_of(answer.text)
        assert gateway.last.total_seconds > 1.5
        assert (gateway.last.status, gateway.last.error) == (200, "")


@pytest.mark.parametrize("names", [("a", "b"), ("a", "a"), ("fake-model", "other")])
async def test_a_cap_counts_every_name_of_a_model(names: tuple[str, str]) -> None:
    aliases = {"a": "fake-model", "b": "fake-model"}
    async with FakeServer(Behaviour(ttft_seconds=0.3)) as fake:
        endpoints = wired(fake, max_concurrent=1, model_aliases=aliases)
        async with RunningGateway(endpoints) as gateway:
            first = asyncio.create_task(gateway.chat(model=names[0]))
            await fake.wait_for(lambda stats: stats.inflight)
            assert (await gateway.chat(model=names[1])).status_code == 429
            assert (await first).status_code == 200
            assert fake.stats.max_inflight == 1


def test_every_dependency_has_a_ceiling() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for group in project["optional-dependencies"].values() for each in group]
    assert len(project["dependencies"]) < 20
    for requirement in (*project["dependencies"], *extras):
        assert re.search(r">=[\d.]+,<\d", requirement), requirement
