"""Endpoints and strategies as a script names them, and what it is told about those that cannot be used."""

from __future__ import annotations

from typing import Any

import pytest

from balancer import AsyncLoadBalancer, BalancingStrategy, Endpoint, LoadBalancer
from balancer.core.strategies import ALIASES, STRATEGIES, resolve_strategy

GPU = Endpoint("http://gpu1:8000/v1")


def test_an_endpoint_by_position_and_its_defaults() -> None:
    made = Endpoint("http://gpu1:8000/v1/", "sk-1", 2, "GPU-1", 5, 8192, 0.5)
    assert (made.url, made.api_key, made.weight, made.name) == ("http://gpu1:8000/v1", "sk-1", 2, "GPU-1")
    assert (made.max_connections, made.max_tokens, made.temperature) == (5, 8192, 0.5)
    assert (GPU.name, GPU.weight, GPU.max_connections, GPU.max_tokens, GPU.temperature) == (GPU.url, 1, 100, 4096, 0.7)
    assert GPU.api_key is None


def test_a_key_is_never_shown() -> None:
    assert "sk-secret" not in repr(Endpoint("http://gpu1:8000/v1", api_key="sk-secret"))
    with pytest.raises(ValueError, match="api_key") as told:
        Endpoint("http://gpu1:8000/v1", api_key="sk secret")
    assert "secret" not in str(told.value)
    with pytest.raises(ValueError, match="url") as told:
        Endpoint("http://me:secret@gpu1:8000/v1")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"url": "gpu1:8000"}, "url: must start with http:// or https://.*gpu1:8000"),
        ({"url": ""}, "url"),
        ({"url": None}, "url must be a string"),
        ({"url": "http://gpu 1/v1"}, "url: must not hold blanks"),
        ({"weight": -1}, "weight must be a number from 0 to 1000, not -1"),
        ({"weight": True}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"weight": 1e-9}, "weight must be 0 or at least"),
        ({"name": ""}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"max_connections": 0}, "max_connections must be a whole number"),
        ({"max_connections": 2.5}, "max_connections"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": "hot"}, "temperature must be a number"),
        ({"timeout": 0}, "timeout"),
        ({"token_quota_percent": 101}, "token_quota_percent"),
        ({"priority_order": 0}, "priority_order"),
        ({"price_per_million_input": -1}, "price_per_million_input"),
        ({"models": "llama"}, "models must be a list of names"),
        ({"model_aliases": ["a"]}, "model_aliases must map"),
        ({"verify_tls": "no"}, "verify_tls must be true or false"),
    ],
)
def test_what_an_endpoint_cannot_be(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Endpoint(**{"url": "http://gpu1:8000/v1", **fields})


def test_strategies_have_the_values_that_scripts_know_and_all_of_the_servers() -> None:
    known = {
        "ROUND_ROBIN": "round_robin",
        "WEIGHTED": "weighted",
        "LEAST_CONNECTIONS": "least_conn",
        "RANDOM": "random",
    }
    assert {name: BalancingStrategy[name].value for name in known} == known
    assert {resolve_strategy(each.value) for each in BalancingStrategy} == STRATEGIES.keys()
    for alias, canonical in ALIASES.items():
        assert resolve_strategy(BalancingStrategy(alias.upper()).value) == canonical


@pytest.mark.parametrize("kind", [LoadBalancer, AsyncLoadBalancer])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"endpoints": []}, "endpoints must hold at least one Endpoint"),
        ({"endpoints": None}, "endpoints"),
        ({"endpoints": GPU}, "endpoints must be a list of Endpoint objects, not Endpoint"),
        ({"endpoints": ["http://gpu1:8000/v1"]}, "endpoints must hold Endpoint objects, not str"),
        ({"strategy": "fastest"}, "unknown strategy 'fastest'; valid are: .*round_robin.*least_conn"),
        ({"strategy": None}, "strategy"),
        ({"retry_count": -1}, "retry_count"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "60"}, "timeout"),
        ({"max_wait_seconds": 0}, "max_wait_seconds"),
        ({"health_check_interval": 0}, "health_check_interval"),
        ({"enable_health_check": "yes"}, "enable_health_check"),
        ({"fallback_on_failure": None}, "fallback_on_failure"),
    ],
)
def test_what_a_balancer_cannot_be_made_of(
    kind: type[LoadBalancer] | type[AsyncLoadBalancer], arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        kind(**{"endpoints": [GPU], **arguments})
