"""The examples that users of the module `api_roadbalancer` know, run as they stand but for the import.

Their addresses, gpu1:8000 and gpu2:8000, are reached through a forward proxy that the environment names: it answers for
both, as vLLM would.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.library_parts import Backends
from tests.raw_server import RawRequest, answer, read_request

IMPORT = "from balancer import LoadBalancer, Endpoint, BalancingStrategy\n"

BASIC = """
# 엔드포인트 정의
endpoints = [
    Endpoint(
        url="http://gpu1:8000/v1",
        weight=2,
        name="GPU-1",
        max_tokens=8192,
        temperature=0.7
    ),
    Endpoint(
        url="http://gpu2:8000/v1",
        weight=1,
        name="GPU-2",
        max_tokens=4096,
        temperature=0.5
    ),
]

# 로드밸런서 생성
balancer = LoadBalancer(
    endpoints=endpoints,
    strategy=BalancingStrategy.WEIGHTED,
    enable_health_check=True
)

# API 호출 (기존 LLMClient와 동일한 인터페이스)
response = balancer.chat(
    messages=[{"role": "user", "content": "Hello!"}]
)

if response['success']:
    print(response['content'])
    print(f"사용된 엔드포인트: {response['endpoint']}")
else:
    print(f"오류: {response['error']}")
"""

STATS = """
stats = balancer.get_stats()
print(stats)
"""

CLOSE = """
# 리소스 정리
balancer.close()
"""

ENVIRONMENT = {
    "LLM_ENDPOINTS": "http://gpu1:8000/v1,http://gpu2:8000/v1",
    "LLM_API_KEYS": "key1,key2",
    "LLM_STRATEGY": "round_robin",
    "LLM_HEALTH_CHECK": "true",
    "LLM_TIMEOUT": "60",
}

FROM_ENV = """
balancer = LoadBalancer.from_env()
"""

CONFIG = """\
strategy: weighted
timeout: 60
retry_count: 2
fallback_on_failure: true

health_check:
  enabled: true
  interval: 30

endpoints:
  - url: http://gpu1:8000/v1
    weight: 2
    name: GPU-1
    max_tokens: 8192
    temperature: 0.7
  - url: http://gpu2:8000/v1
    weight: 1
    name: GPU-2
    max_tokens: 4096
    temperature: 0.5
"""

FROM_CONFIG = """
balancer = LoadBalancer.from_config("config.yaml")
"""

CONTEXT_MANAGER = """
with LoadBalancer.from_config("config.yaml") as balancer:
    response = balancer.chat(messages=[...])
