"""The lead: the one worker that writes the database, probes, and knows the whole.

Followers connect to it. It tells them what is configured and found out, and counts what they did.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from balancer.auth import ClientTokens
from balancer.core.pool import EndpointPool
from balancer.core.state import EndpointState
from balancer.dispatch.dispatcher import Dispatcher
from balancer.health import Health
from balancer.traffic import Traffic
from balancer.wire.stored_responses import StoredResponses
from balancer.workers.agreement import Agreement
from balancer.workers.figures import WholeBudget
from balancer.workers.messages import endpoint_row, pack, receive, token_row
from balancer.workers.numbers import WorkerNumbers
from balancer.workers.replay import Replay
from balancer.workers.seam import Message

logger = logging.getLogger("balancer.workers")

# A follower that takes nothing for so long a backlog is told everything anew when it is back.
_MOST_UNREAD_BYTES = 32 << 20
# At the end followers get this long to hand in what they counted last.
_LAST_SECONDS = 3.0


class Lead:
    """Tells followers, and hears them, between `start` and `close`.

    `listener` is the Unix socket they connect to; it is kept open by the supervisor, so that they wait there while a
    lead is replaced.
    """

    def __init__(
        self,
        listener: socket.socket,
        numbers: WorkerNumbers,
        *,
        dispatcher: Dispatcher,
        health: Health,
        traffic: Traffic,
        tokens: ClientTokens,
        stored_responses: StoredResponses,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        self._numbers = numbers
        self._dispatcher = dispatcher
        self._pool: EndpointPool = dispatcher.pool
        self._health = health
        self._tokens = tokens
        self._clock = clock
        self._replay = Replay(self._pool, traffic, tokens)
        self._agreement = Agreement(self._pool, stored_responses, self, clock)
        self._followers: dict[asyncio.StreamWriter, int] = {}
        self._told_configuration = b""
        self._server: asyncio.Server | None = None
        self._alone = asyncio.Event()
        self._alone.set()
        dispatcher.retry_figures = WholeBudget(dispatcher.budget, numbers)

    def __repr__(self) -> str:
        return f"<Lead of {len(self._followers)} connected followers>"

    async def start(self) -> None:
        """Begin to listen; everything a follower is told must be known."""
        self._dispatcher.cut_elsewhere = self._cut
        self._pool.forgiven = lambda: self.tell(["forgive"])
        self._tokens.on_change = lambda: self.tell(self._token_message())
        self._health.on_verdict = lambda state: self.tell(["health", [_health_row(state)]])
        self._server = await asyncio.start_unix_server(self._serve, sock=self._listener)

    async def close(self) -> None:
        """Hear what followers still have to say as they go, then end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._alone.wait(), _LAST_SECONDS)
        if self._server is not None:
            self._server.close()
        for writer in self._followers:
            writer.close()

    @property
    def busy(self) -> bool:
        """Whether followers are still there."""
        return self._numbers.table.alive > 1

    def tell(self, message: Message, *, but: asyncio.StreamWriter | None = None) -> None:
        """Send to all followers, or all `but` one."""
        self._send(pack(message), but)

    def configured(self) -> None:
        """Tell what the pool routes by now, where that is new."""
        frame = pack(self._configuration_message())
        if frame != self._told_configuration:
            self._told_configuration = frame
            self._send(frame)
            self.tell(self._health_message())

    def _send(self, frame: bytes, but: asyncio.StreamWriter | None = None) -> None:
        for writer in self._followers:
            if writer is but:
                continue
            if writer.transport.get_write_buffer_size() > _MOST_UNREAD_BYTES:
                writer.transport.abort()
            writer.write(frame)

    def _cut(self, endpoint_id: int) -> int:
        state = self._pool.find(endpoint_id)
        elsewhere = 0 if state is None else self._numbers.endpoint(endpoint_id).elsewhere()
        self.tell(["cut", endpoint_id])
        return elsewhere

    # -- what followers are told when they come --------------------------------------------------------------------

    def _everything(self) -> Iterator[Message]:
        yield self._configuration_message()
        yield self._token_message()
        yield self._health_message()
        yield from self._agreement.everything()
        yield ["all"]

    def _configuration_message(self) -> Message:
        rows = [endpoint_row(state.endpoint) for state in self._pool.states.values()]
        return ["configuration", self._pool.strategy.name, rows]

    def _token_message(self) -> Message:
        rows = [token_row(digest, token) for digest, token in self._tokens.stored()]
        return ["tokens", rows, self._tokens.rows_exist]

    def _health_message(self) -> Message:
        return ["health", [_health_row(state) for state in self._pool.states.values() if _is_known(state)]]

    # -- what followers say ----------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hello = await receive(reader)
            if hello is None:
                return
            for message in self._everything():
                writer.write(pack(message))
            self._followers[writer] = hello[1]
            self._alone.clear()
            while (message := await receive(reader)) is not None:
                self._hear(message, writer)
        except Exception:
            logger.exception("worker %s said something that cannot be used", self._followers.get(writer, "?"))
        finally:
            self._followers.pop(writer, None)
            if not self._followers:
                self._alone.set()
            writer.close()

    def _hear(self, message: Message, writer: asyncio.StreamWriter) -> None:
        match message:
            case ["counts", now, passed, finished]:
                for endpoint_id, tokens in passed:
                    self._replay.passed(endpoint_id, tokens, now)
                for row in finished:
                    self._replay.finished(row)
            case ["miss", model, endpoint_id]:
                self._dispatcher.model_missed(model, endpoint_id)
            case _ if self._agreement.hear(message):
                self.tell(message, but=writer)


def _is_known(state: EndpointState) -> bool:
    """Whether probes have said something, or say nothing ever; else the followers may know more than a new lead."""
    return state.vitals is None or state.vitals.last is not None


def _health_row(state: EndpointState) -> list[object]:
    models = state.discovered_models
    return [state.endpoint.id, state.healthy, None if models is None else sorted(models)]
