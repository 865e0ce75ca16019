"""A page that is watched: whatever goes wrong in it or leaves its origin fails the test."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Page, Request

from tests.browser.stage import eventually

AXE_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")

_AXE = Path(__file__).resolve().parents[2] / "webui/node_modules/axe-core/axe.min.js"
# What has no origin of its own is made by the page itself.
_OWN_SCHEMES = ("data", "blob", "about")
_TELL_VIOLATIONS = """
    document.addEventListener("securitypolicyviolation", (event) =>
        console.error(`policy: ${event.effectiveDirective} forbids ${event.blockedURI || event.sample}`));
"""
_RUN_AXE = """
    async (tags) => {
        // What fades in is hard to read until it is there.
        const ends = (each) =>
            each.playState === "running" && Number.isFinite(each.effect?.getComputedTiming().endTime);
        await Promise.allSettled(document.getAnimations().filter(ends).map((each) => each.finished));
        const found = await axe.run(document, { runOnly: { type: "tag", values: tags }, resultTypes: ["violations"] });
        return found.violations.map(({ id, help, nodes }) =>
            `${id}: ${help}: ${nodes.map((node) => `${node.target} (${node.failureSummary})`).join("; ")}`);
    }
"""


class Watched:
    """A page and everything it complained of. `origin` is where all its requests must go."""

    def __init__(self, page: Page, origin: str, screenshots: Path) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._origin = origin
        self._screenshots = screenshots
        self._allowed: list[re.Pattern[str]] = []
        _burden(page)
        page.add_init_script(_TELL_VIOLATIONS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", self._on_request)

    def allow(self, pattern: str) -> None:
        """Complaints that match are expected from now on, such as refused requests while the server is gone.

        Browsers write a line for each answer that is an error: allow "status of 401" where the login is tested.
        """
        self._allowed.append(re.compile(pattern))

    def expect_complaint(self, text: str) -> None:
        """Wait until the page has complained of it: what it tells comes on a way of its own."""
        eventually(lambda: self.page.evaluate("1") and any(text in each for each in self.complaints), text)

    def check(self) -> None:
        """Fail on what the page complained of and nobody expected."""
        self.page.wait_for_timeout(0)  # takes in what has been told meanwhile
        unexpected = [text for text in self.complaints if not any(each.search(text) for each in self._allowed)]
        assert not unexpected, "\n".join(unexpected)

    def check_accessible(self) -> None:
        """Fail on what axe finds in the page as it is shown now, up to WCAG 2.2 AA."""
        if not self.page.evaluate("typeof axe !== 'undefined'"):
            self.page.evaluate(_AXE.read_text("utf-8"))  # not as a script of the page, whose policy forbids it
        found = self.page.evaluate(_RUN_AXE, list(AXE_TAGS))
        assert not found, "\n".join(found)

    def shot(self, name: str) -> Path:
        """A picture of what is in view; where it is."""
        path = self._screenshots / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def eventually(self, script: str, argument: Any = None) -> None:
        """Wait until a function of the page, such as "() => document.title === 'x'", gives something true.

        Not Playwright's `wait_for_function`: what is not true at its first look, it evaluates again in a way that the
        page's policy forbids.
        """
        eventually(lambda: self.page.evaluate(script, argument), script)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console {message.type}: {message.text} ({message.location.get('url', '')})")

    def _on_request(self, request: Request) -> None:
        target = urlsplit(request.url)
        if target.scheme not in _OWN_SCHEMES and f"{target.scheme}://{target.netloc}" != self._origin:
            self.complaints.append(f"request to another origin: {request.url}")


def _burden(page: Page) -> None:
    """Make the page slow where races are looked for.

    BROWSER_SLOWDOWN is how many times slower it computes, BROWSER_LATENCY_MS how long each answer is on its way.
    """
    slowdown, latency = os.environ.get("BROWSER_SLOWDOWN"), os.environ.get("BROWSER_LATENCY_MS")
    if not slowdown and not latency:
        return
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": float(slowdown or 1)})
    session.send("Network.enable")
    conditions = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1, "latency": float(latency or 0)}
    session.send("Network.emulateNetworkConditions", conditions)
