"""How well every strategy routes: a simulator on the pure core, in virtual time, from a seed.

Answers have heavy-tailed lengths, endpoints differ in speed, a tenth of them fails for a while and comes back. Two
loads: "steady", with so many requests in flight as there are clients, and "crowded", with arrivals by chance at 85 % of
what the fleet bears, every endpoint capped. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from math import inf
from random import Random

from balancer.core.endpoints import Endpoint, Outcome, RouteRequest, Usage
from balancer.core.errors import AllBusy, NoEndpoint
from balancer.core.lease import Lease
from balancer.core.pool import EndpointPool
from balancer.core.strategies import STRATEGIES

_MODEL = "simulated"
# Quota and weight, speed: an endpoint's class is its number modulo four.
_CLASSES = ((4.0, 1.0), (3.0, 0.5), (2.0, 2.0), (1.0, 1.0))
_TOKENS_PER_SECOND = 100.0
_FIRST_TOKEN_SECONDS = 0.2
_REFUSAL_SECONDS = 0.05
_COOLDOWN_SECONDS = 5.0
_MOST_TRIES = 3
_CAP = 4
_CROWDED = 0.85
_PROGRESS_SECONDS = 1.0  # a running stream's tokens are told to the core this often
_BIN_SECONDS = 5.0
_BINS_TO_JUDGE = 3
_CLOSE_ENOUGH = 0.25


@dataclass(slots=True)
class Request:
    """One request on its way."""

    asked: RouteRequest
    prompt_tokens: int
    completion_tokens: int
    arrived_at: float
    tried: set[int] = field(default_factory=set)
    failed: bool = False


@dataclass(slots=True)
class Figures:
    """What came of one run. Times in virtual seconds, shares in percent or points of a percent."""

    tokens: dict[int, float]  # by endpoint, before the failure
    waits: list[float]
    served: int
    lost: int
    turned_away: int
    busy_seconds: float
    elapsed_seconds: float
    reconverged_seconds: float | None


class Simulation:
    """One strategy over one fleet. `clients` in flight at all times, or, when 0, arrivals at `rate` per second."""

    def __init__(self, strategy: str, endpoints: int, requests: int, seed: int, *, crowded: bool) -> None:
        self._rng = Random(seed)
        self._pool = EndpointPool(strategy=strategy, cooldown_seconds=_COOLDOWN_SECONDS, rng=Random(seed))
        self._pool.apply(_endpoint(number, _CAP if crowded else 0) for number in range(endpoints))
        self._requests = requests
        self._clients = 0 if crowded else min(max(32, 2 * endpoints), 1 + requests // 10)
        self._rate = _CROWDED * _capacity(endpoints) if crowded else 0.0
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._arrived = 0
        self._waiting: deque[Request] = deque()
        self._down: frozenset[int] = frozenset()
        self._failing = frozenset(range(0, endpoints, 10)) if endpoints > 1 else frozenset()
        self._rejoined_at = inf
        self._finished: list[tuple[float, int, int]] = []  # when, endpoint, tokens
        self._running: dict[Lease, tuple[Request, float]] = {}  # and when it will have ended
        self._before: dict[int, float] = dict.fromkeys(range(endpoints), 0.0)
        self._waits: list[float] = []
        self._lost = self._turned_away = 0
        self._busy_seconds = 0.0

    def run(self) -> Figures:
        """From the first arrival until everything has ended."""
        if self._clients:
            for _ in range(self._clients):
                self._arrive()
        else:
            self._arrive_by_chance()
        while self._events:
            self._now, _, act = heapq.heappop(self._events)
            act()
        return Figures(
            self._before,
            self._waits,
            len(self._finished),
            self._lost,
            self._turned_away,
            self._busy_seconds,
            self._now,
            self._reconverged(),
        )

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), act))

    # -- arrivals

    def _arrive_by_chance(self) -> None:
        self._arrive()
        if self._arrived < self._requests:
            self._later(self._rng.expovariate(self._rate), self._arrive_by_chance)

    def _arrive(self) -> None:
        if self._arrived >= self._requests:
            return
        self._arrived += 1
        if self._arrived == self._requests // 3:
            self._before = self._passed()
            self._down = self._failing
        elif self._arrived == self._requests // 2:
            self._down, self._rejoined_at = frozenset(), self._now
        prompt = min(int(self._rng.lognormvariate(5.0, 1.0)) + 1, 20_000)
        completion = min(int(40 * self._rng.paretovariate(1.3)), 8_000)
        request = Request(RouteRequest(_MODEL, 4 * prompt, True), prompt, completion, self._now)
        if self._waiting or not self._admit(request):
            self._turned_away += 1
            self._waiting.append(request)

    def _admit(self, request: Request) -> bool:
        try:
            lease = self._pool.acquire(request.asked, self._now, request.tried)
        except AllBusy:
            return False
        except NoEndpoint:
            self._end(request, lost=True)
            return True
        self._waits.append(self._now - request.arrived_at)
        self._begin(request, lease)
        return True

    # -- service

    def _begin(self, request: Request, lease: Lease) -> None:
        eid = lease.endpoint.id
        if eid in self._down:
            self._later(_REFUSAL_SECONDS, lambda: self._refused(request, lease))
            return
        seconds = _FIRST_TOKEN_SECONDS + request.completion_tokens / (_TOKENS_PER_SECOND * _CLASSES[eid % 4][1])
        self._busy_seconds += seconds
        self._later(_FIRST_TOKEN_SECONDS, lambda: lease.committed(self._now))
        ends_at = self._now + seconds
        self._running[lease] = request, ends_at
        if seconds > _PROGRESS_SECONDS:
            self._later(_PROGRESS_SECONDS, lambda: self._progress(request, lease, ends_at))
        self._later(seconds, lambda: self._served(request, lease))

    def _progress(self, request: Request, lease: Lease, ends_at: float) -> None:
        if lease.released:
            return
        lease.progressed(_passed_tokens(request, lease, ends_at, self._now))
        self._later(_PROGRESS_SECONDS, lambda: self._progress(request, lease, ends_at))

    def _refused(self, request: Request, lease: Lease) -> None:
        lease.release(Outcome.FAILED, self._now, error="down")
        request.tried.add(lease.endpoint.id)
        if len(request.tried) >= _MOST_TRIES:
            self._end(request, lost=True)
        elif not self._admit(request):
            self._waiting.appendleft(request)
        self._let_in()

    def _served(self, request: Request, lease: Lease) -> None:
        usage = Usage(request.prompt_tokens, request.completion_tokens)
        lease.release(Outcome.SUCCESS, self._now, usage)
        eid = lease.endpoint.id
        self._finished.append((self._now, eid, usage.total_tokens))
        del self._running[lease]
        self._end(request, lost=False)
        self._let_in()

    def _end(self, request: Request, *, lost: bool) -> None:
        self._lost += lost
        if self._clients:
            self._later(0.0, self._arrive)

    def _let_in(self) -> None:
        while self._waiting and self._admit(self._waiting[0]):
            self._waiting.popleft()

    # -- judging

    def _passed(self) -> dict[int, float]:
        """Tokens that have passed each endpoint until now, those of running answers included."""
        passed = dict.fromkeys(self._before, 0.0)
        for _, eid, tokens in self._finished:
            passed[eid] += tokens
        for lease, (request, ends_at) in self._running.items():
            passed[lease.endpoint.id] += _passed_tokens(request, lease, ends_at, self._now)
        return passed

    def _reconverged(self) -> float | None:
        """Seconds from the return of those that failed until their share is what it was before; None: not seen."""
        total = sum(self._before.values())
        wanted = sum(self._before[eid] for eid in self._failing) / total if total else 0.0
        ended_at = max((at for at, _, _ in self._finished), default=0.0)
        for at, share in self._shares_from(self._rejoined_at, ended_at):
            if wanted and abs(share - wanted) <= _CLOSE_ENOUGH * wanted:
                return at - self._rejoined_at
        return None

    def _shares_from(self, began_at: float, ended_at: float) -> Iterator[tuple[float, float]]:
        """The share of those that failed, in windows that begin ever later."""
        window = _BIN_SECONDS * _BINS_TO_JUDGE
        start = began_at
        while start + window <= ended_at:
            inside = [(eid, tokens) for at, eid, tokens in self._finished if start <= at < start + window]
            total = sum(tokens for _, tokens in inside)
            if total:
                yield start, sum(tokens for eid, tokens in inside if eid in self._failing) / total
            start += _BIN_SECONDS


def _passed_tokens(request: Request, lease: Lease, ends_at: float, now: float) -> float:
    """What a running answer has moved until `now`."""
    done = 1 - (ends_at - now) / (ends_at - lease.acquired_at)
    return request.prompt_tokens + done * request.completion_tokens


def _endpoint(number: int, cap: int) -> Endpoint:
    quota, _ = _CLASSES[number % 4]
    return Endpoint(
        number,
        f"endpoint-{number}",
        f"http://endpoint-{number}/v1",
        connected=True,
        token_quota_percent=quota,
        weight=quota,
        priority_order=1 + number % 4,
        max_concurrent=cap,
        price_per_million_input=quota,
        price_per_million_output=2 * quota,
    )


def _capacity(endpoints: int) -> float:
    """Requests per second that the fleet bears with every endpoint full. The mean answer has about 170 tokens."""
    mean_tokens = 40 * 1.3 / 0.3
    seconds = [_FIRST_TOKEN_SECONDS + mean_tokens / (_TOKENS_PER_SECOND * speed) for _, speed in _CLASSES]
    return sum(_CAP / seconds[number % 4] for number in range(endpoints))


def share_error(strategy: str, figures: Figures) -> float | None:
    """The largest distance of a class's share of tokens from its quota, in points; None where nobody promised one."""
    if STRATEGIES[strategy].share is None or not STRATEGIES[strategy].in_tokens:
        return None
    total = sum(figures.tokens.values())
    if not total:
        return None
    quotas = sum(_CLASSES[eid % 4][0] for eid in figures.tokens)
    errors = []
    for kind in range(min(4, len(figures.tokens))):
        members = [eid for eid in figures.tokens if eid % 4 == kind]
        got = sum(figures.tokens[eid] for eid in members) / total
        errors.append(100 * abs(got - len(members) * _CLASSES[kind][0] / quotas))
    return max(errors)


