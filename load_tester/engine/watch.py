"""Watches the load tester itself: how late its event loop is, and how much of a core it uses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from load_tester.measures.samples import Samples

_LAG_INTERVAL_SECONDS = 0.02
TICK_SECONDS = 0.1


class Watch:
    """Measures from `start` to `stop`; calls `tick` ten times a second."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self.lag = Samples()
        self._tick = tick
        self._lag_timer: asyncio.TimerHandle | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._began_at = self._cpu_at_start = self._seconds = self._cpu_seconds = 0.0
        self._running = False

    def start(self) -> None:
        """From now on."""
        self._running = True
        self._began_at, self._cpu_at_start = time.perf_counter(), time.process_time()
        self._wait()
        self._on_tick()

    def stop(self) -> None:
        """Until now."""
        if not self._running:
            return
        self._running = False
        self._measure()
        for timer in (self._lag_timer, self._tick_timer):
            if timer is not None:
                timer.cancel()

    @property
    def lag_p99_ms(self) -> float | None:
        """How late timers were; None without a measurement."""
        return self.lag.percentile(99)

    @property
    def cpu_percent(self) -> float | None:
        """Share of one core that this process used."""
        if self._running:
            self._measure()
        return 100 * self._cpu_seconds / self._seconds if self._seconds > 0 else None

    def as_json(self) -> dict[str, Any]:
        """Both figures."""
        return {"loop_lag": self.lag.distribution(), "cpu_percent": self.cpu_percent}

    def _measure(self) -> None:
        self._seconds = time.perf_counter() - self._began_at
        self._cpu_seconds = time.process_time() - self._cpu_at_start

    def _wait(self) -> None:
        self._due_at = time.perf_counter() + _LAG_INTERVAL_SECONDS
        self._lag_timer = asyncio.get_running_loop().call_later(_LAG_INTERVAL_SECONDS, self._on_time)

    def _on_time(self) -> None:
        self.lag.add(max(0.0, time.perf_counter() - self._due_at) * 1e9)
        self._wait()

    def _on_tick(self) -> None:
        self._tick()
        self._tick_timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._on_tick)
