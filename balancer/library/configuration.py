"""A balancer's options, and how they are read: from the environment, from a YAML or JSON file.

Whatever cannot be used raises ValueError, which names the place and says what is expected there.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from balancer.library.values import (
    BalancingStrategy,
    Endpoint,
    checked_number,
    checked_switch,
    checked_whole,
)
from balancer.setting_kinds import SWITCH

_LONGEST_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a balancer is made with; durations are in seconds. ValueError for what cannot be used.

    `retry_count` further endpoints are tried after a failure, each once, unless `fallback_on_failure` is off.
    `timeout` is the longest silence tolerated, for each of them, `max_wait_seconds` the longest wait for one.
    """

    endpoints: tuple[Endpoint, ...]
    strategy: BalancingStrategy
    enable_health_check: bool
    health_check_interval: float
    retry_count: int
    fallback_on_failure: bool
    timeout: float
    max_wait_seconds: float

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError("endpoints must hold at least one Endpoint")
        checked_switch("enable_health_check", self.enable_health_check)
        checked_number("health_check_interval", self.health_check_interval, 0.01, _LONGEST_SECONDS)
        checked_whole("retry_count", self.retry_count, 0, 100)
        checked_switch("fallback_on_failure", self.fallback_on_failure)
        checked_number("timeout", self.timeout, 0.001, _LONGEST_SECONDS)
        checked_number("max_wait_seconds", self.max_wait_seconds, 0.001, _LONGEST_SECONDS)

    @property
    def max_retries(self) -> int:
        """Further endpoints that a failed request may go to."""
        return self.retry_count if self.fallback_on_failure else 0


# -- from the environment ----------------------------------------------------------------------------------------------


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of a balancer as the variables LLM_* give them; an empty variable counts as unset.

    LLM_ENDPOINTS holds URLs between commas. LLM_API_KEYS, LLM_WEIGHTS, LLM_MAX_TOKENS and LLM_TEMPERATURES go with
    them by position; what is left out or empty gets the default.
    """
    urls = [url for item in environ.get("LLM_ENDPOINTS", "").split(",") if (url := item.strip())]
    if not urls:
        raise ValueError("LLM_ENDPOINTS must hold at least one URL; several are separated by commas")
    columns = {
        "api_key": _positions(environ, "LLM_API_KEYS", len(urls), str),
        "weight": _positions(environ, "LLM_WEIGHTS", len(urls), _number),
        "max_tokens": _positions(environ, "LLM_MAX_TOKENS", len(urls), _whole),
        "temperature": _positions(environ, "LLM_TEMPERATURES", len(urls), _number),
    }
    endpoints = [
        _endpoint(f"LLM_ENDPOINTS, entry {place + 1}", {"url": url} | _row(columns, place))
        for place, url in enumerate(urls)
    ]
    arguments: dict[str, Any] = {"endpoints": endpoints}
    for variable, argument, parse in (
        ("LLM_STRATEGY", "strategy", BalancingStrategy),
        ("LLM_HEALTH_CHECK", "enable_health_check", _switch),
        ("LLM_TIMEOUT", "timeout", _number),
    ):
        text = environ.get(variable, "").strip()
        if text:
            arguments[argument] = _parsed(variable, text, parse)
    return arguments


def _positions(environ: Mapping[str, str], variable: str, most: int, parse: Callable[[str], Any]) -> list[Any]:
    """The values of a list by position, None where one is empty."""
    texts = [text.strip() for text in environ.get(variable, "").split(",")]
    if len(texts) > most:
        raise ValueError(f"{variable} has {len(texts)} entries, but LLM_ENDPOINTS only {most}")
    return [_parsed(variable, text, parse) if text else None for text in texts]


def _row(columns: Mapping[str, list[Any]], place: int) -> dict[str, Any]:
    return {
        name: column[place] for name, column in columns.items() if place < len(column) and column[place] is not None
    }


def _parsed(variable: str, text: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be a whole number, not {text!r}") from None


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"must be a number, not {text!r}") from None


def _switch(text: str) -> bool:
    try:
        return bool(SWITCH.parse(text))
    except ValueError:
        raise ValueError(f"must be {SWITCH.expected}, not {text!r}") from None


# -- from a file -------------------------------------------------------------------------------------------------------

_KEYS = ("strategy", "timeout", "max_wait_seconds", "retry_count", "fallback_on_failure", "health_check", "endpoints")
_HEALTH_KEYS = MappingProxyType({"enabled": "enable_health_check", "interval": "health_check_interval"})
_ENDPOINT_KEYS = tuple(field.name for field in fields(Endpoint))


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The arguments of a balancer as a file gives them: JSON if its name ends in .json, else YAML.

    Raises OSError where it cannot be read, ValueError where its content cannot be used; unknown keys are named.
    """
    text = Path(path).read_text("utf-8")
    try:
        document = json.loads(text) if Path(path).suffix.lower() == ".json" else yaml.safe_load(text)
        return _arguments(document)
    except yaml.YAMLError as error:
        # Its own text quotes the line, which may hold a key.
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{path}: is not valid YAML{where}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _arguments(document: object) -> dict[str, Any]:
    given = _mapping("the file", document, _KEYS)
    listed = given.pop("endpoints", None)
    if not isinstance(listed, list) or not listed:
        raise ValueError("endpoints must be a list of at least one endpoint, each with a url")
    health = _mapping("health_check", given.pop("health_check", {}), _HEALTH_KEYS)
    given |= {_HEALTH_KEYS[key]: value for key, value in health.items()}
    given["endpoints"] = [
        _endpoint(f"endpoints[{place}]", _mapping(f"endpoints[{place}]", each, _ENDPOINT_KEYS))
        for place, each in enumerate(listed)
    ]
    return given


def _mapping(where: str, value: object, known: Collection[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a mapping with the keys {', '.join(known)}")  # noqa: TRY004 - bad input
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are: {', '.join(known)}"
            raise ValueError(f"{where}: unknown key {key!r}{hint}")
    return dict(value)


def _endpoint(where: str, values: Mapping[str, Any]) -> Endpoint:
    if "url" not in values:
        raise ValueError(f"{where}: url is missing")
    try:
        return Endpoint(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