def _row(strategy: str, endpoints: int, requests: int, seeds: int) -> str:
    steady = [Simulation(strategy, endpoints, requests, seed, crowded=False).run() for seed in range(seeds)]
    crowded = [Simulation(strategy, endpoints, requests, seed, crowded=True).run() for seed in range(seeds)]
    errors = [error for each in steady if (error := share_error(strategy, each)) is not None]
    back = [each.reconverged_seconds for each in steady]
    waits = sorted(wait for each in crowded for wait in each.waits)
    asked = sum(each.served + each.lost for each in crowded)
    used = statistics.fmean(each.busy_seconds / (each.elapsed_seconds * _CAP * endpoints) for each in crowded)
    lost = sum(each.lost for each in (*steady, *crowded)) / sum(each.served + each.lost for each in (*steady, *crowded))
    cells = [
        strategy,
        f"{endpoints:,}",
        f"{statistics.median(errors):.2f} (at most {max(errors):.2f})" if errors else "",
        _seconds(statistics.median([inf if each is None else each for each in back])),
        f"{100 * sum(each.turned_away for each in crowded) / asked:.1f} %",
        f"{statistics.fmean(waits):.2f}",
        f"{waits[len(waits) * 99 // 100]:.2f}",
        f"{100 * used:.0f} %",
        f"{100 * lost:.2f} %",
    ]
    return f"| {' | '.join(cells)} |"


def _seconds(value: float) -> str:
    return "not seen" if value == inf else f"{value:.0f}"


_HEAD = (
    "| strategy | endpoints | share error, points | back in its share after, s | had to wait | mean wait s | "
    "p99 wait s | slots used | lost |\n|---|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    """Simulate and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing", description=__doc__)
    parser.add_argument("--endpoints", default="2,4,16,64", help="sizes of fleets, up to 10000 (default 2,4,16,64)")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="default: all")
    parser.add_argument("--requests", type=int, default=3000, help="of each run (default 3000)")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each, from seed 0 (default 5)")
    arguments = parser.parse_args()
    print(_HEAD)
    for size in map(int, arguments.endpoints.split(",")):
        for strategy in arguments.strategies.split(","):
            print(_row(strategy, size, arguments.requests, arguments.seeds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
