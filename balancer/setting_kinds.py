"""Kinds of settings: how the text of each becomes a value, and what is expected of it, in words.

Pure; every parser raises ValueError for what it does not take, and never shows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeVar

from balancer.auth import is_token

_PLACEHOLDER_ADMIN_TOKEN = "change-me-admin-token"  # noqa: S105  what it names is refused, not used
_LONGEST_MODEL_NAME = 256
_SHORTEST_SECRET = 16

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
_HOST_NAME = re.compile(r"(?![0-9.]*$)[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")
_URL = re.compile(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?://[!-~]*")
_WEB_ADDRESS = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[!-~]*)?")
_SEPARATOR = re.compile("[,;]")
_SEPARATOR_OR_BLANK = re.compile(r"[,;\s]+")
_ADDRESS = re.compile(r"(?:\[(?P<literal>[^\]]+)\]|(?P<host>[^\[\]:]+))(?::(?P<port>[0-9]{1,5}))?")
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


# A host, and its port where one is given.
Address = tuple[str, int | None]

T = TypeVar("T")


class BadEntry(ValueError):
    """One entry of a list is not what is expected."""

    def __init__(self, entry: str) -> None:
        self.entry = entry
        super().__init__("an entry that cannot be used")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a setting's text becomes its value: `parse` raises ValueError unless it is what `expected` says.

    `unit` and `choices` are for whoever shows it; empty where there are none.
    """

    expected: str
    parse: Callable[[str], Any]
    unit: str = ""
    choices: tuple[str, ...] = ()


def whole(low: int, high: int, unit: str = "") -> Kind:
    """A whole number in that range."""

    def parse(text: str) -> int:
        if "." in text:
            raise ValueError
        return int(_in_range(text, low, high))

    return Kind(f"a whole number from {low} to {high}", parse, unit)


def seconds(low: float, high: float, *, or_off: bool = False) -> Kind:
    """A duration in that range; `or_off`: or 0."""

    def parse(text: str) -> float:
        return 0.0 if or_off and float(text) == 0 else _in_range(text, low, high)

    return Kind(f"{'0 (off) or ' if or_off else ''}a number of seconds from {low:g} to {high:g}", parse, "seconds")


def choice(*names: str) -> Kind:
    """One of `names`, in any case."""
    folded = {name.lower(): name for name in names}

    def parse(text: str) -> str:
        if text.lower() not in folded:
            raise ValueError
        return folded[text.lower()]

    return Kind("one of " + ", ".join(names), parse, choices=names)


def items(text: str) -> list[str]:
    """The parts between commas that hold something."""
    return [item for part in text.split(",") if (item := part.strip())]


def _in_range(text: str, low: float, high: float) -> float:
    if not _NUMBER.fullmatch(text) or not low <= float(text) <= high:
        raise ValueError
    return float(text)


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError
    return _SWITCH[text.lower()]


def _host(text: str) -> str:
    return text if _HOST_NAME.fullmatch(text) else str(ip_address(text))


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(item) for item in items(text))


def _admin_token(text: str) -> str:
    if text and not is_token(text):
        raise ValueError
    return "" if text == _PLACEHOLDER_ADMIN_TOKEN else text


def _client_tokens(text: str) -> tuple[str, ...]:
    tokens = tuple(dict.fromkeys(items(text)))
    if not all(map(is_token, tokens)):
        raise ValueError
    return tokens


def _secret_keys(text: str) -> tuple[str, ...]:
    secrets = tuple(dict.fromkeys(items(text)))
    if not all(len(secret) >= _SHORTEST_SECRET and is_token(secret) for secret in secrets):
        raise ValueError
    return secrets


def _file_path(text: str) -> str:
    if not text.isprintable() or "?" in text:  # a URL is made of it, where "?" begins the options
        raise ValueError
    return text


def _database_url(text: str) -> str:
    if text and not _URL.fullmatch(text):
        raise ValueError
    return text


