"""Every setting of the process, once: name, parser, range, default, help and older names stand at its attribute.

Reads no environment itself: the caller hands in a mapping. Help, `.env.example` and the documentation page are made
from the same fields. Imported by the composition root only.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import groupby
from pathlib import Path
from typing import Any

from balancer.auth import is_token
from balancer.core.errors import BalancerError
from balancer.core.strategies import ALIASES, STRATEGIES, resolve_strategy

PLACEHOLDER_ADMIN_TOKEN = "change-me-admin-token"  # noqa: S105  what it names is refused, not used

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
_HOST_NAME = re.compile(r"(?![0-9.]*$)[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")
_URL = re.compile(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?://[!-~]*")
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_ENV_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*
    (?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>(?!["'\#])[^\s]+(?:[^\S\n]+[^\s\#]\S*)*)?)
    \s*(?:(?<=\s)\#.*)?""",
    re.VERBOSE,
)


class SettingsError(BalancerError):
    """Settings that cannot be used: `problems` has one line for each, free of secrets."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Kind:
    """How a setting's text becomes its value: `parse` raises ValueError unless it is what `expected` says."""

    expected: str
    parse: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table. `default` is text as an operator would write it; `aliases` are older names still read."""

    name: str
    group: str
    kind: Kind
    default: str
    help: str
    aliases: tuple[str, ...] = ()
    secret: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)


def _whole(low: int, high: int) -> Kind:
    def parse(text: str) -> int:
        if "." in text:
            raise ValueError
        return int(_in_range(text, low, high))

    return Kind(f"a whole number from {low} to {high}", parse)


def _seconds(low: float, high: float, *, or_off: bool = False) -> Kind:
    def parse(text: str) -> float:
        return 0.0 if or_off and float(text) == 0 else _in_range(text, low, high)

    return Kind(f"{'0 (off) or ' if or_off else ''}a number of seconds from {low:g} to {high:g}", parse)


def _in_range(text: str, low: float, high: float) -> float:
    if not _NUMBER.fullmatch(text) or not low <= float(text) <= high:
        raise ValueError
    return float(text)


def _choice(*names: str) -> Kind:
    folded = {name.lower(): name for name in names}

    def parse(text: str) -> str:
        if text.lower() not in folded:
            raise ValueError
        return folded[text.lower()]

    return Kind("one of " + ", ".join(names), parse)


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError
    return _SWITCH[text.lower()]


def _host(text: str) -> str:
    return text if _HOST_NAME.fullmatch(text) else str(ip_address(text))


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(item) for item in _items(text))


def _admin_token(text: str) -> str:
    if text and not is_token(text):
        raise ValueError
    return "" if text == PLACEHOLDER_ADMIN_TOKEN else text


def _client_tokens(text: str) -> tuple[str, ...]:
    tokens = tuple(dict.fromkeys(_items(text)))
    if not all(map(is_token, tokens)):
        raise ValueError
    return tokens


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def _file_path(text: str) -> str:
    if not text.isprintable() or "?" in text:  # a URL is made of it, where "?" begins the options
        raise ValueError
    return text


def _database_url(text: str) -> str:
    if text and not _URL.fullmatch(text):
        raise ValueError
    return text


def _setting(
    name: str,
    group: str,
    kind: Kind,
    default: str,
    help_text: str,
    *,
    aliases: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field of `Settings`; Any, because the attribute's annotation is its type."""
    setting = Setting(name, group, kind, default, help_text, aliases, secret)
    return field(default=kind.parse(default), repr=not secret, metadata={"setting": setting})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, parsed and in range. Without arguments: the defaults.

    `admin_token` is empty when none, or only the placeholder, was given: one must be generated then. `log_level` is
    in upper case, `log_format` in lower case. `unknown` has a line for each `LB_*` variable that is no setting.
    """

    host: str = _setting(
        "LB_HOST",
        "Network",
        Kind("an IP address or a host name, without a port", _host),
        "127.0.0.1",
        "Address to listen on. 0.0.0.0 listens on all interfaces: set client tokens first.",
    )
    port: int = _setting(
        "LB_PORT",
        "Network",
        _whole(0, 65535),
        "8090",
        "Port for clients, the admin pages and the status interfaces. 0 takes any free port.",
        aliases=("LOAD_BALANCER_PORT", "HTTP_PORT"),
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "LB_TRUSTED_PROXIES",
        "Network",
        Kind("IP addresses or networks such as 10.0.0.0/8, separated by commas", _networks),
        "",
        "Reverse proxies in front of the balancer, whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    )
    drain_seconds: float = _setting(
        "LB_DRAIN_SECONDS",
        "Network",
        _seconds(0, 3600),
        "120",
        "How long running requests and streams may go on after the signal to stop; a second signal stops at once.",
    )
    admin_token: str = _setting(
        "LB_ADMIN_TOKEN",
        "Authentication",
        Kind("visible ASCII characters without spaces", _admin_token),
        "",
        "Token for the admin pages and API. When unset or change-me-admin-token, a random one is generated at the "
        "first start and kept beside the database.",
        secret=True,
    )
    client_tokens: tuple[str, ...] = _setting(
        "LB_CLIENT_TOKENS",
        "Authentication",
        Kind("visible ASCII characters without spaces, several tokens separated by commas", _client_tokens),
        "",
        "Tokens that clients send as their API key. The API is open to everybody while this is empty and no token "
        "was ever made on the admin pages.",
        secret=True,
    )
    db_path: str = _setting(
        "LB_DB_PATH",
        "Storage",
        Kind("a file path without a question mark", _file_path),
        "./data/load_balancer.db",
        "SQLite file with the configuration, usage and client tokens.",
    )
    database_url_override: str = _setting(
        "LB_DATABASE_URL",
        "Storage",
        Kind("an SQLAlchemy URL such as sqlite+aiosqlite:///data/load_balancer.db", _database_url),
        "",
        "Database to use instead of the file of LB_DB_PATH, as an SQLAlchemy URL with an async driver.",
        secret=True,
    )
    retention_days: int = _setting(
        "LB_RETENTION_DAYS",
        "Storage",
        _whole(1, 3650),
        "30",
        "Days for which usage per minute is kept.",
    )
    routing_strategy: str = _setting(
        "ROUTING_STRATEGY",
        "Routing",
        Kind("one of " + ", ".join((*STRATEGIES, *ALIASES)), resolve_strategy),
        "percentage",
        "Routing mode at the first start; afterwards the mode chosen on the admin pages holds.",
    )
    fail_threshold: int = _setting(
        "LB_FAIL_THRESHOLD",
        "Routing",
        _whole(1, 1000),
        "3",
        "Failures in a row after which an endpoint cools down.",
        aliases=("CIRCUIT_BREAKER_THRESHOLD",),
    )
    cooldown_seconds: float = _setting(
        "LB_COOLDOWN_SECONDS",
        "Routing",
        _seconds(1, 86400),
        "20",
        "How long an endpoint gets no requests after its failures; longer when it fails again right afterwards.",
        aliases=("CIRCUIT_BREAKER_TTL_SECS",),
    )
    max_retries: int = _setting(
        "LB_MAX_RETRIES",
        "Routing",
        _whole(0, 20),
        "2",
        "Further endpoints to try when one fails before anything was sent to the client.",
        aliases=("MAX_RETRIES",),
    )
    retry_budget_percent: float = _setting(
        "LB_RETRY_BUDGET_PERCENT",
        "Routing",
        Kind("a number from 0 to 100", lambda text: _in_range(text, 0, 100)),
        "20",
        "Retries allowed as a share of the active requests, so that an outage does not multiply the load. A few are "
        "always allowed.",
    )
    retry_on_timeout: bool = _setting(
        "LB_RETRY_ON_TIMEOUT",
        "Routing",
        Kind("true or false", _switch),
        "true",
        "Whether to try another endpoint when one sends nothing within its timeout.",
    )
    min_healthy_nodes: int = _setting(
        "MIN_HEALTHY_NODES",
        "Routing",
        _whole(0, 100000),
        "1",
        "With fewer healthy endpoints than this, /health reports degraded.",
    )
    default_timeout_seconds: float = _setting(
        "LB_DEFAULT_TIMEOUT_SECONDS",
        "Limits",
        _seconds(5, 600),
        "120",
        "Longest silence tolerated from an endpoint that has no timeout of its own: until its headers, and between "
        "parts of its answer.",
        aliases=("REQUEST_TIMEOUT_SECS",),
    )
    max_connections: int = _setting(
        "LB_MAX_CONNECTIONS",
        "Limits",
        _whole(10, 100000),
        "500",
        "Connections to one endpoint; an endpoint that has them all in use counts as full.",
    )
    max_keepalive: int = _setting(
        "LB_MAX_KEEPALIVE",
        "Limits",
        _whole(10, 100000),
        "200",
        "Idle connections to one endpoint that are kept open for reuse.",
    )
    max_body_bytes: int = _setting(
        "LB_MAX_BODY_BYTES",
        "Limits",
        _whole(1024, 2**30),
        "33554432",
        "Largest request body; longer ones are answered with 413.",
    )
    queue_size: int = _setting(
        "LB_QUEUE_SIZE",
        "Limits",
        _whole(0, 100000),
        "0",
        "Requests that may wait while all endpoints are full. 0 answers 429 at once.",
    )
    queue_timeout_seconds: float = _setting(
        "LB_QUEUE_TIMEOUT_SECONDS",
        "Limits",
        _seconds(0.1, 600),
        "10",
        "Longest wait in that queue, answered with 429 when it is over.",
    )
    stream_ping_seconds: float = _setting(
        "LB_STREAM_PING_SECONDS",
        "Streams",
        _seconds(1, 600, or_off=True),
        "0",
        "Comment lines sent into silent streams at this interval, for networks that cut idle connections. The first "
        "one ends the chance to try another endpoint.",
    )
    client_write_timeout_seconds: float = _setting(
        "LB_CLIENT_WRITE_TIMEOUT_SECONDS",
        "Streams",
        _seconds(1, 3600),
        "60",
        "A client that accepts nothing of its answer for this long is disconnected.",
    )
    log_level: str = _setting(
        "LB_LOG_LEVEL",
        "Logging",
        _choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        "Least important messages to log.",
    )
    log_format: str = _setting(
        "LB_LOG_FORMAT",
        "Logging",
        _choice("text", "json"),
        "text",
        "Log lines for people (text) or one JSON object per line (json).",
    )
    unknown: tuple[str, ...] = ()

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the database in use; may hold a password."""
        return self.database_url_override or f"sqlite+aiosqlite:///{self.db_path}"


