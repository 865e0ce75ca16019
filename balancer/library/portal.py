"""A private event loop in a thread of its own, and the way into it for all other threads."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, ParamSpec, TypeVar

from balancer.loops import new_event_loop

P = ParamSpec("P")
T = TypeVar("T")

# What still runs at the end gets this long to find that its connections are closed; then it is cancelled.
_LAST_SECONDS = 0.5
# At the end of the process nobody waits longer for the thread: it is a daemon and dies with it.
_JOIN_SECONDS = 5.0


class Closed(RuntimeError):
    """Nothing runs here any more."""


class Portal:
    """Runs coroutines for other threads until it is closed, collected as garbage, or the process ends.

    `last_act` runs on the loop at the end; it must not refer to whoever holds the portal, or that is never collected.
    """

    def __init__(self, last_act: Callable[[], Awaitable[None]]) -> None:
        self._loop = new_event_loop()
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._closed = False
        stop = asyncio.Event()
        self._thread = threading.Thread(target=_live, args=(self._loop, stop, last_act), name="balancer", daemon=True)
        self._thread.start()
        # Also at the end of the process: a loop that is torn from its sockets complains.
        self._end = weakref.finalize(self, _stop, self._loop, stop, self._thread, self._process)

    def call(self, work: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` on the loop and wait for its result. An interrupted wait cancels it.

        Raises Closed, and RuntimeError where it would never end: in a forked child, or from the loop's own thread.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("called from the balancer's own thread, as in on_attempt, it would wait for itself")
        if os.getpid() != self._process:
            raise RuntimeError("the balancer was made in another process: make one after the fork")
        with self._lock:  # whatever is submitted before the stop is begun before it
            if self._closed or not self._end.alive:
                raise Closed("the balancer is closed")
            future = asyncio.run_coroutine_threadsafe(work(*args, **kwargs), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise Closed("the balancer was closed meanwhile") from None
        except BaseException:
            future.cancel()
            raise

    def post(self, work: Callable[[], object]) -> None:
        """Let the loop run `work` soon; nothing happens once the portal is closed."""
        with self._lock:
            if not self._closed and self._end.alive:
                self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End the loop and its thread; may be repeated."""
        with self._lock:
            self._closed = True
        self._end()


def _live(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, last_act: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(_until_stopped(stop, last_act))


async def _until_stopped(stop: asyncio.Event, last_act: Callable[[], Awaitable[None]]) -> None:
    await stop.wait()
    await last_act()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=_LAST_SECONDS)


def _stop(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, thread: threading.Thread, process: int) -> None:
    if os.getpid() != process:
        return  # a forked child has the object, but neither the thread nor any business with its sockets
    try:
        loop.call_soon_threadsafe(stop.set)
    except RuntimeError:  # the loop has ended by itself
        return
    if threading.current_thread() is not thread:  # garbage may be collected there too
        thread.join(_JOIN_SECONDS)
