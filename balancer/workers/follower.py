"""A follower: a worker that serves the data plane, and is told by the lead all that it needs to know for that."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from balancer.auth import ClientTokens
from balancer.core.errors import BalancerError
from balancer.core.pool import EndpointPool
from balancer.dispatch.dispatcher import Dispatcher
from balancer.proxy.reception import Reception
from balancer.wire.stored_responses import StoredResponses
from balancer.workers.agreement import Agreement
from balancer.workers.figures import publish_budget, publish_clients
from balancer.workers.messages import endpoint_of, pack, receive, token_of
from balancer.workers.numbers import WorkerNumbers
from balancer.workers.outbox import Outbox
from balancer.workers.seam import Message

logger = logging.getLogger("balancer.workers")

# What was counted is told this often while there is something to tell.
_BATCH_SECONDS = 0.1
_FIGURES_SECONDS = 1.0
_AGAIN_SECONDS = 0.05
# With more unread by the lead, the rest waits in the outbox, which is bounded.
_MOST_UNREAD_BYTES = 4 << 20
# At the end the lead gets this long to take what was counted last.
_LAST_SECONDS = 3.0


class SupervisorGone(BalancerError):
    """Nobody holds the workers together any more."""


class Follower:
    """Keeps the connection to the lead, whose Unix socket is at `path`, between `start` and `close`.

    `outbox` takes what requests tell.
    """

    def __init__(
        self,
        path: str,
        numbers: WorkerNumbers,
        *,
        dispatcher: Dispatcher,
        tokens: ClientTokens,
        stored_responses: StoredResponses,
        reception: Reception,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._numbers = numbers
        self._dispatcher = dispatcher
        self._pool: EndpointPool = dispatcher.pool
        self._tokens = tokens
        self._reception = reception
        self._clock = clock
        self._agreement = Agreement(self._pool, stored_responses, self, clock)
        self.outbox = Outbox(self.flush_soon)
        self._told_lost = 0
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._figures_timer: asyncio.TimerHandle | None = None
        self._knows_all = asyncio.Event()
        self._closing = False
        dispatcher.on_model_miss = lambda model, endpoint_id: self.tell(["miss", model, endpoint_id])

    def __repr__(self) -> str:
        return f"<Follower {self._numbers.worker}{'' if self.connected else ' without a lead'}: {self.outbox!r}>"

    @property
    def connected(self) -> bool:
        """Whether the lead is there."""
        return self._writer is not None

    async def start(self) -> None:
        """Returns when everything is known that requests need. Raises SupervisorGone."""
        self._task = asyncio.create_task(self._run(), name="link to the lead")
        knowing = asyncio.create_task(self._knows_all.wait())
        await asyncio.wait((self._task, knowing), return_when=asyncio.FIRST_COMPLETED)
        knowing.cancel()
        if self._task.done():
            self._task.result()
        self._publish_figures()

    async def close(self) -> None:
        """Hand in what was counted, as long as the lead takes it, then end."""
        self._closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                while self.outbox and self._task is not None and not self._task.done():
                    self.flush()
                    await asyncio.sleep(_AGAIN_SECONDS if self.outbox else 0)
                if self._writer is not None:
                    self._writer.close()
                    await self._writer.wait_closed()
        for timer in (self._timer, self._figures_timer):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.outbox:
            logger.error("%d requests that were counted last are lost: the lead did not take them", len(self.outbox))

    def tell(self, message: Message) -> None:
        """Send at once; without a lead nothing is sent, and `hello` tells it then."""
        if self._writer is not None:
            self._writer.write(pack(message))

    def flush_soon(self) -> None:
        """Hand in soon what was counted."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_BATCH_SECONDS, self._on_timer)

    def flush(self) -> None:
        """Hand in what was counted, as far as the lead takes it."""
        writer = self._writer
        while writer is not None and writer.transport.get_write_buffer_size() < _MOST_UNREAD_BYTES:
            message = self.outbox.take(self._clock())
            if message is None:
                break
            writer.write(pack(message))

    def _publish_figures(self) -> None:
        """What is only looked at, and so may be a second old."""
        self._figures_timer = asyncio.get_running_loop().call_later(_FIGURES_SECONDS, self._publish_figures)
        publish_budget(self._dispatcher.budget, self._numbers)
        publish_clients(self._reception, self._numbers)

    def _on_timer(self) -> None:
        self._timer = None
        self.flush()
        if self.outbox and self._writer is not None:
            self.flush_soon()

    # -- the connection --------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._closing:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except ConnectionRefusedError:
                # The supervisor holds the socket open as long as it lives.
                raise SupervisorGone("the supervisor is gone") from None
            except OSError:
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            try:
                await self._follow(reader, writer)
            except Exception:
                logger.exception("the lead said something that cannot be used")
            finally:
                self._writer = None
                writer.close()
            if not self._closing:
                logger.warning("the lead is gone: what is counted waits for its successor")
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear all from a lead that may still have to start; only when it has told everything it is there."""
        writer.write(pack(["hello", self._numbers.worker]))
        while (message := await receive(reader)) is not None:
            if message == ["all"]:
                self._writer = writer
                self._hand_in()
                self._knows_all.set()
            else:
                self._hear(message)

    def _hand_in(self) -> None:
        """Tell a new lead what its predecessor knew, and what nobody was there to count."""
        for message in self._agreement.everything():
            self.tell(message)
        if self.outbox.lost > self._told_lost:
            logger.error("%d requests were not counted: too many without a lead", self.outbox.lost - self._told_lost)
            self._told_lost = self.outbox.lost
        self.flush()
        if self.outbox:
            self.flush_soon()

    def _hear(self, message: Message) -> None:
        match message:
            case ["configuration", mode, rows]:
                self._configure(mode, rows)
            case ["tokens", rows, rows_exist]:
                self._tokens.replace([token_of(row) for row in rows], rows_exist=rows_exist)
            case ["health", rows]:
                self._learn(rows)
            case ["cut", endpoint_id]:
                self._dispatcher.cut(endpoint_id)
            case ["forgive"]:
                self._pool.start_afresh(self._clock())
            case _:
                self._agreement.hear(message)

    def _configure(self, mode: str, rows: list[dict[str, Any]]) -> None:
        endpoints = [endpoint_of(row) for row in rows]
        gone = self._pool.states.keys() - {endpoint.id for endpoint in endpoints}
        self._pool.apply(endpoints, mode)
        for endpoint_id in gone:
            self._dispatcher.connections.forget(endpoint_id)

    def _learn(self, rows: list[list[Any]]) -> None:
        """Take over what the lead's probes say."""
        for endpoint_id, healthy, models in rows:
            state = self._pool.states.get(endpoint_id)
            if state is not None:
                state.healthy = healthy
                state.discovered_models = None if models is None else frozenset(models)
        self._pool.candidates_changed()
