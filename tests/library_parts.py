"""Backends for tests without an event loop of their own: they live on one in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from balancer import AsyncLoadBalancer, Endpoint
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.raw_server import RawServer, Script

DEADLINE_SECONDS = 10.0
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
# Not the process's proxies, and no probes: backends count what a test sends and nothing else.
QUIET: dict[str, Any] = {"environ": {}, "enable_health_check": False}

T = TypeVar("T")


class Backends:
    """An event loop in a thread with servers on it, for the length of a `with`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="backends", daemon=True)
        self._stack = AsyncExitStack()

    def run(self, work: Awaitable[T]) -> T:
        """Wait for `work`, which runs over there."""

        async def awaited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(DEADLINE_SECONDS)

    def fake(self, **behaviour: Any) -> FakeServer:
        """A fake backend; answers are six tokens long unless told otherwise."""
        return self.run(self._stack.enter_async_context(FakeServer(Behaviour(**{"completion_tokens": 6, **behaviour}))))

    def raw(self, *scripts: Script) -> RawServer:
        """A scripted backend."""
        return self.run(self._stack.enter_async_context(RawServer(*scripts)))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def endpoint(fake: FakeServer, **fields: Any) -> Endpoint:
    """An endpoint named as the fake is."""
    return Endpoint(fake.base_url, **{"name": fake.behaviour.name, **fields})


def until(condition: Callable[[], object], what: str = "condition") -> None:
    """Wait until `condition()` holds; fails after a generous deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {DEADLINE_SECONDS} s"
        time.sleep(0.002)


async def served_by(balancer: AsyncLoadBalancer, count: int) -> Counter[str | None]:
    """Which endpoints served so many calls, one after the other; all must have gone well."""
    results = [await balancer.chat(MESSAGES, model="fake-model") for _ in range(count)]
    assert all(result["success"] for result in results), results
    return Counter(result["endpoint"] for result in results)
