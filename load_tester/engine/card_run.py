"""One card under load: its phases, the rules that end it, the drain, and how it stands."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any

from balancer.upstream.targets import Target
from load_tester.engine.connections import ConnectionPool
from load_tester.engine.ledger import Ledger
from load_tester.engine.outlet import Outlet
from load_tester.engine.pacing import Pacer
from load_tester.measures.badges import Evidence, badges
from load_tester.measures.knee import Step
from load_tester.measures.records import NANOSECONDS, Record
from load_tester.measures.slo import all_met, parse_slos, verdicts
from load_tester.plan.cards import Caps, Card, changed
from load_tester.plan.loads import Stages, Sweep, in_flight_limit, is_closed, plain, settling_seconds
from load_tester.plan.prompts import Line
from load_tester.plan.sweeps import findings, next_step, settling_of_step

# Ends by these rules were planned; what is under way then belongs to the measurement.
_COMPLETE = frozenset(("requests",))


class CardRun:
    """Runs one card once, in one event loop.

    `phase`: waiting, warmup, running, draining, done. `reason`: why sending ended: seconds, requests, errors, tokens,
    stages, sweep, stopped, aborted, failed; "" before.
    """

    def __init__(
        self, card: Card, target: Target, key: str, *, caps: Caps, tag: str, lines: tuple[Line, ...] = ()
    ) -> None:
        self.card = card
        self.phase = "waiting"
        self.reason = ""
        self.problem = ""
        self.changes: list[dict[str, Any]] = []
        self.ledger = Ledger(parse_slos(card.slo))
        self._caps = caps
        self._pool = ConnectionPool(target, key=key, verify_tls=card.verify_tls)
        self._outlet = Outlet(
            self._pool, self.ledger, tag=tag, lines=lines, spent=self._on_spent, done=self._check_counts
        )
        self._outlet.follow(card)
        self._pacer = Pacer(self._outlet, self.ledger, caps.connections)
        self._timers: list[asyncio.TimerHandle] = []
        self._load_began_seconds = 0.0
        self._stages_begun = 0
        self._hurry = asyncio.Event()
        self._steps: list[Step] = []
        self._rates: list[float] = []
        self._sweep_findings: dict[str, Any] | None = None

    @property
    def tag(self) -> str:
        """What the ids of its requests begin with, behind `lt-`."""
        return self._outlet.tag

    @property
    def over(self) -> bool:
        """Whether nothing will be sent any more."""
        return bool(self.reason)

    @property
    def aborted(self) -> bool:
        """Whether its drain is, or would be, cut short."""
        return self._hurry.is_set()

    async def run(self) -> None:
        """Send until a rule or somebody ends it, drain, and close every connection."""
        self.ledger.begin(time.perf_counter_ns())
        try:
            self._arm()
            if isinstance(self.card.load, Sweep):
                await self._sweep(self.card.load)
            else:
                await self._hold()
        except asyncio.CancelledError:
            self._hurry.set()
            self.end("aborted")
            raise
        finally:
            self.end("failed")
            await self._finish()
        if self._pacer.problem is not None:
            raise self._pacer.problem

    def end(self, reason: str) -> None:
        """Send nothing new. The first reason stands."""
        if self.over:
            return
        self.reason = reason
        self._disarm()
        self._pacer.close(keep_backlog=reason in _COMPLETE)
        if reason not in _COMPLETE:
            self.ledger.end_window(time.perf_counter_ns())

    def stop(self, *, abort: bool = False) -> None:
        """End it by hand: with the drain, or at once. May be repeated, to cut the drain."""
        if abort:
            self._hurry.set()
        self.end("aborted" if abort else "stopped")

    def change(self, changes: Mapping[str, Any], place: str = "card") -> None:
        """Other load, stop rules or bodies from now on. Raises BadInput."""
        new = changed(self.card, changes, place)
        if new == self.card:
            return
        seconds = self._passed_seconds() if self.ledger.begun_ns else 0.0
        self.changes.append({"seconds": seconds, "fields": sorted(changes), "load": new.load.model_dump(mode="json")})
        load_changed = new.load != self.card.load
        self.card = new
        self._outlet.follow(new)
        self.ledger.judge_by(parse_slos(new.slo))
        if self.phase == "waiting" or self.over:
            return
        self._disarm()
        if load_changed:
            self._load_began_seconds, self._stages_begun = seconds, 0
            self._end_segment()
            self._pacer.interrupt()
        self._arm()

    # -- phases

    async def _hold(self) -> None:
        while not self.over:
            if await self._pacer.follow(plain(self.card.load), self.card.seed):
                self.end("stages")
            elif self._pacer.problem is not None:
                self.end("failed")

    async def _sweep(self, sweep: Sweep) -> None:
        labels: list[tuple[str, str]] = []
        loop = asyncio.get_running_loop()
        self.phase = "running"
        while not self.over and (step := next_step(sweep, self._steps, self._rates)) is not None:
            settling = settling_of_step(sweep.step_seconds)
            opening = loop.call_later(settling, self._open_segment, step.label, step.of, step.level)
            ending = loop.call_later(settling + sweep.step_seconds, self._pacer.interrupt)
            try:
                await self._pacer.follow(step.load, self.card.seed)
            finally:
                opening.cancel()
                ending.cancel()
            if self._pacer.problem is not None:
                self.end("failed")
            if self.over or len(self.ledger.segments) <= len(labels):
                break
            self._end_segment()
            self._pacer.rest()
            if not await self._pacer.idle(self.card.drain_seconds):
                await self._pacer.cut()
            labels.append((step.label, step.of))
            self._note_step(step.level)
        self._sweep_findings = findings(sweep, self._steps, labels)
        self.end("sweep")

    def _note_step(self, level: float) -> None:
        summary = self.ledger.segments[-1].tally.summary(time.perf_counter_ns())
        judged = verdicts(self.ledger.objectives, summary)
        answers = summary["requests_per_second"] or 0.0
        self._rates.append(answers)
        self._steps.append(
            Step(
                level=level,
                throughput=summary["output_tokens_per_second"] or answers,
                latency=summary["latencies"]["e2e"]["mean"] or 0.0,
                in_flight=summary["in_flight_mean"],
                error_percent=100.0 if summary["error_percent"] is None else summary["error_percent"],
                slo_met=all_met(judged),
            )
        )

    async def _finish(self) -> None:
        self.phase = "draining"
        if self.reason in _COMPLETE:
            await self._drain(max(0.0, self._limit()[0] - self._passed_seconds()))
            self._pacer.rest()
            self.ledger.end_window(time.perf_counter_ns())
        await self._drain(self.card.drain_seconds)
        await self._pacer.cut()
        now_ns = time.perf_counter_ns()
        self.ledger.end_window(now_ns)
        self.ledger.tick(now_ns)
        await self._pool.close()
        if self.ledger.window is None and not self.ledger.segments:
            self.problem = "sending ended before the warm-up did: nothing was measured"
        self.phase = "done"

    async def _drain(self, seconds: float) -> None:
        """Wait for what is under way: so long, until it is over, or until somebody is in a hurry."""
        if not self._pacer.busy or self.aborted:
            return
        draining = asyncio.ensure_future(self._pacer.idle(seconds))
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait((draining, hurry), return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()
            hurry.cancel()

    # -- rules

    def _passed_seconds(self) -> float:
        return (time.perf_counter_ns() - self.ledger.begun_ns) / NANOSECONDS

    def _limit(self) -> tuple[float, str]:
        """After how many seconds sending ends at the latest, and the reason that is given."""
        seconds = self.card.stop.seconds
        return (seconds, "seconds") if seconds else (self._caps.seconds, "cap")

    def _arm(self) -> None:
        """Timers of the rules that go by time, and of the window and the stages."""
        passed, card = self._passed_seconds(), self.card
        limit, reason = self._limit()
        self._later(limit - passed, self.end, reason)
        if self.over or isinstance(card.load, Sweep):
            return
        settling = card.warmup_seconds
        if ramp := settling_seconds(card.load):
            settling += self._load_began_seconds + ramp
        if self.ledger.window is None:
            self.phase = "warmup" if settling > passed else "running"
            self._later(settling - passed, self._open_window)
        if isinstance(card.load, Stages):
            begins = self._load_began_seconds
            for place, stage in enumerate(card.load.stages):
                if place >= self._stages_begun:
                    self._later(begins - passed, self._open_stage, card.load, place)
                begins += stage.seconds

    def _later(self, seconds: float, act: Any, *arguments: Any) -> None:
        if seconds <= 0:
            act(*arguments)
        elif not math.isinf(seconds):
            self._timers.append(asyncio.get_running_loop().call_later(seconds, act, *arguments))

    def _disarm(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _open_window(self) -> None:
        self.phase = "running"
        self.ledger.open_window(time.perf_counter_ns())

    def _open_stage(self, load: Stages, place: int) -> None:
        self._stages_begun = place + 1
        self._open_segment(f"stage {place + 1}", load.of, load.stages[place].end)

    def _end_segment(self) -> None:
        self.ledger.end_segment(time.perf_counter_ns())
        self._outlet.segment = 0

    def _open_segment(self, label: str, of: str, level: float) -> None:
        self.ledger.open_segment(label, of, level, time.perf_counter_ns())
        self._outlet.segment = len(self.ledger.segments)

    def _on_spent(self) -> None:
        self.end("requests")

    def _check_counts(self, _: Record) -> None:
        stop, ledger = self.card.stop, self.ledger
        if stop.errors and ledger.failed >= stop.errors:
            self.end("errors")
        if ledger.tokens_spent >= (stop.tokens or self._caps.tokens):
            self.end("tokens" if stop.tokens else "cap")

    # -- how it stands

    def live(self) -> dict[str, Any]:
        """The numbers of this moment, small enough to send every second."""
        now_ns, ledger = time.perf_counter_ns(), self.ledger
        begun_ns = ledger.begun_ns or now_ns
        window = ledger.window
        return {
            "phase": self.phase,
            "reason": self.reason,
            "elapsed_seconds": (now_ns - begun_ns) / NANOSECONDS,
            "planned": ledger.planned,
            "sent": ledger.sent,
            "ok": ledger.ok,
            "failed": ledger.failed,
            "cancelled": ledger.cancelled,
            "in_flight": ledger.in_flight,
            "waiting": self._pacer.waiting,
            "output_tokens": ledger.tokens_out,
            "peak_tokens_per_second": ledger.series.peak_tokens_per_second,
            "ttft": ledger.live_ttft.distribution(),
            "e2e": ledger.live_e2e.distribution(),
            "errors": window.errors()[:10] if window else [],
            "segments": len(ledger.segments),
        }

    def result(self, evidence: Mapping[str, float | None]) -> dict[str, Any]:
        """Everything, as it is stored and exported. `evidence`: loop_lag_p99_ms and cpu_percent of the process."""
        now_ns, ledger = time.perf_counter_ns(), self.ledger
        summary = ledger.summary(now_ns)
        judged = ledger.judged(summary)
        segments = [ledger.segment_json(segment, now_ns) for segment in ledger.segments]
        return {
            "card": self.card.model_dump(mode="json"),
            "phase": self.phase,
            "reason": self.reason,
            "problem": self.problem,
            "window": self._window(),
            "totals": {
                name: getattr(ledger, name) for name in ("planned", "sent", "ok", "failed", "cancelled", "tokens_out")
            },
            "connections_opened": self._pool.opened,
            "summary": summary,
            "slo": judged,
            "slo_met": self._slo_met(judged, segments),
            "badges": self._badges(summary, evidence),
            "segments": segments,
            "sweep": self._sweep_findings,
            "series": ledger.series.as_json(),
            "peak_tokens_per_second": ledger.series.peak_tokens_per_second,
            "changes": self.changes,
            "limit_headers": dict(self._outlet.limits),
        }

    def _slo_met(self, judged: list[Any], segments: list[dict[str, Any]]) -> bool | None:
        if not self.card.slo:
            return None
        if isinstance(self.card.load, Sweep):
            return any(segment["slo_met"] for segment in segments)
        return bool(judged) and all_met(judged)

    def _window(self) -> dict[str, float] | None:
        window, begun_ns = self.ledger.window, self.ledger.begun_ns
        if window is None:
            return None
        ended_ns = window.ended_ns or time.perf_counter_ns()
        return {
            "begun_seconds": (window.begun_ns - begun_ns) / NANOSECONDS,
            "ended_seconds": (ended_ns - begun_ns) / NANOSECONDS,
        }

    def _badges(self, summary: dict[str, Any] | None, evidence: Mapping[str, float | None]) -> list[Any]:
        if summary is None:
            return []
        load, ledger = plain(self.card.load), self.ledger
        limit = in_flight_limit(load) or self._caps.connections
        facts = Evidence(
            open_loop=not is_closed(load),
            planned=ledger.planned_in_window,
            sent=min(summary["sent"], ledger.planned_in_window),
            limit_in_flight=limit if summary["in_flight_peak"] >= limit else 0,
            loop_lag_p99_ms=evidence.get("loop_lag_p99_ms"),
            cpu_percent=evidence.get("cpu_percent"),
            changed=bool(self.changes),
            interrupted=self.reason in ("stopped", "aborted", "failed", "cap"),
        )
        return list(badges(summary, facts))
