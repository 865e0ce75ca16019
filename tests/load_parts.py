"""The load tester in tests: one card against a fake backend, and fake backends in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from load_tester.engine.run import Plan, Run, prepare
from load_tester.engine.targets import TargetRules
from load_tester.measures.records import Record
from load_tester.plan.cards import Caps, read_card
from load_tester.plan.prompts import Line
from tests.fakes import FakeServer

MS = 1_000_000


async def prepared(
    *cards: dict[str, Any],
    key: str = "",
    caps: Caps | None = None,
    sets: dict[str, tuple[Line, ...]] | None = None,
    **plan: Any,
) -> Run:
    """A run of these cards, not yet begun."""
    made = tuple(read_card(card) for card in cards)
    whole = Plan(made, tuple(key for _ in made), **plan)
    return await prepare(whole, TargetRules(), caps or Caps(), sets or {}, "test")


async def load(fake: FakeServer | str, *, key: str = "", **fields: Any) -> Run:
    """One card, run to its end. By default 10 requests of 5 tokens, one after another."""
    url = fake if isinstance(fake, str) else fake.base_url
    card = {"url": url, "max_tokens": 5, **fields}
    if "load" not in card and "stop" not in card:
        card["stop"] = {"requests": 10}
    run = await prepared(card, key=key)
    await run.run()
    return run


def outcome(run: Run, place: int = 0) -> dict[str, Any]:
    """The result of one card."""
    found: dict[str, Any] = run.result()["cards"][place]
    return found


def answered(number: int = 0, **fields: Any) -> Record:
    """A record of a good answer: sent at 1 s, first chunk after 100 ms, five chunks 10 ms apart."""
    start = 1000 * MS
    values: dict[str, Any] = {
        "sent_ns": start,
        "head_ns": start + 99 * MS,
        "first_ns": start + 100 * MS,
        "output_ns": start + 100 * MS,
        "last_ns": start + 140 * MS,
        "ended_ns": start + 141 * MS,
        "chunks": 5,
        "gaps_ns": [10 * MS] * 4,
        "tokens_in": 7,
        "tokens_out": 5,
        "status": 200,
    }
    return Record(number, **{**values, **fields})


class BackendProcess:
    """A fake backend in a process of its own, which can be stopped as a whole: accepts, and does nothing."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.url = url
        self._process = process

    def freeze(self) -> None:
        """Nothing moves in it from now on."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def timings(self) -> dict[str, dict[str, Any]]:
        """What it wrote when, by the client's request id."""
        with httpx.Client(trust_env=False, timeout=20) as client:
            found = client.get(self.url.removesuffix("/v1") + "/_fake/timings").json()
        return {each["request_id"]: each for each in found}


@contextmanager
def backend_process(*arguments: str) -> Iterator[BackendProcess]:
    """A fake backend with these arguments."""
    command = [sys.executable, "-m", "load_tester.fake_backend", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield BackendProcess(process, process.stdout.readline().split()[-1])
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)
        process.stdout.close()
