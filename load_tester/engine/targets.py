"""Where load may go: names are resolved once, checked, and pinned to one address. Guards against request forgery.

Whoever can use the load tester makes it connect; so what only this machine's own network may reach (metadata of cloud
machines, link-local neighbours) is never a target, whatever name leads there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from balancer.core.errors import ConnectError
from balancer.upstream.targets import Proxies, Target, target_of
from load_tester.errors import BadInput, ForbiddenTarget

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_TRY_SECONDS = 3.0
# Where clouds keep the credentials of their machines outside link-local addresses: AWS, Alibaba, Oracle, Azure.
_METADATA = tuple(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class TargetRules:
    """`rewrites`: connect there instead, by typed host and port. `allowed`: names and networks; empty allows all."""

    rewrites: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    allowed: Sequence[str | Network] = ()


def forbidden(address: Address) -> str:
    """Why that address is no target; "" for one that may be."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return forbidden(inner)
    if address.is_loopback:
        return ""  # of which ::1 counts as reserved, too
    if address in _METADATA:
        return "is the address of a cloud's metadata"
    if address.is_link_local:
        return "is link-local, where clouds keep their metadata"
    if address.is_multicast:
        return "is a multicast address"
    if address.is_unspecified:
        return "means no host; 127.0.0.1 is this machine"
    if address.is_reserved or address == IPv4Address("255.255.255.255"):
        return "is a reserved address"
    return ""


async def pin(url: str, rules: TargetRules, place: str = "card.url") -> Target:
    """The target of a base URL, bound to one address from now on. Raises ForbiddenTarget or BadInput."""
    try:
        target = target_of(url, Proxies({}))
    except ConnectError as error:
        raise BadInput(place, str(error).removeprefix("base_url: ")) from None
    host, port = rules.rewrites.get((target.host.lower(), target.port), (target.host, target.port))
    addresses = await _resolve(host, port, place)
    for address in addresses:
        if reason := forbidden(address):
            raise ForbiddenTarget(place, f"{host} leads to {address}, which {reason}: no load is sent there")
    if rules.allowed and not _is_allowed(target.host, addresses, rules.allowed):
        raise ForbiddenTarget(place, f"{target.host} is not among the targets that LT_ALLOW_HOSTS names")
    return replace(target, connect_to=(await _first_reachable(addresses, port), port))


async def _resolve(host: str, port: int, place: str) -> list[Address]:
    with contextlib.suppress(ValueError):
        return [ipaddress.ip_address(host.partition("%")[0])]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise BadInput(place, f"the name {host} is not known here: check its spelling, or use an address") from None
    return list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


def _is_allowed(host: str, addresses: Sequence[Address], allowed: Sequence[str | Network]) -> bool:
    for entry in allowed:
        if isinstance(entry, str):
            if host.lower() == entry:
                return True
        elif all(address in entry for address in addresses):
            return True
    return False


async def _first_reachable(addresses: Sequence[Address], port: int) -> str:
    """The first address that takes a connection: a name such as localhost may have one that nobody listens on."""
    if len(addresses) > 1:
        for address in addresses:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_TRY_SECONDS):
                    _, writer = await asyncio.open_connection(str(address), port)
                writer.close()
                return str(address)
    return str(addresses[0])
