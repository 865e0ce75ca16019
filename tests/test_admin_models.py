from __future__ import annotations

import json
from typing import Any

import pytest

from balancer.admin.models import EndpointToTest, InvalidEndpoint, Login, NewEndpoint, NewToken, read_endpoint
from tests.store_parts import EVERY_FIELD


def test_reading_takes_what_was_exported() -> None:
    exported = json.loads(json.dumps(EVERY_FIELD))
    del exported["discovered"]
    fields = read_endpoint(exported, where="endpoints[0]")
    assert fields == exported


def test_reading_names_what_is_wrong_without_the_value() -> None:
    bad = {"name": "a\nb", "base_url": "http://x.test", "api_key": "sk secret", "weight": float("nan")}
    with pytest.raises(InvalidEndpoint) as raised:
        read_endpoint(bad, where="endpoints[3]")
    words = str(raised.value)
    assert "endpoints[3].name: must not hold line breaks" in words
    assert "endpoints[3].api_key: " in words and "endpoints[3].weight: " in words
    assert "secret" not in words


@pytest.mark.parametrize("given", [{"\ud800": 1}, {"name": "\ud800"}, {"tags": ["\ud800"]}, {"models": {"\ud800": 1}}])
def test_reading_survives_half_a_pair(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidEndpoint) as raised:
        read_endpoint(given, where="endpoints[0]")
    assert str(raised.value).encode()


@pytest.mark.parametrize("given", [None, [], "x", 5])
def test_reading_takes_objects_only(given: Any) -> None:
    with pytest.raises(InvalidEndpoint, match=r"^endpoints\[0\]: "):
        read_endpoint(given, where="endpoints[0]")


@pytest.mark.parametrize(
    "body",
    [
        NewEndpoint.model_validate({"name": "a", "base_url": "http://a.test", "api_key": "sk-very-secret"}),
        EndpointToTest.model_validate({"id": 1, "api_key": "sk-very-secret"}),
        NewToken.model_validate({"name": "a", "token": "sk-very-secret"}),
        Login.model_validate({"token": "sk-very-secret"}),
    ],
)
def test_secrets_are_in_no_repr(body: object) -> None:
    assert "secret" not in repr(body)
