"""Balancers made from the environment and from files, and what is said of those that cannot be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from balancer import AsyncLoadBalancer, BalancingStrategy, Endpoint
from balancer.library.configuration import read_environment, read_file

YAML = """\
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
    api_key: sk-secret
    max_connections: 4
"""
AS_ARGUMENTS: dict[str, Any] = {
    "strategy": "weighted",
    "timeout": 60,
    "retry_count": 2,
    "fallback_on_failure": True,
    "enable_health_check": True,
    "health_check_interval": 30,
    "endpoints": [
        Endpoint("http://gpu1:8000/v1", weight=2, name="GPU-1", max_tokens=8192, temperature=0.7),
        Endpoint("http://gpu2:8000/v1", api_key="sk-secret", max_connections=4),
    ],
}


def written(directory: Path, text: str, name: str = "config.yaml") -> Path:
    path = directory / name
    path.write_text(text, "utf-8")
    return path


def test_a_file_in_yaml_and_in_json(tmp_path: Path) -> None:
    assert read_file(written(tmp_path, YAML)) == AS_ARGUMENTS
    document = {
        "strategy": "weighted",
        "timeout": 60,
        "retry_count": 2,
        "fallback_on_failure": True,
        "health_check": {"enabled": True, "interval": 30},
        "endpoints": [
            {"url": "http://gpu1:8000/v1", "weight": 2, "name": "GPU-1", "max_tokens": 8192, "temperature": 0.7},
            {"url": "http://gpu2:8000/v1", "api_key": "sk-secret", "max_connections": 4},
        ],
    }
    assert read_file(str(written(tmp_path, json.dumps(document), "config.JSON"))) == AS_ARGUMENTS


def test_a_file_needs_nothing_but_an_endpoint(tmp_path: Path) -> None:
    stats = AsyncLoadBalancer.from_config(written(tmp_path, "endpoints: [{url: 'http://gpu1:8000'}]")).get_stats()
    assert stats["strategy"] == "round_robin"
    assert [each["name"] for each in stats["endpoints"]] == ["http://gpu1:8000"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "the file must be a mapping"),
        ("- 1", "the file must be a mapping"),
        ("strategy: weighted", "endpoints must be a list of at least one"),
        ("endpoints: []", "endpoints must be a list of at least one"),
        ("endpoints: [http://gpu1]", r"endpoints\[0\] must be a mapping"),
        ("endpoints: [{weight: 1}]", r"endpoints\[0\]: url is missing"),
        ("endpoints: [{url: 'http://a', wieght: 1}]", r"endpoints\[0\]: unknown key 'wieght'; did you mean 'weight'"),
        ("endpoints: [{url: 'http://a'}, {url: 'http://b', weight: two}]", r"endpoints\[1\]: weight must be a number"),
        ("endpoints: [{url: 'http://a'}]\nretry_cuont: 2", "unknown key 'retry_cuont'; did you mean 'retry_count'"),
        ("endpoints: [{url: 'http://a'}]\nzzz: 2", "unknown key 'zzz'; known are: strategy, timeout"),
        ("endpoints: [{url: 'http://a'}]\nhealth_check: {every: 2}", "health_check: unknown key 'every'"),
        ("endpoints: [{url: 'http://a'}]\nhealth_check: true", "health_check must be a mapping"),
        ("endpoints: [{url: 'http://a'}]\nstrategy: fastest", "unknown strategy 'fastest'"),
        ("endpoints: [", "is not valid YAML at line 1"),
    ],
)
def test_what_a_file_cannot_say(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=named):
        AsyncLoadBalancer.from_config(written(tmp_path, text))


def test_files_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AsyncLoadBalancer.from_config(tmp_path / "absent.yaml")
    with pytest.raises(ValueError, match="line 1 column 2"):
        read_file(written(tmp_path, "{", "config.json"))
    with pytest.raises(ValueError, match="not valid YAML") as told:
        read_file(written(tmp_path, "endpoints:\n  - {url: 'http://a', api_key: sk-secret: }"))
    assert "secret" not in str(told.value)
    with pytest.raises(ValueError, match="not valid YAML"):
        read_file(written(tmp_path, "!!python/object/apply:os.getcwd []"))


def test_the_environment_by_position() -> None:
    environ = {
        "LLM_ENDPOINTS": " http://gpu1:8000/v1, http://gpu2:8000/v1,http://gpu3:8000/v1, ",
        "LLM_API_KEYS": "key1,,key3",
        "LLM_WEIGHTS": "2",
        "LLM_MAX_TOKENS": ",512",
        "LLM_TEMPERATURES": "0.1,0.2,0.3",
        "LLM_STRATEGY": "least_conn",
        "LLM_HEALTH_CHECK": "False",
        "LLM_TIMEOUT": "1.5",
    }
    assert read_environment(environ) == {
        "endpoints": [
            Endpoint("http://gpu1:8000/v1", "key1", weight=2, temperature=0.1),
            Endpoint("http://gpu2:8000/v1", max_tokens=512, temperature=0.2),
            Endpoint("http://gpu3:8000/v1", "key3", temperature=0.3),
        ],
        "strategy": BalancingStrategy.LEAST_CONNECTIONS,
        "enable_health_check": False,
        "timeout": 1.5,
    }


def test_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_ENDPOINTS", "http://gpu1:8000/v1")
    monkeypatch.setenv("LLM_STRATEGY", "")
    stats = AsyncLoadBalancer.from_env(retry_count=0).get_stats()
    assert (stats["strategy"], stats["total_endpoints"]) == ("round_robin", 1)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "LLM_ENDPOINTS must hold at least one URL"),
        ({"LLM_ENDPOINTS": " , "}, "LLM_ENDPOINTS must hold at least one URL"),
        ({"LLM_ENDPOINTS": "http://a,gpu2"}, "LLM_ENDPOINTS, entry 2: url"),
        (
            {"LLM_ENDPOINTS": "http://a", "LLM_API_KEYS": "k1,k2"},
            "LLM_API_KEYS has 2 entries, but .* only 1",
        ),
        ({"LLM_ENDPOINTS": "http://a", "LLM_WEIGHTS": "two"}, "LLM_WEIGHTS: must be a number, not 'two'"),
        ({"LLM_ENDPOINTS": "http://a", "LLM_MAX_TOKENS": "1.5"}, "LLM_MAX_TOKENS: must be a whole number, not '1.5'"),
        ({"LLM_ENDPOINTS": "http://a", "LLM_TIMEOUT": "soon"}, "LLM_TIMEOUT: must be a number, not 'soon'"),
        ({"LLM_ENDPOINTS": "http://a", "LLM_HEALTH_CHECK": "perhaps"}, "LLM_HEALTH_CHECK: must be true or false"),
        ({"LLM_ENDPOINTS": "http://a", "LLM_STRATEGY": "fastest"}, "LLM_STRATEGY: unknown strategy 'fastest'; valid"),
    ],
)
def test_what_the_environment_cannot_say(environ: Mapping[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_environment(environ)
