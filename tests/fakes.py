"""Backends for tests: a fake one with a fault switchboard, inside the test's own event loop.

Counts lag behind what a client sees, as a disconnect needs a turn of the loop to arrive: wait for them with `wait_for`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httpx

from load_tester.fake_backend import FakeBackend
from load_tester.fake_stats import Stats

POLL_SECONDS = 0.002

CHAT: dict[str, Any] = {
    "model": "fake-model",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 5,
}
STREAM: dict[str, Any] = {**CHAT, "stream": True}
# A body that is good enough for each path.
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": CHAT,
    "completions": {"prompt": "hello"},
    "embeddings": {"input": "hello"},
    "responses": {"input": "hello"},
    "rerank": {"query": "q", "documents": ["a", "b"]},
    "moderations": {"input": "hello"},
    "images/generations": {"prompt": "hello"},
    "audio/speech": {"input": "hello"},
}


class FakeServer(FakeBackend):
    """A fake backend on a free port of 127.0.0.1 for the length of an `async with`."""

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def wait_for(self, predicate: Callable[[Stats], object], timeout: float = 5.0) -> None:
        """Returns as soon as the statistics satisfy `predicate`; AssertionError after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not predicate(self.stats):
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"not within {timeout} s: {self.stats}") from None


def http_client(fake: FakeServer) -> httpx.AsyncClient:
    """A client that goes straight to the backend, whatever proxy the environment names."""
    return httpx.AsyncClient(base_url=fake.base_url, timeout=5, trust_env=False)


def events_of(text: str) -> list[Any]:
    """The data of each event of a whole stream: decoded JSON, or "[DONE]" as it is."""
    blocks = text.replace("\r\n", "\n").split("\n\n")
    assert blocks.pop() == "", "the stream ends within an event"
    lines = [block.split("\n")[-1].removeprefix("data:").strip() for block in blocks]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
