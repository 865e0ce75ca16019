"""What a script says of its endpoints and of how to choose one: checked when made, later turned into the core's."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType

from balancer.auth import is_token
from balancer.core.endpoints import Endpoint as CoreEndpoint
from balancer.core.errors import ConnectError
from balancer.core.strategies import resolve_strategy
from balancer.upstream.targets import normalised_base_url

_SMALLEST_SHARE = 0.001  # shares are divided by


class BalancingStrategy(enum.StrEnum):
    """How an endpoint is chosen among those that may take a request.

    Any name that the server knows is understood too: `BalancingStrategy("failover")` is `PRIORITY`. What is no name at
    all raises ValueError with a list of the valid ones.
    """

    ROUND_ROBIN = "round_robin"
    WEIGHTED = "weighted"
    LEAST_CONNECTIONS = "least_conn"
    RANDOM = "random"
    PERCENTAGE = "percentage"
    PRIORITY = "priority"
    LEAST_LOADED = "least_loaded"  # the name that the server gives to LEAST_CONNECTIONS
    LATENCY = "latency"
    COST = "cost"

    @classmethod
    def _missing_(cls, value: object) -> BalancingStrategy:
        if not isinstance(value, str):
            raise ValueError(f"strategy must be a name or a BalancingStrategy, not {value!r}")  # noqa: TRY004 - as all bad input
        return cls(resolve_strategy(value))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One OpenAI-compatible backend. A value that cannot be used raises ValueError, which names the field.

    `url`: with or without /v1. `name` defaults to the URL. `weight` is relative to the others'; 0 takes only what no
    other can. At most `max_connections` requests are in flight there; more wait, or go elsewhere.
    `max_tokens` and `temperature` are sent by `chat()` where the call names none; None leaves them out.

    For single strategies: `token_quota_percent` (percentage), `priority_order` (priority: lower goes first), prices per
    million tokens (cost; None is unknown, 0 is free). `models` empty means "as the endpoint lists them";
    `model_aliases` maps the name that is asked for to the name sent on. `timeout`, in seconds, replaces the
    balancer's for this endpoint.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    weight: float = 1
    name: str | None = None
    max_connections: int = 100
    max_tokens: int | None = 4096
    temperature: float | None = 0.7
    token_quota_percent: float = field(default=0, kw_only=True)
    priority_order: int = field(default=10, kw_only=True)
    price_per_million_input: float | None = field(default=None, kw_only=True)
    price_per_million_output: float | None = field(default=None, kw_only=True)
    models: tuple[str, ...] = field(default=(), kw_only=True)
    model_aliases: Mapping[str, str] = field(default_factory=dict, hash=False, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    verify_tls: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        base_url_of(self.url)
        object.__setattr__(self, "url", self.url.rstrip("/"))
        if self.name is None:
            object.__setattr__(self, "name", self.url)
        _check_text(self)
        _check_numbers(self)
        _check_models(self)
        object.__setattr__(self, "models", tuple(self.models))
        object.__setattr__(self, "model_aliases", MappingProxyType(dict(self.model_aliases)))

    @property
    def label(self) -> str:
        """The name, also to a type checker: it is never None once the endpoint is made."""
        return self.name or self.url


def listed_endpoints(endpoints: Iterable[Endpoint] | None) -> tuple[Endpoint, ...]:
    """The endpoints as a tuple; of None an empty one. Raises ValueError for what is no list of them."""
    if isinstance(endpoints, Endpoint) or not isinstance(endpoints, Iterable | None):
        raise ValueError(f"endpoints must be a list of Endpoint objects, not {type(endpoints).__name__}")  # noqa: TRY004
    listed = tuple(endpoints or ())
    for each in listed:
        if not isinstance(each, Endpoint):
            raise ValueError(f"endpoints must hold Endpoint objects, not {type(each).__name__}")  # noqa: TRY004
    return listed


def base_url_of(url: object) -> str:
    """The URL as connections are made to it; two that differ only in spelling give the same. Raises ValueError."""
    if not isinstance(url, str):
        raise ValueError(f"url must be a string such as http://gpu1:8000/v1, not {url!r}")  # noqa: TRY004 - as all bad input
    try:
        return normalised_base_url(url)
    except ConnectError as error:
        words = str(error).removeprefix("base_url: ")
        # A URL with a password in it must not be repeated.
        shown = "" if "@" in url else f" (it is {url!r})"
        raise ValueError(f"url: {words}; expected is something like http://gpu1:8000/v1{shown}") from None


def core_endpoint(endpoint: Endpoint, endpoint_id: int, timeout: float) -> CoreEndpoint:
    """The same as the pool knows it: connected from the beginning."""
    return CoreEndpoint(
        id=endpoint_id,
        name=endpoint.label,
        base_url=base_url_of(endpoint.url),
        api_key=endpoint.api_key or "",
        timeout=endpoint.timeout or timeout,
        verify_tls=endpoint.verify_tls,
        connected=True,
        token_quota_percent=endpoint.token_quota_percent,
        priority_order=endpoint.priority_order,
        max_concurrent=endpoint.max_connections,
        weight=endpoint.weight,
        models=endpoint.models,
        model_aliases=endpoint.model_aliases,
        price_per_million_input=endpoint.price_per_million_input,
        price_per_million_output=endpoint.price_per_million_output,
    )


# -- checks ------------------------------------------------------------------------------------------------------------


def checked_number(field_name: str, value: object, low: float, high: float) -> float:
    """`value` if it is a number in that range, else ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or not low <= value <= high:
        raise ValueError(f"{field_name} must be a number from {low:g} to {high:g}, not {value!r}")
    return value