# 자동으로 close() 호출
"""


class Gpus:
    """What the proxy was asked for, in absolute form: chats and lists of models of both hosts."""

    def __init__(self) -> None:
        self.chats: list[RawRequest] = []
        self.down: set[str] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            method, target, _ = request.lines[0].decode().split()
            host = target.removeprefix("http://").partition(":")[0]
            if host in self.down:
                writer.write(answer(b"{}", status=b"500 Internal Server Error"))
            elif method == "GET":
                writer.write(answer(json.dumps({"data": [{"id": f"{host}-model"}]}).encode()))
            else:
                assert target in ("http://gpu1:8000/v1/chat/completions", "http://gpu2:8000/v1/chat/completions")
                self.chats.append(request)
                choices = [{"message": {"role": "assistant", "content": f"Hello from {host}"}}]
                writer.write(answer(json.dumps({"choices": choices, "usage": {"total_tokens": 3}}).encode()))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gpus]:
    gpus = Gpus()
    with Backends() as backends:
        for name in ("http_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name.upper(), raising=False)
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", backends.raw(gpus).url)
        monkeypatch.chdir(tmp_path)
        yield gpus


def run(*examples: str) -> dict[str, Any]:
    """The names that the examples leave behind."""
    names: dict[str, Any] = {}
    exec(IMPORT + "".join(examples), names)
    return names


def test_the_readmes_example(gpus: Gpus, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    example = readme.partition("## Without a server")[2].partition("```python\n")[2].partition("```")[0]
    exec(example, {})
    assert capsys.readouterr().out == "Hello from gpu1\n"


def bodies(gpus: Gpus) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in gpus.chats]


def test_basic_use_statistics_and_close(gpus: Gpus, capsys: pytest.CaptureFixture[str]) -> None:
    names = run(BASIC, STATS, CLOSE)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["Hello from gpu1", "사용된 엔드포인트: GPU-1"]
    assert bodies(gpus) == [
        {
            "model": "gpu1-model",
            "messages": [{"role": "user", "content": "Hello!"}],
            "max_tokens": 8192,
            "temperature": 0.7,
        }
    ]
    stats = names["stats"]
    assert list(stats)[:1] == ["strategy"] and stats["strategy"] == "weighted"
    assert {name: stats[name] for name in stats if name.startswith("total")} == {
        "total_endpoints": 2,
        "total_requests": 1,
        "total_success": 1,
        "total_failures": 0,
    }
    assert (stats["healthy_endpoints"], stats["success_rate"]) == (2, "100.00%")
    assert [each["name"] for each in stats["endpoints"]] == ["GPU-1", "GPU-2"]


def test_basic_use_when_everything_is_down(gpus: Gpus, capsys: pytest.CaptureFixture[str]) -> None:
    gpus.down = {"gpu1", "gpu2"}
    run(BASIC, CLOSE)
    assert capsys.readouterr().out.startswith("오류: all endpoints failed; last error: endpoint 'GPU-")


def test_weighted_sends_twice_as_many(gpus: Gpus, capsys: pytest.CaptureFixture[str]) -> None:
    balancer = run(BASIC)["balancer"]
    for _ in range(11):
        balancer.chat(messages=[{"role": "user", "content": "Hello!"}])
    balancer.close()
    models = [body["model"] for body in bodies(gpus)]
    assert (models.count("gpu1-model"), models.count("gpu2-model")) == (8, 4)


def test_from_the_environment(gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    balancer = run(FROM_ENV)["balancer"]
    with balancer:
        results = [balancer.chat(messages=[{"role": "user", "content": "Hello!"}]) for _ in range(2)]
        assert [result["endpoint"] for result in results] == ["http://gpu1:8000/v1", "http://gpu2:8000/v1"]
        assert balancer.get_stats()["strategy"] == "round_robin"
    keys = [line for request in gpus.chats for line in request.lines if line.startswith(b"authorization")]
    assert keys == [b"authorization: Bearer key1", b"authorization: Bearer key2"]
    assert os.environ["LLM_TIMEOUT"] == "60"


def test_from_a_file(gpus: Gpus) -> None:
    Path("config.yaml").write_text(CONFIG, "utf-8")
    balancer = run(FROM_CONFIG)["balancer"]
    with balancer:
        assert balancer.chat(messages=[{"role": "user", "content": "Hello!"}])["success"]
        stats = balancer.get_stats()
    assert (stats["strategy"], stats["total_endpoints"]) == ("weighted", 2)


def test_as_a_context_manager(gpus: Gpus) -> None:
    Path("config.yaml").write_text(CONFIG, "utf-8")
    example = CONTEXT_MANAGER.replace("messages=[...]", 'messages=[{"role": "user", "content": "Hello!"}]')
    names = run(example)
    assert names["response"]["success"]
    with pytest.raises(RuntimeError, match="closed"):
        names["balancer"].chat(messages=[])


@pytest.mark.parametrize("member", ["ROUND_ROBIN", "WEIGHTED", "LEAST_CONNECTIONS", "RANDOM"])
def test_every_strategy_of_the_table(member: str, gpus: Gpus, capsys: pytest.CaptureFixture[str]) -> None:
    run(BASIC.replace("BalancingStrategy.WEIGHTED", f"BalancingStrategy.{member}"), CLOSE)
    assert "Hello from gpu" in capsys.readouterr().out
