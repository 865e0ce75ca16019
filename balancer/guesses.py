"""Slows down those who guess the admin token: by address, and all together. In memory; forgets by itself."""

from __future__ import annotations

import ipaddress
import logging
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from balancer.core.errors import BalancerError

logger = logging.getLogger("balancer.audit")

_T = TypeVar("_T")

# So many wrong tokens at once, then one more after each pause: 2,900 a day from one address, 29,000 from all.
PER_ADDRESS, ADDRESS_PAUSE_SECONDS = 10, 30.0
IN_TOTAL, TOTAL_PAUSE_SECONDS = 100, 3.0
_MOST_ADDRESSES = 10_000
_MOST_KNOWN = 1_000
# What one subscriber has of IPv6 is a network of this length at least.
_IPV6_PREFIX = 64


class TooManyGuesses(BalancerError):
    """Too many wrong tokens came; this one was not looked at. `wait_seconds` >= 1."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(f"too many wrong admin tokens: try again in {wait_seconds} s")
        self.wait_seconds = wait_seconds


@dataclass(slots=True)
class _Bucket:
    """Wrong guesses that still count: one less after each pause."""

    limit: int
    pause_seconds: float
    level: float = 0.0
    at: float = 0.0

    def wait_seconds(self, now: float) -> float:
        """How long until one more is allowed; 0 when it is."""
        self.level = max(0.0, self.level - max(0.0, now - self.at) / self.pause_seconds)
        self.at = now
        return max(0.0, (self.level - (self.limit - 1)) * self.pause_seconds)


class Guesses:
    """The wrong tokens of late. An address that gave the right one is not held up by what others guess.

    A right token given during a pause is refused too: else the pause would not keep anybody from guessing.
    """

    def __init__(self) -> None:
        self._all = _Bucket(IN_TOTAL, TOTAL_PAUSE_SECONDS)
        self._by_address: OrderedDict[str, _Bucket] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Guesses: {len(self._by_address)} addresses>"

    def judge(self, address: str, right: bool, now: float) -> None:
        """Take note of a token that was compared already. Raises `TooManyGuesses`; then it must not count.

        `now` is any clock that runs on, in seconds.
        """
        origin = origin_of(address)
        bucket = self._by_address.get(origin)
        waits = [bucket.wait_seconds(now)] if bucket is not None else [0.0]
        if origin not in self._known:
            waits.append(self._all.wait_seconds(now))
        if max(waits) > 0:
            raise TooManyGuesses(math.ceil(max(waits)))
        if right:
            _remember(self._known, origin, None, _MOST_KNOWN)
        else:
            self._note_wrong(origin, bucket or _Bucket(PER_ADDRESS, ADDRESS_PAUSE_SECONDS), now)

    def _note_wrong(self, origin: str, bucket: _Bucket, now: float) -> None:
        for each in (bucket, self._all):
            each.wait_seconds(now)
            each.level += 1
        _remember(self._by_address, origin, bucket, _MOST_ADDRESSES)
        pause = bucket.wait_seconds(now) > 0
        fields = {"event": "admin_refused", "address": origin, "paused": pause}
        words = f"; the next is looked at in {bucket.pause_seconds:g} s" if pause else ""
        logger.warning("a wrong admin token came from %s%s", origin, words, extra={"fields": fields})


def _remember(known: OrderedDict[str, _T], key: str, value: _T, most: int) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > most:
        known.popitem(last=False)


def origin_of(address: str) -> str:
    """Whom an address stands for: itself, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "".join(each if each.isprintable() else "?" for each in address[:64]) or "somewhere"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _IPV6_PREFIX), strict=False))
