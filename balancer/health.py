"""Active health: asks every enabled endpoint for its models, again and again, and tells the pool what came of it.

Beside the requests, never in their way: a probe is one GET that costs no tokens, and nothing here is awaited by a
request. One timer serves all endpoints.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from balancer.core.endpoints import Endpoint
from balancer.core.pool import EndpointPool
from balancer.core.probes import Finding, HealthStatus, Probe, ProbeRules, Vitals
from balancer.core.state import EndpointState
from balancer.upstream.control import ControlClient, Model, ModelsAnswer

logger = logging.getLogger("balancer.health")

# More at once would gain nothing: those that hang are as many, and each costs a socket.
MOST_AT_ONCE = 32
# A miss on a model asks an endpoint again at most this often, whatever clients send.
REFRESH_SECONDS = 10.0
# What comes due within this is begun together, so that a large fleet does not wake the process for each; short, so that
# requests find gaps between the probes of a large fleet.
_GRAIN_SECONDS = 0.005


class Listed(NamedTuple):
    """What an endpoint told of its models lately; None: asked, but it did not tell."""

    models: tuple[Model, ...] | None


class _Watch:
    """What is remembered of one endpoint beside its `Vitals`; times are monotonic."""

    __slots__ = ("down_at", "due_at", "models", "refresh_after", "state", "task", "told_at", "vitals")

    def __init__(self, state: EndpointState, vitals: Vitals, due_at: float) -> None:
        self.state = state
        self.vitals = vitals
        self.due_at = due_at
        self.task: asyncio.Task[ModelsAnswer] | None = None
        self.models: tuple[Model, ...] | None = None
        self.told_at = float("-inf")  # when it last told of its models, or that it lists none
        self.down_at = 0.0
        self.refresh_after = float("-inf")


class Health:
    """Probes the endpoints of `pool` between `start` and `stop`, and follows its configuration by itself.

    `clock` is monotonic, `wall_clock` Unix time; both in seconds. At most `most_at_once` probes are under way, so that
    endpoints that hang hold up the others' probes only when they are as many; then what is due for longest goes first.
    `on_verdict`, when set, is called when an endpoint goes down, comes back, or has told of other models.
    """

    def __init__(
        self,
        pool: EndpointPool,
        control: ControlClient,
        rules: ProbeRules,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        rng: Random | None = None,
        most_at_once: int = MOST_AT_ONCE,
    ) -> None:
        self.on_verdict: Callable[[EndpointState], None] | None = None
        self._pool = pool
        self._control = control
        self._rules = rules
        self._clock = clock
        self._wall_clock = wall_clock
        self._rng = rng or Random()
        self._most_at_once = most_at_once
        self._watches: dict[int, _Watch] = {}
        self._tasks: set[asyncio.Task[ModelsAnswer]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._started = False
        pool.applied = self._follow
        self._follow()

    def __repr__(self) -> str:
        down = sum(not watch.state.healthy for watch in self._watches.values())
        counts = f"{len(self._watches)} endpoints, {down} down, {len(self._tasks)} probes under way"
        return f"<Health{'' if self._started else ' stopped'}: {counts}>"

    def start(self) -> None:
        """Begin to probe by the clock. For a running event loop."""
        self._started = True
        self._wake()

    async def stop(self) -> None:
        """Probe no more; returns when nothing is under way."""
        self._started = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def probe(self, endpoint: Endpoint) -> ModelsAnswer:
        """Probe now, or wait for the probe that is under way. Of an endpoint that is not probed nothing is kept."""
        watch = self._watches.get(endpoint.id)
        if watch is None:
            return await self._control.models(endpoint)
        # Shielded: the result counts, whether or not the one who asked still waits for it.
        return await asyncio.shield(watch.task or self._begin(watch))

    def refresh_soon(self, reason: str, endpoint_id: int | None = None) -> None:
        """Ask an endpoint, or every connected one, for its models now rather than at its time. Returns at once.

        For misses: nobody serves the model that was asked for, or an endpoint did not know it. May be called for every
        request: each endpoint is asked at most once in `REFRESH_SECONDS` because of it.
        """
        now = self._clock()
        if endpoint_id is None:
            watches = [watch for watch in self._watches.values() if watch.state.endpoint.connected]
        else:
            watches = [self._watches[endpoint_id]] if endpoint_id in self._watches else []
        for watch in watches:
            if now >= watch.refresh_after:
                logger.debug("asking endpoint %s for its models: %s", watch.state.endpoint.name, reason)
                watch.refresh_after = now + REFRESH_SECONDS
                watch.due_at = min(watch.due_at, now)
                self._wake()

    def listed(self, endpoint: Endpoint) -> Listed | None:
        """What is known of the endpoint's models; None where nothing recent is, and it has to be asked."""
        watch = self._watches.get(endpoint.id)
        if watch is None or watch.vitals.last is None:
            return None
        if not watch.state.healthy:
            return Listed(None)
        # Two probes may fail or be late before a list counts as old.
        is_fresh = self._clock() - watch.told_at <= 3 * self._rules.interval_seconds
        return Listed(watch.models) if is_fresh else None

    def begin_due(self) -> float | None:
        """Begin the probes that are due, as many as may be under way; returns the seconds until more are.

        None: nothing is waiting, or nothing more may begin until a probe ends. `start` calls this by itself.
        """
        now = self._clock()
        waiting = [watch for watch in self._watches.values() if watch.task is None]
        for watch in sorted((watch for watch in waiting if watch.due_at <= now), key=lambda watch: watch.due_at):
            if len(self._tasks) >= self._most_at_once:
                return None
            self._begin(watch)
        return min((watch.due_at - now for watch in waiting if watch.due_at > now), default=None)

    # -- following the configuration -------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Watch what is to be probed, and begin anew where another backend stands behind an endpoint."""
        if not self._rules.interval_seconds:
            return
        now, watches = self._clock(), self._watches
        self._watches = {}
        for endpoint_id, state in self._pool.states.items():
            if not (state.endpoint.enabled and state.endpoint.health_check):
                _leave_alone(state)
                continue
            watch = watches.get(endpoint_id)
            if watch is None or watch.vitals is not state.vitals:
                state.vitals, state.healthy = Vitals(), True
                watch = _Watch(state, state.vitals, now + self._rules.first_pause_seconds(self._rng))
            self._watches[endpoint_id] = watch
        self._wake()

    # -- probing ---------------------------------------------------------------------------------------------------

    def _wake(self, pause_seconds: float = 0.0) -> None:
        """Begin what is due after so long, unless that happens earlier anyway."""
        if not self._started:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + max(pause_seconds, _GRAIN_SECONDS)
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        pause_seconds = self.begin_due()
        if pause_seconds is not None:
            self._wake(pause_seconds)

    def _begin(self, watch: _Watch) -> asyncio.Task[ModelsAnswer]:
        watch.task = asyncio.create_task(self._run(watch))
        self._tasks.add(watch.task)
        watch.task.add_done_callback(self._tasks.discard)
        return watch.task

    async def _run(self, watch: _Watch) -> ModelsAnswer:
        endpoint = watch.state.endpoint
        try:
            answer = await self._control.models(endpoint)
            if self._watches.get(endpoint.id) is watch:  # else it was changed or removed meanwhile
                self._take(watch, answer)
            return answer
        finally:
            watch.task = None
            pause_seconds = self._rules.pause_seconds(watch.vitals, self._rng, healthy=watch.state.healthy)
            watch.due_at = self._clock() + pause_seconds
            self._wake()

    def _take(self, watch: _Watch, answer: ModelsAnswer) -> None:
        """Let an answer count."""
        state, before = watch.state, watch.state.health_status
        probe = Probe(_finding(answer), answer.reason, self._wall_clock(), answer.latency_seconds)
        before_models, first = state.discovered_models, watch.vitals.last is None
        self._learn(watch, answer, probe.at)
        healthy = watch.vitals.take(probe, self._rules, healthy=state.healthy)
        changed = first or healthy != state.healthy or before_models != state.discovered_models
        if healthy != state.healthy:
            state.healthy = healthy
            if healthy:
                self._pool.room_made()
        if changed and self.on_verdict is not None:
            self.on_verdict(state)
        self._tell(watch, before)

    def _learn(self, watch: _Watch, answer: ModelsAnswer, at: float) -> None:
        """Take over what the answer says of models. One that says nothing leaves what was known, to grow old."""
        if not answer.ok and answer.verdict != "no_models_route":
            return
        watch.models = answer.models if answer.ok else None
        watch.told_at = self._clock()
        # A server that loads models on demand may list none: that is no reason to send it nothing.
        found = frozenset(answer.ids) or None
        watch.state.listed_at = at if found else None
        if found != watch.state.discovered_models:
            watch.state.discovered_models = found
            self._pool.candidates_changed()

    def _tell(self, watch: _Watch, before: HealthStatus) -> None:
        """Log a change of the standing; the first good probe is none."""
        name, last, status = watch.state.endpoint.name, watch.vitals.last, watch.state.health_status
        if status is before or last is None:
            return
        if status is HealthStatus.DOWN:
            watch.down_at = self._clock()
            logger.warning("endpoint %s is down: %s", name, last.reason)
            return
        if before is HealthStatus.DOWN:
            logger.info("endpoint %s is up again after %.0f s", name, self._clock() - watch.down_at)
        if status is HealthStatus.CREDENTIALS:
            logger.warning("endpoint %s answers, but %s", name, last.reason)
        elif before is HealthStatus.CREDENTIALS:
            logger.info("endpoint %s takes its key again", name)


def _leave_alone(state: EndpointState) -> None:
    """Back to knowing nothing, but for the models of an endpoint that is only disabled: it will serve them again."""
    if state.vitals is not None:
        state.vitals, state.healthy = None, True
    if not state.endpoint.health_check:
        state.discovered_models = state.listed_at = None


def _finding(answer: ModelsAnswer) -> Finding:
    if answer.verdict == "credentials":
        return Finding.CREDENTIALS
    if answer.ok or answer.verdict == "no_models_route":
        return Finding.ALIVE
    # Throttled, or some other way to refuse: somebody is there and speaks HTTP.
    refused = answer.verdict == "error" and answer.status is not None and 400 <= answer.status < 500
    return Finding.ALIVE if refused else Finding.FAILED
