"""docs/library.md runs: every example in it, against fake backends at the addresses that it names."""

from __future__ import annotations

import doctest
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from balancer import Attempt, BalancingStrategy, Endpoint, LoadBalancer
from balancer.library.results import ChatResult
from balancer.library.statistics import EndpointStats, Stats
from tests.library_parts import Backends

PAGE = Path(__file__).parent.parent / "docs/library.md"


def blocks(language: str, text: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return found


def test_every_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text("utf-8")
    with Backends() as backends:
        for port, name in ((9001, "gpu-1"), (9002, "gpu-2")):
            assert f"llm-fake-backend --port {port} --name {name} --completion-tokens 6" in text
            fake = backends.fake(name=name, completion_tokens=6)
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{fake.port}")
        (config,) = blocks("yaml", text)
        Path("config.yaml").write_text(config.replace("sk-...", "sk-1"), "utf-8")
        examples = [block for block in blocks("python", text) if block.startswith(">>>")]
        test = doctest.DocTestParser().get_doctest("".join(examples), {}, PAGE.name, str(PAGE), 0)
        assert len(test.examples) > 40
        failures: list[str] = []
        done = doctest.DocTestRunner().run(test, out=failures.append)
    assert (done.failed, done.attempted) == (0, len(test.examples)), "".join(failures)


def test_every_option_field_and_strategy_is_named() -> None:
    text = PAGE.read_text("utf-8")
    (options,) = (block for block in blocks("python", text) if block.startswith("LoadBalancer("))
    told = re.findall(r"^    (\w+)", options, re.MULTILINE)
    assert [*told, "environ"] == list(inspect.signature(LoadBalancer).parameters)
    table = text.partition("| strategy | goes to |")[2].partition("\n\n")[0]
    assert set(re.findall("`([A-Z_]+)`", table)) == set(BalancingStrategy.__members__)
    words = set(re.findall(r"\w+", text))
    assert {field.name for field in fields(Endpoint)} <= words
    assert Stats.__annotations__.keys() - {"endpoints"} <= words | {"total_endpoints"}
    assert (EndpointStats.__annotations__.keys() | ChatResult.__annotations__.keys() | set(Attempt._fields)) <= words