def checked_whole(field_name: str, value: object, low: int, high: int) -> int:
    """`value` if it is a whole number in that range, else ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{field_name} must be a whole number from {low} to {high}, not {value!r}")
    return value


def checked_switch(field_name: str, value: object) -> bool:
    """`value` if it is True or False, else ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{field_name} must be true or false, not {value!r}")  # noqa: TRY004 - as all bad input
    return value


def _check_text(endpoint: Endpoint) -> None:
    name, key = endpoint.name, endpoint.api_key
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"name must be text of one line, not {name!r}")
    if key and not (isinstance(key, str) and is_token(key)):
        # The value is left out: it is a secret.
        raise ValueError("api_key must be visible ASCII characters only, without blanks and line breaks")
    checked_switch("verify_tls", endpoint.verify_tls)


def _check_numbers(endpoint: Endpoint) -> None:
    for share, most in (("weight", 1000), ("token_quota_percent", 100)):
        value = checked_number(share, getattr(endpoint, share), 0, most)
        if 0 < value < _SMALLEST_SHARE:
            raise ValueError(f"{share} must be 0 or at least {_SMALLEST_SHARE}, not {value!r}")
    checked_whole("max_connections", endpoint.max_connections, 1, 100_000)
    checked_whole("priority_order", endpoint.priority_order, 1, 100)
    if endpoint.max_tokens is not None:
        checked_whole("max_tokens", endpoint.max_tokens, 1, 2**31)
    if endpoint.temperature is not None:
        checked_number("temperature", endpoint.temperature, 0, 100)
    if endpoint.timeout is not None:
        checked_number("timeout", endpoint.timeout, 0.001, 86_400)
    for price in ("price_per_million_input", "price_per_million_output"):
        if getattr(endpoint, price) is not None:
            checked_number(price, getattr(endpoint, price), 0, 1_000_000)


def _check_models(endpoint: Endpoint) -> None:
    models, aliases = endpoint.models, endpoint.model_aliases
    if not isinstance(models, list | tuple) or not all(isinstance(each, str) and each for each in models):
        raise ValueError(f"models must be a list of names, not {models!r}")
    if not isinstance(aliases, Mapping) or not all(
        isinstance(each, str) and each for pair in aliases.items() for each in pair
    ):
        raise ValueError(f"model_aliases must map names to names, not {aliases!r}")
