"""Where an endpoint is reached: a base URL and the proxy variables become a `Target`. Pure and synchronous.

Errors are `ConnectError`, so that a wrong URL fails its own endpoint and nothing else; none shows a proxy's password.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from balancer.core.errors import ConnectError

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\\<>\"^`{|}]")
LONGEST_URL = 500
_PATH_SAFE = "/%:@!$&'()*+,;=~"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy; `authorization` is the value of Proxy-Authorization, empty without credentials."""

    tls: bool
    host: str
    port: int
    authorization: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """One origin and the way to it. `authority` is the Host value: no default port, IPv6 in brackets.

    `connect_to`, an address and a port, is dialled instead of `host` and `port`, which TLS and Host go on naming.
    """

    tls: bool
    host: str
    port: int
    authority: bytes
    path: bytes
    proxy: Proxy | None = None
    connect_to: tuple[str, int] | None = None

    @property
    def request_prefix(self) -> bytes:
        """What precedes the request's own path: the absolute form toward a plain proxy (RFC 9112, 3.2.2)."""
        if self.proxy is not None and not self.tls:
            return b"http://" + self.authority + self.path
        return self.path

    @property
    def tunnel_authority(self) -> bytes:
        """The authority form of CONNECT, which always names the port (RFC 9112, 3.2.3)."""
        return b"%b:%d" % (_bracketed(self.host), self.port)


class Proxies:
    """The proxy variables of an environment, lower case before upper case: HTTP_, HTTPS_, ALL_ and NO_PROXY."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        everything = _variable(environ, "all_proxy")
        self._for_http = _variable(environ, "http_proxy") or everything
        self._for_https = _variable(environ, "https_proxy") or everything
        self._direct = _variable(environ, "no_proxy").lower().replace(",", " ").split()

    def choose(self, tls: bool, host: str, port: int) -> Proxy | None:
        """The proxy toward that origin, or None. Raises ConnectError for one that cannot be used."""
        url = self._for_https if tls else self._for_http
        if not url or any(_covers(entry, host, port) for entry in self._direct):
            return None
        return _proxy(url)


def normalised_base_url(text: str) -> str:
    """`text` as it is kept: `/chat/completions` can be appended. Raises ConnectError, which never repeats it.

    Scheme and host in lower case, no slash at the end; without a path it gets /v1, any other path stays as it is.
    """
    if _NOT_IN_URL.search(text):
        raise ConnectError('base_url: must not hold blanks, control characters or any of \\ < > " ^ ` { | }')
    parts = _split(text)
    if parts.scheme not in _PORTS:
        raise ConnectError("base_url: must start with http:// or https://")
    if "@" in parts.netloc:
        raise ConnectError("base_url: must not hold a user name or password: the key has a field of its own")
    if "?" in text or "#" in text:
        raise ConnectError("base_url: must not hold a query or a fragment")
    url = f"{parts.scheme}://{parts.netloc.lower().removesuffix(':')}{parts.path.rstrip('/') or '/v1'}"
    if len(url) > LONGEST_URL:
        raise ConnectError(f"base_url: must be at most {LONGEST_URL} characters long")
    target_of(url, Proxies({}))
    return url


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        usable = parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConnectError("base_url: is not a valid URL")
    return parts


def target_of(base_url: str, proxies: Proxies) -> Target:
    """Take a base URL apart. Raises ConnectError when nothing could be reached by it."""
    parts, host, port = _origin(base_url, "base_url")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConnectError("base_url: user, query and fragment are not supported")
    tls = parts.scheme == "https"
    authority = _bracketed(host)
    if port != _PORTS[parts.scheme]:
        authority += b":%d" % port
    path = quote(parts.path.rstrip("/"), safe=_PATH_SAFE).encode()
    return Target(tls, host, port, authority, path, proxies.choose(tls, host, port))


def _proxy(url: str) -> Proxy:
    parts, host, port = _origin(url if "://" in url else f"http://{url}", "proxy")
    authorization = b""
    if parts.username is not None:
        user, password = unquote_to_bytes(parts.username), unquote_to_bytes(parts.password or "")
        authorization = b"Basic " + b64encode(user + b":" + password)
    return Proxy(parts.scheme == "https", host, port, authorization)


def _origin(url: str, what: str) -> tuple[SplitResult, str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        # The reason would quote the URL, which may hold a password.
        raise ConnectError(f"{what}: not a valid URL") from None
    if parts.scheme not in _PORTS:
        raise ConnectError(f"{what}: scheme '{parts.scheme}' is not supported, http and https are")
    return parts, _ascii_host(host or "", what), _PORTS[parts.scheme] if port is None else port


def _ascii_host(host: str, what: str) -> str:
    if _address(host) is not None:
        return host
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if _NAME.fullmatch(name) is None:
        raise ConnectError(f"{what}: not a valid host name")
    return name


def _bracketed(host: str) -> bytes:
    # A zone (fe80::1%eth0) means something on this machine only and is not sent (RFC 9110, 4.2.1 by RFC 6874, 4).
    return b"[%b]" % host.partition("%")[0].encode() if ":" in host else host.encode()


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, environ.get(name.upper(), "")).strip()


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether one NO_PROXY entry names the origin: `*`, a network, an address or a domain, with or without port."""
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        return address is not None and _within(address, entry)
    name, number = _split_port(entry)
    if number and number != str(port):
        return False
    if address is not None:
        return address == _address(name)
    domain = name.removeprefix("*").strip(".")
    plain = host.rstrip(".")
    return plain == domain or plain.endswith(f".{domain}")


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") == 1:
        name, _, number = entry.partition(":")
        return name, number
    return entry, ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