_ATTRIBUTES: Mapping[str, Setting] = {
    item.name: item.metadata["setting"] for item in fields(Settings) if "setting" in item.metadata
}
SETTINGS: tuple[Setting, ...] = tuple(_ATTRIBUTES.values())


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from `environ`; empty values count as unset.

    Raises SettingsError with every problem found, not only the first.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    for attribute, setting in _ATTRIBUTES.items():
        given = {name: text for name in setting.names if (text := environ.get(name, "").strip())}
        parsed = _parse(setting, given, problems)
        if any(value != next(iter(parsed.values())) for value in parsed.values()):
            problems.append(_conflict(setting, given))
        if parsed:
            values[attribute] = next(iter(parsed.values()))
    if problems:
        raise SettingsError(tuple(problems))
    return Settings(**values, unknown=tuple(_unknown(environ)))


def _parse(setting: Setting, given: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name, text in given.items():
        try:
            parsed[name] = setting.kind.parse(text)
        except ValueError:
            problems.append(f"{name}={_shown(setting, text)}: expected {setting.kind.expected}")
    return parsed


def _conflict(setting: Setting, given: Mapping[str, str]) -> str:
    pairs = " and ".join(f"{name}={_shown(setting, text)}" for name, text in given.items())
    return f"{pairs}: names of one setting with different values; keep {setting.name}"


def _shown(setting: Setting, text: str) -> str:
    if setting.secret:
        return "***"
    return repr(text if len(text) <= 80 else text[:80] + "...")


def _unknown(environ: Mapping[str, str]) -> Iterator[str]:
    known = [name for setting in SETTINGS for name in setting.names]
    for name in sorted(environ):
        if name.startswith("LB_") and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            yield f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else "")


