"""Every setting of the process, once: name, parser, range, default, help and older names stand at its attribute.

Reads no environment itself: the caller hands in a mapping. Help, `.env.example` and the documentation page are made
from the same fields. Imported by the composition root only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType

from balancer.core.affinity import KeySource
from balancer.core.strategies import ALIASES, STRATEGIES, resolve_strategy
from balancer.setting_kinds import (
    ADDRESSES,
    ADMIN_TOKEN,
    CLIENT_TOKENS,
    DATABASE_URL,
    FILE_PATH,
    HOST,
    LIMITS,
    LOAD_FACTOR,
    MAX_CONCURRENT,
    MODEL_NAME,
    MODEL_NAMES,
    NETWORKS,
    OWN_PORT,
    PERCENT,
    PORTS,
    SECRET_KEYS,
    SWITCH,
    WEB_ADDRESS,
    Address,
    Kind,
    choice,
    seconds,
    whole,
)
from balancer.setting_table import Setting, SettingsError, read_table, table_of, unknown
from balancer.setting_table import setting as _setting

__all__ = ["SETTINGS", "Setting", "Settings", "SettingsError", "load_settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, parsed and in range. Without arguments: the defaults.

    `admin_token` is empty when none, or only the placeholder, was given: one must be generated then. `log_level` is
    in upper case, `log_format` in lower case. `unknown` has a line for each `LB_*` variable that is no setting.
    `given` tells under which variable a setting was given, by the setting's name; `from_file` which of these variables
    the file gave.
    """

    host: str = _setting(
        "LB_HOST",
        "Network",
        HOST,
        "127.0.0.1",
        "Address to listen on. 0.0.0.0 listens on all interfaces: set client tokens first.",
    )
    port: int = _setting(
        "LB_PORT",
        "Network",
        whole(0, 65535),
        "8090",
        "Port for clients, the admin pages and the status interfaces. 0 takes any free port.",
        aliases=("LOAD_BALANCER_PORT", "HTTP_PORT"),
    )
    admin_port: int | None = _setting(
        "LB_ADMIN_PORT",
        "Network",
        OWN_PORT,
        "",
        "A port of its own for the admin pages and API, which LB_PORT does not serve then. 0 takes any free port.",
    )
    admin_host: str = _setting("LB_ADMIN_HOST", "Network", HOST, "127.0.0.1", "Address to listen on for that port.")
    workers: int = _setting(
        "LB_WORKERS",
        "Network",
        whole(1, 64, "processes"),
        "1",
        "Processes that serve the port together, at most one for each core. Not on Windows.",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "LB_TRUSTED_PROXIES",
        "Network",
        NETWORKS,
        "",
        "Reverse proxies in front of the balancer, whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    )
    allow_link_local: bool = _setting(
        "LB_ALLOW_LINK_LOCAL",
        "Network",
        SWITCH,
        "false",
        "Whether endpoints may be at link-local addresses (169.254.0.0/16, fe80::/10) and at those where clouds tell a "
        "machine's secrets. Private and loopback addresses are always allowed.",
    )
    load_tester_url: str = _setting(
        "LB_LOAD_TESTER_URL",
        "Network",
        WEB_ADDRESS,
        "http://127.0.0.1:8088",
        "Where the browser of an operator reaches the load tester: the editor links there.",
    )
    drain_seconds: float = _setting(
        "LB_DRAIN_SECONDS",
        "Network",
        seconds(0, 3600),
        "120",
        "How long running requests and streams may go on after the signal to stop; a second signal stops at once.",
    )
    admin_token: str = _setting(
        "LB_ADMIN_TOKEN",
        "Authentication",
        ADMIN_TOKEN,
        "",
        "Token for the admin pages and API. When unset or change-me-admin-token, a random one is generated at the "
        "first start and kept beside the database.",
        secret=True,
    )
    client_tokens: tuple[str, ...] = _setting(
        "LB_CLIENT_TOKENS",
        "Authentication",
        CLIENT_TOKENS,
        "",
        "Tokens that clients send as their API key. The API is open to everybody while this is empty and no token "
        "was ever made on the admin pages.",
        secret=True,
    )
    db_path: str = _setting(
        "LB_DB_PATH",
        "Storage",
        FILE_PATH,
        "./data/load_balancer.db",
        "SQLite file with the configuration, usage and client tokens.",
    )
    database_url_override: str = _setting(
        "LB_DATABASE_URL",
        "Storage",
        DATABASE_URL,
        "",
        "Database to use instead of the file of LB_DB_PATH, as an SQLAlchemy URL with an async driver.",
        secret=True,
    )
    secret_keys: tuple[str, ...] = _setting(
        "LB_SECRET_KEY",
        "Storage",
        SECRET_KEYS,
        "",
        "Secret that the provider keys in the database are encrypted with; without it they stand there in clear. Of "
        "several the first encrypts and all decrypt. Keep it apart from the database: without it the keys are lost.",
        secret=True,
    )
    retention_days: int = _setting(
        "LB_RETENTION_DAYS", "Storage", whole(1, 3650, "days"), "30", "Days for which usage per minute is kept."
    )
    routing_strategy: str = _setting(
        "ROUTING_STRATEGY",
        "Routing",
        Kind("one of " + ", ".join((*STRATEGIES, *ALIASES)), resolve_strategy, choices=tuple(STRATEGIES)),
        "percentage",
        "Routing mode at the first start; afterwards the mode chosen on the admin pages holds.",
    )
    fail_threshold: int = _setting(
        "LB_FAIL_THRESHOLD",
        "Routing",
        whole(1, 1000),
        "3",
        "Failures in a row after which an endpoint cools down.",
        aliases=("CIRCUIT_BREAKER_THRESHOLD",),
    )
    cooldown_seconds: float = _setting(
        "LB_COOLDOWN_SECONDS",
        "Routing",
        seconds(1, 86400),
        "20",
        "How long an endpoint gets no requests after its failures; longer when it fails again right afterwards.",
        aliases=("CIRCUIT_BREAKER_TTL_SECS",),
    )
    failure_memory_seconds: float = _setting(
        "LB_FAILURE_MEMORY_SECONDS",
        "Routing",
        seconds(1, 86400, or_off=True),
        "600",
        "How long a failure counts towards that threshold: it is forgotten when the next request to fail begins later "
        "than this. 0: never.",
        aliases=("FAILURE_PENALTY_TTL_SECS",),
    )
    max_retries: int = _setting(
        "LB_MAX_RETRIES",
        "Routing",
        whole(0, 20),
        "2",
        "Further endpoints to try when one fails before anything was sent to the client.",
        aliases=("MAX_RETRIES",),
    )
    retry_budget_percent: float = _setting(
        "LB_RETRY_BUDGET_PERCENT",
        "Routing",
        PERCENT,
        "20",
        "Retries allowed as a share of the active requests, so that an outage does not multiply the load. A few are "
        "always allowed.",
    )
    retry_on_timeout: bool = _setting(
        "LB_RETRY_ON_TIMEOUT",
        "Routing",
        SWITCH,
        "true",
        "Whether to try another endpoint when one sends nothing within its timeout.",
    )
    affinity: str = _setting(
        "LB_AFFINITY",
        "Routing",
        choice(*KeySource),
        "off",
        "What keeps requests together at one endpoint, whose cache then knows them: session is the header "
        "x-session-id, user the field of that name, prompt the beginning of the prompt.",
    )
    affinity_prompt_bytes: int = _setting(
        "LB_AFFINITY_PROMPT_BYTES",
        "Routing",
        whole(64, 1048576, "bytes"),
        "2048",
        "How many bytes of the prompt count, from its beginning.",
    )
    affinity_load_factor: float = _setting(
        "LB_AFFINITY_LOAD_FACTOR",
        "Routing",
        LOAD_FACTOR,
        "1.25",
        "An endpoint gets such a request only while it has less than this many times its part of all that is in "
        "flight; otherwise the next one of that session does.",
    )
    min_healthy_nodes: int = _setting(
        "MIN_HEALTHY_NODES",
        "Routing",
        whole(0, 100000),
        "1",
        "With fewer healthy endpoints than this, /health reports degraded.",
    )
    model_sentinels: tuple[str, ...] = _setting(
        "MODEL_SENTINELS",
        "Models",
        MODEL_NAMES,
        "auto,default",
        "Names that stand for any model, in any case; so does a request that names none. A single comma means none.",
    )
    lm_model: str = _setting("LM_MODEL", "Models", MODEL_NAME, "", "One more such name.")
    preferred_models: tuple[str, ...] = _setting(
        "PREFERRED_MODELS",
        "Models",
        MODEL_NAMES,
        "",
        "Which model is taken then: the first of these that is available, else the first available of all.",
    )
    auto_model_strategy: str = _setting(
        "AUTO_MODEL_STRATEGY",
        "Models",
        choice("any_first", "intersection_first"),
        "any_first",
        "intersection_first prefers, before that, models that every connected endpoint serves.",
    )
    default_timeout_seconds: float = _setting(
        "LB_DEFAULT_TIMEOUT_SECONDS",
        "Limits",
        seconds(5, 600),
        "120",
        "Longest silence tolerated from an endpoint that has no timeout of its own: until its headers, and between "
        "parts of its answer.",
        aliases=("REQUEST_TIMEOUT_SECS",),
    )
    max_connections: int = _setting(
        "LB_MAX_CONNECTIONS",
        "Limits",
        whole(10, 100000),
        "500",
        "Connections to one endpoint; an endpoint that has them all in use counts as full.",
    )
    max_keepalive: int = _setting(
        "LB_MAX_KEEPALIVE",
        "Limits",
        whole(10, 100000),
        "200",
        "Idle connections to one endpoint that are kept open for reuse.",
    )
    max_body_bytes: int = _setting(
        "LB_MAX_BODY_BYTES",
        "Limits",
        whole(1024, 2**30, "bytes"),
        "33554432",
        "Largest request body; longer ones are answered with 413.",
    )
    max_body_values: int = _setting(
        "LB_MAX_BODY_VALUES",
        "Limits",
        whole(1000, 100_000_000),
        "500000",
        "Most strings, arrays and objects in a request body, and four times as many values: reading them costs more "
        "than their bytes. More are answered with 413.",
    )
    max_header_bytes: int = _setting(
        "LB_MAX_HEADER_BYTES",
        "Limits",
        whole(1024, 2**20, "bytes"),
        "65536",
        "Longest head of a request: its first line and all header fields. Longer ones are answered with 431.",
    )
    max_headers: int = _setting(
        "LB_MAX_HEADERS", "Limits", whole(10, 10000), "200", "Most header fields of a request; 431 answers more."
    )
    header_timeout_seconds: float = _setting(
        "LB_HEADER_TIMEOUT_SECONDS",
        "Limits",
        seconds(1, 3600),
        "30",
        "Longest time for the whole head of a request, on a new connection from its beginning; answered with 408.",
    )
    body_timeout_seconds: float = _setting(
        "LB_BODY_TIMEOUT_SECONDS",
        "Limits",
        seconds(1, 3600),
        "60",
        "Longest silence of a client in the middle of a request's body; answered with 408.",
    )
    max_client_connections: int = _setting(
        "LB_MAX_CLIENT_CONNECTIONS",
        "Limits",
        whole(0, 1_000_000),
        "0",
        "Connections of all clients together; further ones are answered with 503 and closed. 0: half of the files the "
        "process may have open, so that each request can have one to an endpoint.",
    )
    max_connections_per_client: int = _setting(
        "LB_MAX_CONNECTIONS_PER_CLIENT",
        "Limits",
        whole(0, 1_000_000),
        "0",
        "Connections of one address, or of one /64 network of IPv6. 0: no limit. There is none for LB_TRUSTED_PROXIES: "
        "name any proxy in front there before setting this.",
    )
    queue_size: int = _setting(
        "LB_QUEUE_SIZE",
        "Limits",
        whole(0, 100000),
        "0",
        "Requests that may wait while all endpoints are full. 0 answers 429 at once.",
    )
    queue_timeout_seconds: float = _setting(
        "LB_QUEUE_TIMEOUT_SECONDS",
        "Limits",
        seconds(0.1, 600),
        "10",
        "Longest wait in that queue, answered with 429 when it is over.",
    )
    health_interval_seconds: float = _setting(
        "LB_HEALTH_INTERVAL_SECONDS",
        "Health",
        seconds(1, 3600, or_off=True),
        "10",
        "How often each endpoint is asked for its models, which costs no tokens. 0: never, and an endpoint without "
        "models of its own is asked for any.",
    )
    health_timeout_seconds: float = _setting(
        "LB_HEALTH_TIMEOUT_SECONDS",
        "Health",
        seconds(0.1, 60),
        "5",
        "Longest time for the whole answer to that, also when a connection is tested or hosts are scanned.",
    )
    health_rise: int = _setting(
        "LB_HEALTH_RISE",
        "Health",
        whole(1, 100),
        "2",
        "Good answers in a row after which an endpoint that was down gets requests again.",
    )
    health_fall: int = _setting(
        "LB_HEALTH_FALL",
        "Health",
        whole(1, 100),
        "3",
        "Failures in a row after which an endpoint is down: it gets requests only when no other is left.",
    )
    health_down_interval_seconds: float = _setting(
        "LB_HEALTH_DOWN_INTERVAL_SECONDS",
        "Health",
        seconds(0.5, 3600),
        "2",
        "The interval for endpoints that are down or failed last, unless the normal one is shorter.",
    )
    scan_hosts: tuple[Address, ...] = _setting(
        "SCAN_HOSTS",
        "Discovery",
        ADDRESSES,
        "",
        "Hosts that are asked whether they serve models; those that do become endpoints named host:port. Nothing else "
        "is ever scanned.",
    )
    scan_ports: tuple[int, ...] = _setting(
        "SCAN_PORTS",
        "Discovery",
        PORTS,
        "1234",
        "Ports that are tried on each of those hosts that is given without one.",
    )
    scan_interval_seconds: float = _setting(
        "SCAN_INTERVAL", "Discovery", seconds(1, 86400), "60", "Seconds between two scans."
    )
    default_maxconn: int = _setting(
        "DEFAULT_MAXCONN",
        "Discovery",
        MAX_CONCURRENT,
        "0",
        "Most requests at once for endpoints found by a scan. 0: no cap.",
    )
    maxconn_map: tuple[tuple[Address, int], ...] = _setting(
        "MAXCONN_MAP", "Discovery", LIMITS, "", "The same for single ones of them, instead of DEFAULT_MAXCONN."
    )
    discovery_connect: bool = _setting(
        "LB_DISCOVERY_CONNECT",
        "Discovery",
        SWITCH,
        "false",
        "Whether they take traffic at once, rather than when they are connected on the admin pages.",
    )
    stream_ping_seconds: float = _setting(
        "LB_STREAM_PING_SECONDS",
        "Streams",
        seconds(1, 600, or_off=True),
        "0",
        "Comment lines sent into silent streams at this interval, for networks that cut idle connections. The first "
        "one ends the chance to try another endpoint.",
    )
    client_write_timeout_seconds: float = _setting(
        "LB_CLIENT_WRITE_TIMEOUT_SECONDS",
        "Streams",
        seconds(1, 3600),
        "60",
        "A client that accepts nothing of its answer for this long is disconnected.",
    )
    log_level: str = _setting(
        "LB_LOG_LEVEL",
        "Logging",
        choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        "Least important messages to log.",
    )
    log_format: str = _setting(
        "LB_LOG_FORMAT",
        "Logging",
        choice("text", "json"),
        "text",
        "Log lines for people (text) or one JSON object per line (json).",
    )
    unknown: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    from_file: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the database in use; may hold a password."""
        return self.database_url_override or f"sqlite+aiosqlite:///{self.db_path}"


ATTRIBUTES = table_of(Settings)
SETTINGS: tuple[Setting, ...] = tuple(ATTRIBUTES.values())


def load_settings(environ: Mapping[str, str], file: Mapping[str, str] = MappingProxyType({})) -> Settings:
    """Settings from `environ` and, where that lacks a variable, from `file`; empty values count as unset.

    Raises SettingsError with every problem found, not only the first.
    """
    both = {**file, **environ}
    values, variables = read_table(ATTRIBUTES, both)
    from_file = frozenset(variables.values()) - environ.keys()
    unheard = tuple(unknown("LB_", SETTINGS, both))
    return Settings(**values, unknown=unheard, given=variables, from_file=from_file)