def _model_name(text: str) -> str:
    if len(text) > _LONGEST_MODEL_NAME or not text.isprintable():
        raise ValueError
    return text


def _model_names(text: str) -> tuple[str, ...]:
    names = (part.strip() for part in _SEPARATOR.split(text))
    return tuple(dict.fromkeys(_model_name(name) for name in names if name))


def _each(text: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    """Every entry between commas, semicolons or blanks. Raises BadEntry."""
    found: dict[T, None] = {}
    for entry in filter(None, _SEPARATOR_OR_BLANK.split(text)):
        try:
            found[parse(entry)] = None
        except ValueError:
            raise BadEntry(entry) from None
    return tuple(found)


def _own_port(text: str) -> int | None:
    return _ANY_PORT.parse(text) if text else None


def _port(text: str) -> int:
    port: int = _PORT.parse(text)
    return port


def _address(text: str) -> Address:
    """`host`, `host:port`, an IPv6 address, or one in brackets with a port; names in lower case."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return str(IPv6Address(text)), None
    port = None if found["port"] is None else _port(found["port"])
    if found["literal"]:
        return str(IPv6Address(found["literal"])), port
    host = _host(found["host"]).lower()
    host.encode("idna")  # raises where no name server could be asked for it
    return host, port


def _limit(text: str) -> tuple[Address, int]:
    place, _, number = text.rpartition("=")
    address = _address(place)
    if address[1] is None:
        raise ValueError
    return address, MAX_CONCURRENT.parse(number)


def _limits(text: str) -> tuple[tuple[Address, int], ...]:
    limits = _each(text, _limit)
    for place in {place for place, _ in limits}:
        if sum(place == each for each, _ in limits) > 1:
            raise BadEntry(f"{place[0]}:{place[1]} (given twice)")
    return limits


def _web_address(text: str) -> str:
    if not _WEB_ADDRESS.fullmatch(text) or "#" in text or "?" in text:
        raise ValueError
    return text.rstrip("/")


_PORT = whole(1, 65535)
_ANY_PORT = whole(0, 65535)
OWN_PORT = Kind(_ANY_PORT.expected, _own_port)
MAX_CONCURRENT = whole(0, 10_000)
SWITCH = Kind("true or false", _switch, choices=("true", "false"))
LOAD_FACTOR = Kind("a number from 1 to 100", lambda text: _in_range(text, 1, 100))
PERCENT = Kind("a number from 0 to 100", lambda text: _in_range(text, 0, 100), "percent")
HOST = Kind("an IP address or a host name, without a port", _host)
NETWORKS = Kind("IP addresses or networks such as 10.0.0.0/8, separated by commas", _networks)
ADMIN_TOKEN = Kind("visible ASCII characters without spaces", _admin_token)
CLIENT_TOKENS = Kind("visible ASCII characters without spaces, several tokens separated by commas", _client_tokens)
SECRET_KEYS = Kind(
    f"at least {_SHORTEST_SECRET} visible ASCII characters without spaces, several secrets separated by commas",
    _secret_keys,
)
FILE_PATH = Kind("a file path without a question mark", _file_path)
WEB_ADDRESS = Kind("an address that begins with http:// or https://, without user, query or fragment", _web_address)
DATABASE_URL = Kind("an SQLAlchemy URL such as sqlite+aiosqlite:///data/load_balancer.db", _database_url)
MODEL_NAME = Kind(f"a model's name of at most {_LONGEST_MODEL_NAME} characters", _model_name)
MODEL_NAMES = Kind("names of models, separated by commas or semicolons", _model_names)
ADDRESSES = Kind(
    "hosts, or hosts with a port such as gpu-1:8000 or [fd00::1]:8000, separated by commas, semicolons or blanks",
    lambda text: _each(text, _address),
)
PORTS = Kind("port numbers, separated by commas, semicolons or blanks", lambda text: _each(text, _port))
LIMITS = Kind(
    "host:port=N with N from 0 (no cap) to 10000, separated by commas, semicolons or blanks, each host:port once",
    _limits,
)
