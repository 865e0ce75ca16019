"""Discovery: asks the hosts an operator named whether they serve models, and makes endpoints of those that do.

It only ever adds. What it found and is gone again is down by its probes, what an operator deleted stays deleted until
the process is started anew, and what stands behind an address already is left as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from balancer.core.endpoints import Endpoint
from balancer.core.errors import BalancerError, ConnectError
from balancer.core.pool import EndpointPool
from balancer.store import CreateEndpoint
from balancer.upstream.control import ControlClient
from balancer.upstream.targets import Proxies, target_of

logger = logging.getLogger("balancer.discovery")

# Addresses that hang hold up the others only when they are as many.
MOST_AT_ONCE = 32
_FIRST_POSITION = (500.0, 200.0)
# Below each other on the canvas.
_STEP = 140.0


class Address(NamedTuple):
    """A host and a port, as an operator named them."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """host:port, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """Where it would serve models."""
        return f"http://{self.name}/v1"


def addresses(hosts: Sequence[tuple[str, int | None]], ports: Sequence[int]) -> tuple[Address, ...]:
    """A host with a port is taken as it is, one without is combined with each of `ports`; each address once."""
    pairs = ((host, number) for host, port in hosts for number in (ports if port is None else (port,)))
    return tuple(dict.fromkeys(Address(host, port) for host, port in pairs))


class Discovery:
    """Scans `named` every `interval_seconds` between `start` and `stop`, and has `create` make an endpoint of a find.

    `create` commits one endpoint as one revision; what it raises of BalancerError leaves the find to the next scan.
    `max_concurrent` holds caps of single addresses, the others have `default_max_concurrent`. `connect`: finds take
    traffic at once. `timeout_seconds` becomes the endpoints' timeout.
    """

    def __init__(
        self,
        pool: EndpointPool,
        control: ControlClient,
        named: Sequence[Address],
        create: Callable[[CreateEndpoint], Awaitable[object]],
        *,
        interval_seconds: float = 60.0,
        max_concurrent: Mapping[tuple[str, int | None], int] | None = None,
        default_max_concurrent: int = 0,
        connect: bool = False,
        timeout_seconds: float = 120.0,
        most_at_once: int = MOST_AT_ONCE,
    ) -> None:
        self._pool = pool
        self._control = control
        self._named = {address: _place(address.base_url) for address in named}
        self._create = create
        self._interval_seconds = interval_seconds
        self._max_concurrent = max_concurrent or {}
        self._default_max_concurrent = default_max_concurrent
        self._connect = connect
        self._timeout_seconds = timeout_seconds
        self._most_at_once = most_at_once
        self._urls: set[str] = set()  # base URLs of all endpoints there ever were in this process
        self._taken: set[object] = set()  # the places they stand for
        self._trouble: dict[Address, str] = {}  # what was logged last about those that are none
        self._turn = asyncio.Lock()  # names and places on the canvas depend on those who came before
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        found = sum(place in self._taken for place in self._named.values())
        return f"<Discovery: {len(self._named)} addresses, {found} endpoints>"

    def start(self) -> None:
        """Begin to scan. For a running event loop."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(_report)

    async def stop(self) -> None:
        """Scan no more; returns when nothing is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def scan(self) -> None:
        """Ask every named address that is no endpoint yet; a find becomes one at once, whatever the others do."""
        waiting = iter(self._named)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._most_at_once, len(self._named))):
                group.create_task(self._ask_each(waiting))

    async def _run(self) -> None:
        while True:
            await self.scan()
            await asyncio.sleep(self._interval_seconds)

    async def _ask_each(self, waiting: Iterator[Address]) -> None:
        for address in waiting:
            if self._is_taken(address):
                continue
            answer = await self._control.models(Endpoint(0, address.name, address.base_url))
            if answer.ok:
                async with self._turn:
                    await self._add(address, answer.reason)
            else:
                self._tell(logging.INFO, address, f"nothing to add at {address.name}: {answer.reason}")

    def _is_taken(self, address: Address) -> bool:
        """Whether an endpoint stands there, or did in this process."""
        for state in self._pool.states.values():
            if state.endpoint.base_url not in self._urls:
                self._urls.add(state.endpoint.base_url)
                self._taken.add(_place(state.endpoint.base_url))
        return self._named[address] in self._taken

    async def _add(self, address: Address, reason: str) -> None:
        if self._is_taken(address):
            return  # somebody was faster
        try:
            await self._create(CreateEndpoint(self._fields(address)))
        except BalancerError as error:
            self._tell(logging.WARNING, address, f"found {address.name}, but could not add it: {error}")
            return
        self._taken.add(self._named[address])
        self._trouble.pop(address, None)
        logger.info("found %s: %s", address.name, reason)

    def _tell(self, level: int, address: Address, words: str) -> None:
        """Log what is new about an address; it is asked again and again."""
        if self._trouble.get(address) != words:
            self._trouble[address] = words
            logger.log(level, "%s", words)

    def _fields(self, address: Address) -> dict[str, object]:
        x, y = _FIRST_POSITION
        return {
            "name": self._free_name(address.name),
            "base_url": address.base_url,
            "timeout": self._timeout_seconds,
            "max_concurrent": self._max_concurrent.get(address, self._default_max_concurrent),
            "connected": self._connect,
            "discovered": True,
            "pos_x": x,
            "pos_y": y + _STEP * len(self._pool.states),
        }

    def _free_name(self, name: str) -> str:
        """`name`, or with a number where another endpoint was given it."""
        taken = {state.endpoint.name for state in self._pool.states.values()}
        numbered = (f"{name} ({number})" for number in range(2, len(taken) + 3))
        return name if name not in taken else next(each for each in numbered if each not in taken)


def _report(scans: asyncio.Task[None]) -> None:
    """A mistake of ours must not end the scans unheard."""
    if not scans.cancelled() and (error := scans.exception()) is not None:
        logger.error("scanning has ended", exc_info=error)


def _place(base_url: str) -> object:
    """What makes two base URLs the same, however they are written."""
    try:
        target = target_of(base_url, Proxies({}))
    except ConnectError:
        return base_url
    return target.tls, target.host, target.port, target.path
