"""A stream of states for whoever watches: one snapshot a second, made and serialised once for all of them.

A slow reader gets the newest snapshot when it is ready for one, never a backlog. While nobody watches, nothing runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from starlette.types import Receive, Scope, Send

from balancer.admin.problems import Refused

MOST_LISTENERS = 64
# Changes that follow each other faster than this come as one.
_SHORTEST_SECONDS = 0.1

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Snapshots:
    """The newest snapshot, renewed every `interval_seconds` while somebody listens, and soon after `wake`.

    `take` makes the body of a snapshot, on one line. `number` counts them. `closed`: there will be no more.
    """

    def __init__(self, take: Callable[[], bytes], *, interval_seconds: float) -> None:
        self.newest = b""
        self.number = 0
        self.closed = False
        self._take = take
        self._interval_seconds = interval_seconds
        self._listeners = 0
        self._renewed: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._made_at = 0.0

    def __repr__(self) -> str:
        return f"<Snapshots: {self._listeners} listeners{', closed' if self.closed else ''}>"

    def admit(self) -> None:
        """Whether one more may listen. Raises Refused."""
        if self.closed:
            raise Refused(503, "the balancer is shutting down")
        if self._listeners >= MOST_LISTENERS:
            raise Refused(503, f"{MOST_LISTENERS} streams are open already: close some", {"retry-after": "5"})

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Snapshots keep coming for the length of the block; the first is there at once."""
        self._listeners += 1
        if self._timer is None and not self.closed:
            self._renew()
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._rest()

    def renewed(self) -> asyncio.Future[None]:
        """Done when there is a newer snapshot, or none will come."""
        if self._renewed is None:
            self._renewed = asyncio.get_running_loop().create_future()
        return self._renewed

    def wake(self) -> None:
        """Something changed that should be seen before the second is over."""
        if self._timer is None:
            return
        loop = asyncio.get_running_loop()
        due_at = max(loop.time(), self._made_at + _SHORTEST_SECONDS)
        if due_at < self._timer.when():
            self._timer.cancel()
            self._timer = loop.call_at(due_at, self._renew)

    def close(self) -> None:
        """Make no more; streams end."""
        self.closed = True
        self._rest()
        self._tell()

    def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        self._made_at = loop.time()
        self._timer = loop.call_later(self._interval_seconds, self._renew)
        self.newest = self._take()
        self.number += 1
        self._tell()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        renewed, self._renewed = self._renewed, None
        if renewed is not None:
            renewed.set_result(None)


class EventStream:
    """An ASGI response: a `state` event for each snapshot, until the client leaves, `expired`, or there are no more.

    A reader that takes nothing for `write_timeout_seconds` is not there any more.
    """

    def __init__(
        self, snapshots: Snapshots, expired: Callable[[], bool], *, write_timeout_seconds: float = 30.0
    ) -> None:
        self._snapshots = snapshots
        self._expired = expired
        self._write_timeout_seconds = write_timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._snapshots.listening():
            gone = asyncio.create_task(_disconnected(receive))
            # Returning before the end of the answer makes the server close the connection.
            try:
                with suppress(OSError):
                    await self._stream(gone, send)
            finally:
                gone.cancel()

    async def _stream(self, gone: asyncio.Task[None], send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        # Proves the stream open to whoever waits for a first byte.
        await self._write(send, b": one state a second\n\n")
        snapshots, seen = self._snapshots, 0
        while not (gone.done() or snapshots.closed or self._expired()):
            if snapshots.number == seen:
                await asyncio.wait((gone, snapshots.renewed()), return_when=asyncio.FIRST_COMPLETED)
                continue
            seen = snapshots.number
            await self._write(send, b"event: state\ndata: %b\n\n" % snapshots.newest)
        if not gone.done():
            await self._write(send, b"event: end\ndata: {}\n\n", more=False)

    async def _write(self, send: Send, body: bytes, *, more: bool = True) -> None:
        async with asyncio.timeout(self._write_timeout_seconds):
            await send({"type": "http.response.body", "body": body, "more_body": more})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