def read_env_file(path: Path) -> dict[str, str]:
    """Variables from a file of KEY=VALUE lines; empty when there is no such file.

    Allowed are blank lines, comments (also behind a value, after a space), `export ` and quotes around a value, which
    are taken off; nothing is escaped or substituted. Raises SettingsError naming each line that is none of these.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError((f"{path}: cannot be read ({type(error).__name__})",)) from error
    values: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ENV_LINE.fullmatch(line)
        if match is None:
            problems.append(f"{path}, line {number}: expected NAME=VALUE")
        else:
            values[match["name"]] = match["double"] or match["single"] or match["bare"] or ""
    if problems:
        raise SettingsError(tuple(problems))
    return values


def help_text() -> str:
    """Every setting with its default and meaning, for the command line."""
    blocks = ["Settings, from the environment or a .env file in the working directory:"]
    for group, settings in groupby(SETTINGS, key=lambda setting: setting.group):
        blocks.append("\n".join((f"{group}:", *map(_help_entry, settings))))
    return "\n\n".join(blocks) + "\n"


def _help_entry(setting: Setting) -> str:
    also = f" Also read as {', '.join(setting.aliases)}." if setting.aliases else ""
    text = f"{setting.help} Expects {setting.kind.expected}.{also}"
    indented = textwrap.fill(text, 96, initial_indent="      ", subsequent_indent="      ")
    return f"  {setting.name} (default: {setting.default or 'empty'})\n{indented}"
