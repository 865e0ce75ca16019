"""How long one decision takes: choosing among 1 to 1,000 endpoints, counting the request in and out again.

On the decision core alone, without a loop or a socket. Prints a Markdown table, microseconds by strategy and size of
fleet: the median of the rounds and the fastest. In "busy", 32 requests are in flight all the time and every endpoint
has a cap.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import deque

from balancer.core.endpoints import Endpoint, Outcome, RouteRequest, Usage
from balancer.core.lease import Lease
from balancer.core.pool import EndpointPool
from balancer.core.strategies import STRATEGIES

_ASKED = RouteRequest("model", 300, True)
_USED = Usage(75, 200)
_ROUND_SECONDS = 0.1
_IN_FLIGHT = 32


class Fleet:
    """A pool of `size` equal endpoints and the requests in flight through it."""

    def __init__(self, strategy: str, size: int, *, busy: bool) -> None:
        self._pool = EndpointPool(strategy=strategy)
        self._pool.apply(_endpoint(number, 2 * _IN_FLIGHT if busy else 0) for number in range(size))
        self._now = 0.0
        self._leases: deque[Lease] = deque()
        for _ in range(_IN_FLIGHT if busy else 0):
            self._leases.append(self._pool.acquire(_ASKED, self._now))

    def pass_one(self) -> None:
        """One request in, the oldest one out."""
        self._now += 0.001
        self._leases.append(self._pool.acquire(_ASKED, self._now))
        lease = self._leases.popleft()
        lease.committed(self._now)
        lease.release(Outcome.SUCCESS, self._now, _USED)


def _endpoint(number: int, cap: int) -> Endpoint:
    return Endpoint(
        number,
        f"endpoint-{number}",
        f"http://endpoint-{number}/v1",
        connected=True,
        token_quota_percent=1 + number % 7,
        max_concurrent=cap,
        price_per_million_input=1.0,
    )


def microseconds(strategy: str, size: int, rounds: int, *, busy: bool) -> list[float]:
    """What one request costs the core, in each round."""
    fleet = Fleet(strategy, size, busy=busy)
    return [_round(fleet) for _ in range(rounds)]


def _round(fleet: Fleet) -> float:
    begun, passed = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < _ROUND_SECONDS:
        for _ in range(100):
            fleet.pass_one()
        passed += 100
    return 1e6 * elapsed / passed


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choice", description=__doc__)
    parser.add_argument("--endpoints", default="1,4,64,1000", help="sizes of fleets (default 1,4,64,1000)")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="default: all")
    parser.add_argument("--rounds", type=int, default=7, help="of 0.1 s each (default 7)")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.endpoints.split(",")]
    heads = [f"{size:,}{' busy' if busy else ''}" for size in sizes for busy in (False, True)]
    print(f"| strategy | {' | '.join(heads)} |\n|---{'|---:' * len(heads)}|")
    for strategy in arguments.strategies.split(","):
        cells = []
        for size in sizes:
            for busy in (False, True):
                found = microseconds(strategy, size, arguments.rounds, busy=busy)
                cells.append(f"{statistics.median(found):.1f} ({min(found):.1f})")
        print(f"| {strategy} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
