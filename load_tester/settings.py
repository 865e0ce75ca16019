"""Every setting of the load tester, once. Reads no environment itself: the caller hands in a mapping.

Help, `.env.example` and the documentation page are made from the same fields. Imported where the program is put
together only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from balancer.auth import is_token
from balancer.setting_kinds import FILE_PATH, HOST, WEB_ADDRESS, BadEntry, Kind, choice, items, seconds, whole
from balancer.setting_table import Setting, read_table, table_of, unknown
from balancer.setting_table import setting as _setting

_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")

# The key of the target for one run on the command line: no setting, since it belongs to the target.
KEY_VARIABLE = "LT_API_KEY"

Rewrite = tuple[tuple[str, int], tuple[str, int]]


def _place(text: str) -> tuple[str, int]:
    found = _PLACE.fullmatch(text.strip())
    if found is None or not 0 < int(found[3]) < 65536:
        raise ValueError
    return (found[1] or found[2]).lower(), int(found[3])


def _rewrites(text: str) -> tuple[Rewrite, ...]:
    made = []
    for item in items(text):
        source, _, goal = item.partition("=")
        try:
            made.append((_place(source), _place(goal)))
        except ValueError:
            raise BadEntry(item) from None
    return tuple(made)


def _allowed(text: str) -> tuple[str | IPv4Network | IPv6Network, ...]:
    made: list[str | IPv4Network | IPv6Network] = []
    for item in items(text):
        try:
            made.append(ip_network(item))
        except ValueError:
            if _NAME.fullmatch(item) is None or item.replace(".", "").isdecimal():
                raise BadEntry(item) from None
            made.append(item.lower())
    return tuple(made)


def _token(text: str) -> str:
    if text and not is_token(text):
        raise ValueError
    return text


_EDITOR = Kind(WEB_ADDRESS.expected, lambda text: WEB_ADDRESS.parse(text) if text else "")
_REWRITES = Kind("typed-host:port=real-host:port, several separated by commas", _rewrites)
_ALLOWED = Kind("host names, IP addresses or networks, separated by commas", _allowed)
_TOKEN = Kind("visible ASCII characters without spaces", _token)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, parsed and in range. Without arguments: the defaults.

    `unknown` has a line for each `LT_*` variable that is no setting.
    """

    host: str = _setting(
        "LT_HOST",
        "Load tester",
        HOST,
        "127.0.0.1",
        "Address to listen on. On any other than this machine's own, a token is demanded.",
    )
    port: int = _setting(
        "LT_PORT",
        "Load tester",
        whole(0, 65535),
        "8088",
        "Port of the load tester's page and API. 0 takes any free port.",
    )
    token: str = _setting(
        "LT_TOKEN",
        "Load tester",
        _TOKEN,
        "",
        "Token for the page and the API. When unset and not on 127.0.0.1, a random one is generated at the first start "
        "and kept in the data directory.",
        secret=True,
    )
    data_dir: str = _setting(
        "LT_DATA_DIR",
        "Load tester",
        FILE_PATH,
        "./data-load-tester",
        "Directory of past runs, profiles and the generated token. Not that of the balancer's database.",
    )
    host_rewrites: tuple[Rewrite, ...] = _setting(
        "LT_HOST_REWRITES",
        "Load tester",
        _REWRITES,
        "",
        "Where to connect instead of what was typed; TLS and the Host header go on naming what was typed. For "
        "containers, in which localhost is the container itself.",
    )
    allow_hosts: tuple[str | IPv4Network | IPv6Network, ...] = _setting(
        "LT_ALLOW_HOSTS",
        "Load tester",
        _ALLOWED,
        "",
        "Targets that load may be sent to. Empty: any but link-local, metadata and multicast addresses, which never "
        "are.",
    )
    max_connections: int = _setting(
        "LT_MAX_CONNECTIONS",
        "Load tester",
        whole(1, 100_000),
        "2000",
        "Most requests that one card may have under way at once; each needs a connection and an open file.",
    )
    max_rate: float = _setting(
        "LT_MAX_RATE",
        "Load tester",
        whole(1, 1_000_000),
        "20000",
        "Most requests per second that one card may plan.",
    )
    max_seconds: float = _setting(
        "LT_MAX_SECONDS",
        "Load tester",
        seconds(1, 31_536_000),
        "86400",
        "Longest run; one without an end of its own is stopped then.",
    )
    max_tokens: int = _setting(
        "LT_MAX_TOKENS",
        "Load tester",
        whole(1, 10**15),
        "1000000000",
        "Most output tokens that one card may cause; it is stopped then.",
    )
    keep_runs: int = _setting(
        "LT_KEEP_RUNS",
        "Load tester",
        whole(0, 1_000_000),
        "500",
        "How many runs the history keeps; the oldest are removed. 0 keeps all.",
    )
    editor_url: str = _setting(
        "LT_EDITOR_URL",
        "Load tester",
        _EDITOR,
        "",
        "Where the browser of an operator reaches the balancer's editor, such as https://lb.example.com/admin: the "
        "page links there. Empty: /admin at the address of the target.",
    )
    log_level: str = _setting(
        "LT_LOG_LEVEL",
        "Load tester",
        choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        "Least important messages to log.",
    )
    unknown: tuple[str, ...] = ()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


_ATTRIBUTES = table_of(Settings)
SETTINGS: tuple[Setting, ...] = tuple(_ATTRIBUTES.values())


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from `environ`; empty values count as unset. Raises SettingsError with every problem found."""
    environ = {name: text for name, text in environ.items() if name != KEY_VARIABLE}
    return Settings(**read_table(_ATTRIBUTES, environ)[0], unknown=tuple(unknown("LT_", SETTINGS, environ)))
