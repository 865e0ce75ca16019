"""All runs of a server: those under way and those in the history; keys and sets of prompts on their way into them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError

from load_tester.engine.run import Plan, Run, prepare
from load_tester.engine.targets import TargetRules
from load_tester.errors import BadInput, LoadTesterError, NotFound, NotRunning
from load_tester.exports import read_run, row
from load_tester.history import History, headline
from load_tester.plan.cards import Caps, Card
from load_tester.plan.prompt_sets import parse_prompt_set
from load_tester.plan.prompts import Line, PromptSet
from load_tester.report import report_html

MOST_ACTIVE = 16
MOST_KEYS = 1_000
_ABORT_SECONDS = 10.0

logger = logging.getLogger("load_tester")


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key in memory, until the server stops; shown as its preview only."""

    id: str
    label: str
    preview: str
    secret: str = field(repr=False)


class Runs:
    """Starts, stops, keeps and finds runs. Serves one event loop."""

    def __init__(self, history: History, rules: TargetRules, caps: Caps, made_by: str) -> None:
        self.history = history
        self.rules = rules
        self.caps = caps
        self._made_by = made_by
        self._active: dict[str, Run] = {}
        self._saving: set[asyncio.Task[None]] = set()
        self._keys: dict[str, StoredKey] = {}
        self._closing = False

    @property
    def active(self) -> list[Run]:
        """Those under way, the newest first."""
        return sorted(self._active.values(), key=lambda run: run.id, reverse=True)

    async def start(self, plan: Plan) -> Run:
        """Check a plan and begin. Raises BadInput."""
        if self._closing:
            raise NotRunning("the load tester is shutting down")
        if len(self._active) >= MOST_ACTIVE:
            raise BadInput("", f"{MOST_ACTIVE} runs are under way already: stop one first")
        run = await prepare(plan, self.rules, self.caps, await self._prompts(plan.cards), self._made_by)
        self._active[run.id] = run
        run.start()
        saving = asyncio.get_running_loop().create_task(self._keep(run))
        self._saving.add(saving)
        saving.add_done_callback(self._saving.discard)
        return run

    def find(self, run_id: str) -> Run:
        """A run under way. Raises NotFound or NotRunning."""
        run = self._active.get(run_id)
        if run is None:
            raise NotRunning(f"no run {run_id!r} is under way")
        return run

    def find_active(self, run_id: str) -> Run | None:
        """The same; None where it is over or never was."""
        return self._active.get(run_id)

    async def result(self, run_id: str) -> dict[str, Any]:
        """A run, under way or over. Raises NotFound."""
        run = self._active.get(run_id)
        return await self.history.run(run_id) if run is None else run.result()

    async def take_in(self, data: bytes) -> dict[str, Any]:
        """Put an exported run into the history; of the older load tester, only read it. Raises BadInput."""
        # In a thread, as all that takes long: runs under way measure how late the event loop is.
        found = await asyncio.to_thread(read_run, data)
        if found["format"] == "older":
            return found
        try:
            await self.result(found["id"])
        except NotFound:
            pass
        else:
            raise BadInput("file", f"the run {found['id']} is in the history already")
        try:
            headline(found)
            await asyncio.to_thread(report_html, found)
        except (KeyError, TypeError, ValueError, AttributeError, TemplateError):
            raise BadInput("file", "parts of the run are missing or of the wrong kind: the file is damaged") from None
        await self.history.save(found, [])
        return found

    async def requests(self, run_id: str) -> list[list[Any]]:
        """What was kept of its requests. Raises NotFound."""
        run = self._active.get(run_id)
        return await self.history.requests(run_id) if run is None else kept_rows(run)

    async def listed(self, limit: int, offset: int) -> dict[str, Any]:
        """Headlines: those under way, then a page of the history."""
        active = [
            {
                **headline(result),
                **{name: result[name] for name in ("id", "name", "notes", "state", "started_at", "ended_at")},
            }
            for result in (run.result() for run in self.active)
        ]
        past = await self.history.runs(limit, offset)
        running = {each["id"] for each in active}
        return {
            "active": active,
            "past": [each for each in past if each["id"] not in running],
            "total": await self.history.count(),
        }

    def stop_all(self) -> int:
        """The kill switch: cut everything now; how many runs that were."""
        runs = self.active
        for run in runs:
            run.stop(abort=True)
        return len(runs)

    async def close(self) -> None:
        """Cut what runs, keep what it has measured."""
        self._closing = True
        self.stop_all()
        if self._saving:
            await asyncio.wait(tuple(self._saving), timeout=_ABORT_SECONDS)

    # -- keys

    def add_key(self, label: str, secret: str) -> StoredKey:
        """Take a key in. It can be used and removed, never read."""
        if len(self._keys) >= MOST_KEYS:
            raise BadInput("key", f"{MOST_KEYS} keys are held already: remove some")
        shown = secret[:2] + "***" if len(secret) <= 8 else f"{secret[:4]}...{secret[-4:]}"
        key = StoredKey("k-" + secrets.token_hex(8), label, shown if secret else "", secret)
        self._keys[key.id] = key
        return key

    @property
    def keys(self) -> list[StoredKey]:
        """All of them."""
        return list(self._keys.values())

    def key(self, key_id: str) -> StoredKey:
        """One of them. Raises NotFound."""
        if key_id not in self._keys:
            raise NotFound("there is no such key: it is held in memory only, enter it again")
        return self._keys[key_id]

    def remove_key(self, key_id: str) -> None:
        """Forget it. Raises NotFound."""
        self.key(key_id)
        del self._keys[key_id]

    # -- sets of prompts

    async def add_prompt_set(self, name: str, data: bytes) -> dict[str, Any]:
        """Keep an uploaded file. Raises BadInput naming the broken line."""
        lines = await asyncio.to_thread(parse_prompt_set, data, name)
        set_id = hashlib.sha256(data).hexdigest()[:16]
        await self.history.save_prompt_set(set_id, name, len(lines), data)
        return {"id": set_id, "name": name, "lines": len(lines)}

    async def prompts_of(self, card: Card, place: str = "card") -> tuple[Line, ...]:
        """The prompts of a card that takes them from a set. Raises BadInput."""
        if not isinstance(card.prompt, PromptSet):
            return ()
        try:
            return await asyncio.to_thread(parse_prompt_set, await self.history.prompt_set(card.prompt.set))
        except NotFound as error:
            raise BadInput(f"{place}.prompt.set", f"{error}: upload the file first") from None

    async def _prompts(self, cards: Sequence[Card]) -> dict[str, tuple[Line, ...]]:
        return {
            card.prompt.set: await self.prompts_of(card, f"cards.{place}")
            for place, card in enumerate(cards)
            if isinstance(card.prompt, PromptSet)
        }

    async def _keep(self, run: Run) -> None:
        try:
            await run.wait()
        finally:
            try:
                await self.history.save(run.result(), kept_rows(run))
            except LoadTesterError as error:
                logger.error("run %s could not be kept: %s", run.id, error)
            finally:
                del self._active[run.id]


def kept_rows(run: Run) -> list[list[Any]]:
    """The requests of a run that were kept, for tables and CSV."""
    return [
        row(place, record, card.ledger.begun_ns) for place, card in enumerate(run.cards) for record in card.ledger.kept
    ]
