"""Takes the pictures of the editor, from the running demo, and of the load tester, into `docs/images`; light and dark.

python -m scripts.screenshots [--directory DIRECTORY] [--seconds SECONDS] [--only editor|load-tester]

Needs a Chromium, and the editor built.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from scripts.demo import ADMIN_TOKEN, BACKENDS
from tests.browser.chromium import FLAGS, MISSING, find_chromium
from tests.browser.stage import Stage
from tests.browser.tester import Tester

ROOT = Path(__file__).resolve().parent.parent
SIZE = {"width": 1440, "height": 900}
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
START_SECONDS = 30.0
# The page has had its first numbers, and the dots on the wires their places.
SETTLE_SECONDS = 4.0
LOAD_TEST_SECONDS = 20
NODES = '[data-testid^="rf__node-"]'


def main() -> int:
    """Take them; returns the exit code."""
    options = _arguments()
    options.directory.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        path = find_chromium(playwright)
        if path is None:
            sys.stderr.write(f"{MISSING}\n")
            return 1
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        if options.only != "load-tester":
            _tell(_editor_pictures(browser, options.seconds, options.directory))
        if options.only != "editor":
            _tell(_load_tester_pictures(browser, options.directory))
        browser.close()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--seconds", type=float, default=60, help="how long the demo runs before the first picture")
    parser.add_argument("--only", choices=("editor", "load-tester"))
    return parser.parse_args()


def _tell(pictures: Iterator[Path]) -> None:
    for picture in pictures:
        print(picture)


def _editor_pictures(browser: Browser, seconds: float, directory: Path) -> Iterator[Path]:
    with _demo() as url:
        print(f"the demo runs at {url}; it has {seconds:g} s to fill its numbers")
        time.sleep(seconds)
        for theme in THEMES:
            target = directory / f"editor-{theme}.png"
            _picture(browser, url, theme, target)
            yield target


@contextlib.contextmanager
def _demo() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "scripts.demo", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        _wait_until_wired(url)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _wait_until_wired(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            state = httpx.get(f"{url}/admin/api/state", headers={"x-admin-token": ADMIN_TOKEN}, trust_env=False).json()
            if len(state["endpoints"]) == len(BACKENDS):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"the demo did not start within {START_SECONDS:g} s")


def _picture(browser: Browser, url: str, theme: Literal["light", "dark"], target: Path) -> None:
    context = browser.new_context(base_url=url, viewport=SIZE, device_scale_factor=2, color_scheme=theme)
    context.request.post("/admin/api/session", data={"token": ADMIN_TOKEN})
    page = context.new_page()
    page.goto("/admin")
    page.locator(NODES).nth(len(BACKENDS)).wait_for()
    time.sleep(SETTLE_SECONDS)
    page.screenshot(path=target)
    context.close()


def _load_tester_pictures(browser: Browser, directory: Path) -> Iterator[Path]:
    """The result of one test through the page, in both themes: a backend directly and through the balancer."""
    with contextlib.ExitStack() as stack:
        places = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        stage = stack.enter_context(Stage(places[0], 1))
        tester = stack.enter_context(Tester(places[1]))
        stage.add("gpu-1", 0, connected=True)
        stage.behave(0, ttft_seconds=0.18, tpot_seconds=0.012)
        context = browser.new_context(base_url=tester.url, viewport=SIZE, device_scale_factor=2, color_scheme="light")
        page = context.new_page()
        page.goto("/")
        _run_load_test(page, (stage.base_url(0), f"{stage.url}/v1"))
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            target = directory / f"load-tester-{theme}.png"
            time.sleep(1)
            page.screenshot(path=target)
            yield target
        context.close()


def _run_load_test(page: Page, targets: tuple[str, str]) -> None:
    """What the balancer costs: the same requests both ways."""
    page.get_by_role("button", name="Cost of the balancer").click()
    for card, target in zip(page.get_by_test_id("card").all(), targets, strict=True):
        card.locator('[data-field="url"]').fill(target)
        card.locator('[data-field="stop.seconds"]').fill(str(LOAD_TEST_SECONDS))
    page.get_by_label("Name of the test").fill("What the balancer costs")
    page.get_by_test_id("start").click()
    page.get_by_test_id("card-result").first.wait_for(timeout=1000 * (LOAD_TEST_SECONDS + START_SECONDS))
    page.get_by_role("button", name="Dismiss").first.wait_for(state="detached")


if __name__ == "__main__":
    sys.exit(main())
