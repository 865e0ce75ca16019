"""What the editor costs the browser each second while it is looked at: 60 endpoints, live traffic, one state a second.

Needs the built editor (`make webui`) and a Chromium. Prints milliseconds of script, style and layout per tick, with and
without the dots that run along the wires.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.chromium import FLAGS, MISSING, find_chromium
from tests.browser.stage import ADMIN_TOKEN, Stage

Motion = Literal["reduce", "no-preference"]

_BACKENDS = 6
_CLIENTS = 12
_WINDOW_SECONDS = 5.0
_WARM_SECONDS = 4.0
_PER_COLUMN = 12
_MOTIONS: dict[Motion, str] = {"reduce": "without dots", "no-preference": "with dots"}


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of processor time per second of watching: all of the page's main thread, and parts of that."""

    script: float
    layout: float
    all: float

    def __str__(self) -> str:
        return f"script {self.script:5.1f} ms, style and layout {self.layout:5.1f} ms, main thread {self.all:5.1f} ms"


def main() -> int:
    """Measure and print; returns the exit code."""
    arguments = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder, Stage(Path(folder), _BACKENDS) as stage, sync_playwright() as driver:
        executable = find_chromium(driver)
        if executable is None:
            print(MISSING)
            return 1
        _furnish(stage, arguments.endpoints)
        browser = driver.chromium.launch(executable_path=executable, args=list(FLAGS))
        with _Traffic(stage):
            for path, view in (("/admin", "canvas"), ("/admin#/table", "table")):
                for motion, dots in _MOTIONS.items():
                    costs = _watch(browser, stage, path, motion, arguments.rounds)
                    print(f"{arguments.endpoints} endpoints, {view}, {dots}: {_median(costs)} per tick")
        browser.close()
    return 0


def _furnish(stage: Stage, count: int) -> None:
    quota = 100 / count
    endpoints = [
        {
            "name": f"gpu-{place:02}",
            "base_url": stage.base_url(place % _BACKENDS),
            "connected": True,
            "token_quota_percent": quota,
            "max_concurrent": 8,
            "pos_x": 840 + 320 * (place // _PER_COLUMN),
            "pos_y": 160 * (place % _PER_COLUMN),
        }
        for place in range(count)
    ]
    stage.admin("POST", "/endpoints", endpoints)
    for place in range(_BACKENDS):
        stage.behave(place, ttft_seconds=0.05, tpot_seconds=0.01, completion_tokens=40)


class _Traffic:
    """Some clients that ask for streams one after the other, while it is entered."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(seed,), daemon=True) for seed in range(_CLIENTS)]

    def __enter__(self) -> None:
        for each in self._threads:
            each.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join()

    def _ask(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._over.is_set():
            self._stage.chat(stream=True, max_tokens=40)
            time.sleep(chance.uniform(0.0, 0.3))


def _watch(browser: Browser, stage: Stage, path: str, motion: Motion, rounds: int) -> list[Cost]:
    context = browser.new_context(base_url=stage.url, viewport={"width": 1440, "height": 900}, reduced_motion=motion)
    context.request.post("/admin/api/session", data={"token": ADMIN_TOKEN})
    page = context.new_page()
    page.goto(path)
    page.locator(".topbar").wait_for()
    page.wait_for_timeout(1000 * _WARM_SECONDS)
    costs = _measure(page, rounds)
    context.close()
    return costs


def _measure(page: Page, rounds: int) -> list[Cost]:
    session = page.context.new_cdp_session(page)
    # Processor time of the page's thread: what else the machine does must not count.
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def now() -> dict[str, float]:
        return {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}

    costs = []
    for _ in range(rounds):
        began, before = time.monotonic(), now()
        page.wait_for_timeout(1000 * _WINDOW_SECONDS)
        seconds, after = time.monotonic() - began, now()
        grown = {name: 1000 * (after[name] - before[name]) / seconds for name in after}
        layout = grown["LayoutDuration"] + grown["RecalcStyleDuration"]
        costs.append(Cost(grown["ScriptDuration"], layout, grown["TaskDuration"]))
    return costs


def _median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(each.script for each in costs),
        statistics.median(each.layout for each in costs),
        statistics.median(each.all for each in costs),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editor", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2, help=f"windows of {_WINDOW_SECONDS:.0f} s")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
