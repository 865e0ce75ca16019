"""A run as a stream of server-sent events: everything at first, then what is new, once a second, then its end.

Whoever comes later, or comes back after a reload, gets everything at first too: nothing depends on having watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

from load_tester.engine.run import Run
from load_tester.errors import BadInput

INTERVAL_SECONDS = 1.0
MOST_LISTENERS = 64
_STEP_SECONDS = 0.1
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
MEDIA_TYPE = "text/event-stream"


class Live:
    """Counts listeners, and ends their streams when the server stops."""

    def __init__(self) -> None:
        self._listeners = 0
        self._closed = False

    def close(self) -> None:
        """End every stream."""
        self._closed = True

    def admit(self) -> None:
        """Whether one more may listen. Raises BadInput."""
        if self._listeners >= MOST_LISTENERS:
            raise BadInput("", f"{MOST_LISTENERS} streams are open already: close some")

    async def events(self, run: Run) -> AsyncIterator[bytes]:
        """The stream of one run."""
        self._listeners += 1
        try:
            yield event("run", run.result())
            seen = [0] * len(run.cards)
            generations = [card.ledger.series.points_dropped for card in run.cards]
            while run.running and not self._closed:
                yield event("tick", self._tick(run, seen, generations))
                await self._pause(run)
            if not run.running:
                yield event("end", run.result())
        finally:
            self._listeners -= 1

    async def _pause(self, run: Run) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + INTERVAL_SECONDS
        # In small steps, so that the end of a run is told at once. An event for each run would buy nothing.
        while run.running and not self._closed and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_STEP_SECONDS)

    @staticmethod
    def _tick(run: Run, seen: list[int], generations: list[int]) -> dict[str, Any]:
        for place, card in enumerate(run.cards):
            series = card.ledger.series
            if series.points_dropped != generations[place]:
                # Points were joined: the copy of whoever listens is of no use any more.
                seen[place], generations[place] = 0, series.points_dropped
        tick = run.live(seen)
        for place, card in enumerate(tick["cards"]):
            seen[place] += len(card["series"]["rows"])
        return tick


def event(name: str, value: Any) -> bytes:
    """One event."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(value))
