"""A run: one or more cards started together or in turn, watched, and turned into one result."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from balancer.upstream.targets import Target
from load_tester.engine.card_run import CardRun
from load_tester.engine.targets import TargetRules, pin
from load_tester.engine.watch import Watch
from load_tester.errors import BadInput, NotFound, NotRunning
from load_tester.measures.paired import compare_pairs
from load_tester.plan.cards import Caps, Card, changed, within_caps
from load_tester.plan.loads import highest_concurrency
from load_tester.plan.prompts import Line, PromptSet

FORMAT = "llm-load-tester run"
VERSION = 1
MOST_CARDS = 32

logger = logging.getLogger("load_tester")

Order = Literal["together", "in_turn"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run. `keys` by position of the card. `paired`: the second card is compared with the first."""

    cards: tuple[Card, ...]
    keys: tuple[str, ...] = field(repr=False)
    order: Order = "together"
    paired: bool = False
    name: str = ""
    notes: str = ""


async def prepare(
    plan: Plan, rules: TargetRules, caps: Caps, prompt_sets: Mapping[str, tuple[Line, ...]], made_by: str
) -> Run:
    """A run that can begin: every target resolved, checked and pinned. Raises BadInput."""
    if not 1 <= len(plan.cards) <= MOST_CARDS:
        raise BadInput("cards", f"expected 1 to {MOST_CARDS} cards")
    if plan.paired and len(plan.cards) != 2:
        raise BadInput("paired", "takes exactly two cards: the direct one, then the one to compare with it")
    targets = []
    for place, card in enumerate(plan.cards):
        within_caps(card, caps, f"cards.{place}")
        if isinstance(card.prompt, PromptSet) and card.prompt.set not in prompt_sets:
            raise BadInput(f"cards.{place}.prompt.set", "there is no such set of prompts: upload the file first")
        targets.append(await pin(card.url, rules, f"cards.{place}.url"))
    together = sum(highest_concurrency(card.load) for card in plan.cards) if plan.order == "together" else 0
    if caps.open_files and together > caps.open_files:
        raise BadInput(
            "cards",
            f"together they need {together:,} connections, and this process may open {caps.open_files:,} files: lower "
            "them, or raise the limit where the load tester is started (ulimit -n)",
        )
    return Run(plan, targets, caps, prompt_sets, made_by)


class Run:
    """A run from its start to its result. `state`: running, done, stopped, failed."""

    def __init__(
        self,
        plan: Plan,
        targets: Sequence[Target],
        caps: Caps,
        prompt_sets: Mapping[str, tuple[Line, ...]],
        made_by: str,
    ) -> None:
        now = datetime.now(UTC)
        self.id = now.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)
        self.name = plan.name
        self.notes = plan.notes
        self.plan = plan
        self.started_at = now
        self.ended_at: datetime | None = None
        self.watch = Watch(self._tick)
        self._made_by = made_by
        self._caps = caps
        self._task: asyncio.Task[None] | None = None
        # One tag for both cards of a pair: their prompts are to be the same, byte for byte.
        tag = secrets.token_hex(4)
        self.cards = [
            CardRun(
                card,
                target,
                key,
                caps=caps,
                tag=tag if plan.paired else f"{tag}{place}",
                lines=prompt_sets[card.prompt.set] if isinstance(card.prompt, PromptSet) else (),
            )
            for place, (card, target, key) in enumerate(zip(plan.cards, targets, plan.keys, strict=True))
        ]

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.state}, {len(self.cards)} cards>"

    @property
    def state(self) -> str:
        """running, done, stopped (by hand or by a cap) or failed."""
        if self.ended_at is None:
            return "running"
        reasons = {card.reason for card in self.cards}
        if "failed" in reasons:
            return "failed"
        return "stopped" if reasons & {"stopped", "aborted", "cap"} else "done"

    @property
    def running(self) -> bool:
        """Whether it is not over yet."""
        return self.ended_at is None

    async def run(self) -> None:
        """Carry it out."""
        self.watch.start()
        try:
            if self.plan.order == "in_turn":
                for card in self.cards:
                    if not card.over:
                        await self._run_card(card)
            else:
                await asyncio.gather(*(self._run_card(card) for card in self.cards if not card.over))
        finally:
            self.watch.stop()
            self.ended_at = datetime.now(UTC)

    def start(self) -> asyncio.Task[None]:
        """The same in the background."""
        self._task = asyncio.get_running_loop().create_task(self.run())
        return self._task

    def stop(self, *, abort: bool = False, card: int | None = None) -> None:
        """End all cards, or one. Raises NotFound or NotRunning."""
        if not self.running:
            raise NotRunning("the run is over")
        for each in self.cards if card is None else [self.card(card)]:
            each.stop(abort=abort)

    def card(self, place: int) -> CardRun:
        """The card at that place, from 0. Raises NotFound."""
        if not 0 <= place < len(self.cards):
            raise NotFound(f"the run has {len(self.cards)} cards, numbered from 0")
        return self.cards[place]

    def change(self, place: int, changes: Mapping[str, Any]) -> None:
        """Change a card under way, within the caps. Raises BadInput or NotFound."""
        card = self.card(place)
        within_caps(changed(card.card, changes), self._caps)
        card.change(changes)

    async def wait(self) -> None:
        """Until it is over."""
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def live(self, since: Sequence[int] = ()) -> dict[str, Any]:
        """The numbers of this moment; of each card's series the rows from `since` on."""
        cards = []
        for place, card in enumerate(self.cards):
            start = since[place] if place < len(since) else 0
            cards.append({**card.live(), "series": card.ledger.series.as_json(start)})
        lag, cpu = self.watch.lag_p99_ms, self.watch.cpu_percent
        generator = {"loop_lag_p99_ms": lag, "cpu_percent": cpu}
        return {"id": self.id, "state": self.state, "generator": generator, "cards": cards}

    def result(self) -> dict[str, Any]:
        """Everything, as it is stored and exported; of a running one, as far as it is known."""
        evidence = {"loop_lag_p99_ms": self.watch.lag_p99_ms, "cpu_percent": self.watch.cpu_percent}
        return {
            "format": FORMAT,
            "version": VERSION,
            "made_by": self._made_by,
            "id": self.id,
            "name": self.name,
            "notes": self.notes,
            "state": self.state,
            "order": self.plan.order,
            "paired": self.plan.paired,
            "started_at": self.started_at.isoformat(timespec="milliseconds"),
            "ended_at": self.ended_at.isoformat(timespec="milliseconds") if self.ended_at else None,
            "generator": self.watch.as_json(),
            "cards": [card.result(evidence) for card in self.cards],
            "comparison": self.comparison(),
        }

    def comparison(self) -> dict[str, Any] | None:
        """The second card of a pair against the first; None for others."""
        if not self.plan.paired:
            return None
        return compare_pairs(self.cards[0].ledger.rows, self.cards[1].ledger.rows)

    async def _run_card(self, card: CardRun) -> None:
        try:
            await card.run()
        except Exception as error:
            # One card must not take the others' results with it.
            logger.exception("run %s: a card failed", self.id)
            card.reason, card.problem = "failed", f"the load tester failed: {type(error).__name__}: {error}"

    def _tick(self) -> None:
        now_ns = time.perf_counter_ns()
        for card in self.cards:
            if card.phase not in ("waiting", "done"):
                card.ledger.tick(now_ns)
