"""Addresses that no endpoint stands at unless the operator says so: link-local ones, and where clouds tell a machine's
secrets to whoever asks from it. Pure.

Private and loopback addresses are none of them: that is where model servers are.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from balancer.core.errors import ConnectError

REFUSED = "a link-local or cloud metadata address, not allowed unless LB_ALLOW_LINK_LOCAL=true"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        (
            "169.254.0.0/16",  # link-local (RFC 3927), and the metadata of nearly every cloud
            "fe80::/10",  # link-local (RFC 4291, 2.5.6)
            "fd00:ec2::254/128",  # Amazon
            "fd20:ce::254/128",  # Google
            "100.100.100.200/32",  # Alibaba
            "168.63.129.16/32",  # Azure
            "192.0.0.192/32",  # Oracle
        ),
    )
)
_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
        "metadata.platformequinix.com",
    }
)
# IPv4 inside IPv6: an address of such a network leads to the one in its last 32 bits.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_refused(host: str) -> bool:
    """Whether `host`, a name or an address in any notation that a resolver takes, is one of those; asks nobody."""
    address = _address(host)
    if address is None:
        return host.rstrip(".").lower() in _NAMES
    return any(each in network for each in _meant(address) for network in _NETWORKS)


def require_allowed(base_url: str) -> None:
    """Raises ConnectError when the host of a base URL is one of those by what stands there. Asks no name server."""
    if is_refused(urlsplit(base_url).hostname or ""):
        raise ConnectError(REFUSED)


def _meant(address: _Address) -> tuple[_Address, ...]:
    """The address itself, and those that it leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    inner = (address.ipv4_mapped, address.sixtofour, *(address.teredo or ()))
    translated = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    return (address, *(each for each in (*inner, translated) if each is not None))


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        # Resolvers also take 2852039166, 0xa9fea9fe, 0251.0376.0251.0376 and 169.254.43518.
        return ipaddress.IPv4Address(socket.inet_aton(host.rstrip(".")))
    except (OSError, ValueError):
        return None
