"""When requests leave: users of a closed loop, or the schedule of an open one. One pacer serves one card."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from load_tester.engine.ledger import Ledger
from load_tester.engine.outlet import Outlet
from load_tester.measures.records import NANOSECONDS, Failure
from load_tester.plan.arrivals import Piece, course_seconds, level_at
from load_tester.plan.loads import Load, course, due_times, in_flight_limit, is_closed

# A level that changes is set this often.
_RAMP_STEP_SECONDS = 0.05
# Loops round timers to this; a shorter wait would be none and burn the core.
_SHORTEST_PAUSE_SECONDS = 0.001
# So many requests may leave without a look at what has come back.
_BURST = 32
# What is due beyond these counts as planned and never sent: waiting for ever must not fill the memory.
_MOST_WAITING = 100_000
# Of what a late load tester did not even try no more are counted.
_MOST_MISSED = 1_000_000
# A user whose request could not even be sent waits, twice as long each time: a closed port is not to be hammered.
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


class Pacer:
    """Drives an outlet by a load. `follow` returns when the load is over or somebody interrupts it.

    `most_in_flight` holds where the load sets no limit of its own. `problem`: a fault of the load tester itself, which
    ends everything.
    """

    def __init__(self, outlet: Outlet, ledger: Ledger, most_in_flight: int) -> None:
        self.problem: BaseException | None = None
        self._outlet = outlet
        self._ledger = ledger
        self._tasks: set[asyncio.Task[None]] = set()
        self._users: dict[int, asyncio.Task[None]] = {}
        self._wanted_users = 0
        self._backlog: deque[tuple[int, int]] = deque()
        self._most_in_flight = most_in_flight
        self._limit = most_in_flight
        self._interrupted = False
        self._closed = self._complete = False
        self._sleeper: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> int:
        """Requests that are due and wait for room."""
        return len(self._backlog)

    @property
    def busy(self) -> bool:
        """Whether anything is under way or waits."""
        return bool(self._tasks or self._backlog)

    async def follow(self, load: Load, seed: int) -> bool:
        """Send by that load; True when it came to its own end, False when it was interrupted."""
        self._interrupted = self._closed
        self._limit = in_flight_limit(load) or self._most_in_flight
        if is_closed(load):
            return await self._hold_users(course(load))
        self._set_users(0)
        return await self._keep_schedule(load, seed)

    def interrupt(self) -> None:
        """Make `follow` return."""
        self._interrupted = True
        self._wake()

    def rest(self, *, keep_backlog: bool = False) -> None:
        """Begin nothing new; what waits for room is dropped unless it is to be kept."""
        self._set_users(0)
        if not keep_backlog:
            self._backlog.clear()
        self.interrupt()
        self._settle()

    def close(self, *, keep_backlog: bool = False) -> None:
        """The same, for good. `keep_backlog`: all that was to be sent has been claimed."""
        self._closed, self._complete = True, keep_backlog
        self.rest(keep_backlog=keep_backlog)

    async def idle(self, seconds: float = math.inf) -> bool:
        """Wait until nothing is under way; False when that took too long."""
        if not self.busy:
            return True
        self._idle = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await self._idle
        except TimeoutError:
            return False
        finally:
            self._idle = None
        return True

    async def cut(self) -> None:
        """Cancel what is under way."""
        self._backlog.clear()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- closed loop

    async def _hold_users(self, pieces: Sequence[Piece]) -> bool:
        begun_at, length = time.perf_counter(), course_seconds(pieces)
        steady_from = sum(piece.seconds for piece in pieces if not math.isinf(piece.seconds))
        while not self._interrupted:
            passed = time.perf_counter() - begun_at
            if passed >= length:
                self._set_users(0)
                return True
            self._set_users(math.floor(level_at(pieces, passed) + 0.5))
            left = length - passed
            await self._pause(_RAMP_STEP_SECONDS if passed < steady_from else left)
        return False

    def _set_users(self, count: int) -> None:
        self._wanted_users = count
        for index in range(count):
            user = self._users.get(index)
            if user is None or user.done():
                self._users[index] = self._spawn(self._be_user(index))

    async def _be_user(self, index: int) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        try:
            while index < self._wanted_users and (number := self._outlet.claim()) is not None:
                record = await self._outlet.send(number, 0)
                if record.status or record.failure is Failure.TIMEOUT_FIRST_BYTE:
                    pause_seconds = _FIRST_PAUSE_SECONDS
                else:
                    await asyncio.sleep(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
        finally:
            self._users.pop(index, None)

    # -- open loop

    async def _keep_schedule(self, load: Load, seed: int) -> bool:
        begun_ns, burst = time.perf_counter_ns(), 0
        schedule = due_times(load, seed)
        for due in schedule:
            due_ns = begun_ns + round(due * NANOSECONDS)
            while (left_ns := due_ns - time.perf_counter_ns()) > 0 and not self._interrupted:
                await self._pause(left_ns / NANOSECONDS)
                burst = 0
            burst += 1
            if burst >= _BURST:
                await asyncio.sleep(0)
                burst = 0
            if self._interrupted:
                self._note_missed(begun_ns, itertools.chain((due,), schedule))
                return False
            if (number := self._outlet.claim()) is None:
                return False
            self._ledger.note_planned()
            if len(self._backlog) < _MOST_WAITING:
                self._backlog.append((number, due_ns))
            self._launch_what_fits()
        remaining = begun_ns / NANOSECONDS + course_seconds(course(load)) - time.perf_counter()
        while remaining > 0 and not self._interrupted:
            await self._pause(remaining)
            remaining = begun_ns / NANOSECONDS + course_seconds(course(load)) - time.perf_counter()
        return not self._interrupted

    def _note_missed(self, begun_ns: int, schedule: Iterable[float]) -> None:
        """What was due by now, unless the number of requests is what ended it: then none is missing."""
        if self._complete:
            return
        now_ns = time.perf_counter_ns()
        for due in itertools.islice(schedule, _MOST_MISSED):
            due_ns = begun_ns + round(due * NANOSECONDS)
            if due_ns > now_ns:
                break
            self._ledger.note_missed(due_ns)

    def _launch_what_fits(self) -> None:
        # By tasks, not by what was sent: the limit must hold before a task has had its first turn.
        while self._backlog and len(self._tasks) < self._limit:
            number, due_ns = self._backlog.popleft()
            self._spawn(self._send_planned(number, due_ns))

    async def _send_planned(self, number: int, due_ns: int) -> None:
        await self._outlet.send(number, due_ns)

    # -- both

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self.problem = self.problem or problem
            self._closed = True
            self.interrupt()
        self._launch_what_fits()
        self._settle()

    def _settle(self) -> None:
        if self._idle is not None and not self._idle.done() and not self.busy:
            self._idle.set_result(None)

    async def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        sleeper = self._sleeper = loop.create_future()
        timer = None
        if not math.isinf(seconds):
            timer = loop.call_later(max(_SHORTEST_PAUSE_SECONDS, seconds), self._wake)
        try:
            await sleeper
        finally:
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)
