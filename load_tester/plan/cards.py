"""A card: one target and everything that is sent to it. Pure; holds no key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from load_tester.errors import BadInput
from load_tester.measures.slo import parse_slo
from load_tester.plan.loads import (
    Batch,
    Closed,
    Frozen,
    Load,
    StopRules,
    Sweep,
    highest_concurrency,
    highest_rate,
    plain,
    planned_seconds,
)
from load_tester.plan.prompts import FixedPrompt, Prompt, PromptSet

# What a process has open beside its connections: its libraries, listeners, the history.
_OTHER_FILES = 64
# Shared prefixes are made before the run and kept while it lasts.
_MOST_SHARED_TOKENS = 2_000_000
_OPERATION = re.compile(r"/(chat/completions|models)/*\Z")


class Card(Frozen):
    """What one column of the page says.

    `max_tokens` 0, `temperature` None and `priority` None are not sent. Durations are in seconds; `timeout_seconds` is
    the longest silence of the target. `slo` maps names such as ttft_p95 to limits such as 500ms.
    """

    name: Annotated[str, Field(max_length=120)] = ""
    url: Annotated[str, Field(min_length=8, max_length=500)] = "http://localhost:8090/v1"
    model: Annotated[str, Field(max_length=256)] = ""
    system_prompt: Annotated[str, Field(max_length=1_000_000)] = ""
    prompt: Prompt = FixedPrompt()
    load: Load = Closed()
    stop: StopRules = StopRules()
    warmup_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 0
    drain_seconds: Annotated[float, Field(ge=0, le=3_600, allow_inf_nan=False)] = 30
    timeout_seconds: Annotated[float, Field(ge=0.1, le=3_600, allow_inf_nan=False)] = 120
    max_tokens: Annotated[int, Field(ge=0, le=10_000_000)] = 60
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = None
    priority: Annotated[int, Field(ge=-(2**31), le=2**31)] | None = None
    stream: bool = True
    include_usage: bool = True
    ignore_eos: bool = False
    verify_tls: bool = True
    unique_prefix: bool = True
    shared_prefix_tokens: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    shared_prefix_groups: Annotated[int, Field(ge=1, le=10_000)] = 1
    seed: Annotated[int, Field(ge=0, le=2**53)] = 1
    slo: dict[str, str | float] = Field(default_factory=dict)

    @field_validator("url")
    @classmethod
    def _normal_url(cls, url: str) -> str:
        return normal_url(url)

    @field_validator("slo")
    @classmethod
    def _readable_slo(cls, slo: dict[str, str | float]) -> dict[str, str | float]:
        for name, limit in slo.items():
            parse_slo(name, limit)
        return slo

    @model_validator(mode="after")
    def _comes_to_an_end(self) -> Self:
        load = plain(self.load)
        if isinstance(load, Batch) and load.delay_ms == 0 and not self.stop.requests:
            raise ValueError("delay_ms 0 without max_in_flight needs stop.requests: it would send without end at once")
        return self

    @model_validator(mode="after")
    def _fits_into_memory(self) -> Self:
        if self.shared_prefix_tokens * self.shared_prefix_groups > _MOST_SHARED_TOKENS:
            raise ValueError(f"shared_prefix_groups x shared_prefix_tokens: expected at most {_MOST_SHARED_TOKENS:,}")
        return self


class Caps(Frozen):
    """What no run may exceed, as the settings say."""

    connections: int = 2_000
    open_files: int = 0  # of the process; 0: not known
    rate: float = 20_000
    seconds: float = 86_400
    tokens: int = 1_000_000_000


def normal_url(url: str) -> str:
    """A base URL as cards keep it: no trailing slash, no operation; /v1 where it has no path. Raises ValueError."""
    url = url.strip()
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected a URL that begins with http:// or https:// and names a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("a user, a query or a fragment cannot be part of it; the key has a field of its own")
    _ = parts.port  # raises where it is no number
    path = _OPERATION.sub("", parts.path).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def read_card(value: object, place: str = "card") -> Card:
    """A card from JSON. Raises BadInput naming the first field that cannot be used."""
    try:
        return Card.model_validate(value)
    except BadInput as error:  # of an objective, which knows its name but not its card
        raise BadInput(f"{place}.{error.field}" if place else error.field, error.problem) from None
    except ValidationError as error:
        raise bad_input(error, place) from None


def bad_input(error: ValidationError, place: str) -> BadInput:
    """The first problem of a validation, in the words of a form."""
    first = error.errors(include_url=False, include_input=False)[0]
    loc = _as_typed([str(part) for part in first["loc"]])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown field"
    return BadInput(".".join([place, *loc]) if place else ".".join(loc), message[:1].lower() + message[1:])


def _as_typed(loc: list[str]) -> list[str]:
    """A place without the name of the kind, which a union puts behind its field."""
    return [part for place, part in enumerate(loc) if place == 0 or loc[place - 1] not in ("load", "prompt")]


def within_caps(card: Card, caps: Caps, place: str = "card") -> None:
    """Raises BadInput for a card that asks for more than the settings allow."""
    users, rate = highest_concurrency(card.load), highest_rate(card.load)
    if users > caps.connections:
        raise BadInput(
            f"{place}.load",
            f"{users:,} requests at once need as many connections; LT_MAX_CONNECTIONS allows {caps.connections:,}. "
            "Lower it, or raise the setting (and the target's own limit, which answers 429 or refuses above it)",
        )
    if caps.open_files and users + _OTHER_FILES > caps.open_files:
        raise BadInput(
            f"{place}.load",
            f"{users:,} requests at once need as many connections, and this process may open {caps.open_files:,} "
            "files: lower it, or raise the limit where the load tester is started (ulimit -n)",
        )
    if rate > caps.rate:
        raise BadInput(f"{place}.load", f"{rate:g} requests/s are more than LT_MAX_RATE allows ({caps.rate:g})")
    if card.stop.seconds > caps.seconds:
        raise BadInput(
            f"{place}.stop.seconds", f"{card.stop.seconds:g} s are more than LT_MAX_SECONDS allows ({caps.seconds:g})"
        )
    planned = planned_seconds(card.load)
    if planned != float("inf") and planned > caps.seconds:
        raise BadInput(f"{place}.load.stages", f"{planned:g} s are more than LT_MAX_SECONDS allows ({caps.seconds:g})")
    if card.stop.tokens > caps.tokens:
        raise BadInput(
            f"{place}.stop.tokens", f"{card.stop.tokens:,} are more than LT_MAX_TOKENS allows ({caps.tokens:,})"
        )


def changed(card: Card, changes: Mapping[str, Any], place: str = "card") -> Card:
    """The card with what may be changed while it runs: load, stop rules, SLO, what is sent. Raises BadInput."""
    allowed = {"load", "stop", "slo", "max_tokens", "temperature", "priority", "stream", "prompt", "system_prompt"}
    for name in changes:
        if name not in allowed:
            raise BadInput(f"{place}.{name}", "cannot be changed while it runs: stop it and start another")
    new = read_card({**card.model_dump(mode="json"), **changes}, place)
    if isinstance(new.prompt, PromptSet) and new.prompt != card.prompt:
        raise BadInput(f"{place}.prompt.set", "cannot be changed while it runs: stop it and start another")
    if isinstance(new.load, Sweep) != isinstance(card.load, Sweep) or (
        isinstance(card.load, Sweep) and new.load != card.load
    ):
        raise BadInput(f"{place}.load", "a sweep sets its own load: stop it to run another one")
    return new
