"""Fixtures of the browser tests: a stage to act on, a Chromium, and watched pages of the editor in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import BrowserContext, Playwright, expect
from pytest_playwright.pytest_playwright import CreateContextCallback

from scripts.webui import is_fresh
from tests.browser.chromium import FLAGS, MISSING, find_chromium
from tests.browser.stage import ADMIN_TOKEN, Stage
from tests.browser.watched import Watched

_WEBUI = Path(__file__).resolve().parents[2] / "webui"
_DESKTOP = {"width": 1440, "height": 900}
# Something that takes longer than this is broken. What is waited for is looked at again and again: a busy machine needs
# the time, a quiet one does not take it.
PATIENCE_MS = 15_000


class OpenEditor(Protocol):
    """Opens the editor in a browser profile of its own, as another operator would, or in another tab `beside` one."""

    def __call__(
        self,
        stage: Stage,
        *,
        beside: Watched | None = None,
        logged_in: bool = True,
        path: str = "/admin",
        **context: Any,
    ) -> Watched:
        """`context` are options of the browser context: `viewport`, `color_scheme`, `reduced_motion`, ..."""


def _chromium(playwright: Playwright) -> str:
    """The Chromium to drive. Where there is none, tests are skipped, or in CI failed."""
    path = find_chromium(playwright)
    if path is not None:
        return path
    if os.environ.get("CI"):
        pytest.fail(MISSING)
    pytest.skip(MISSING)


@pytest.fixture(scope="session")
def base_url() -> None:
    """Each stage has its own. Replaces a fixture of a plugin which is made in a way that pytest deprecates."""


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any], playwright: Playwright) -> dict[str, Any]:
    """How the browser is started."""
    return {**browser_type_launch_args, "executable_path": _chromium(playwright), "args": list(FLAGS)}


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    """Stop before tests tell of an editor that is not the one of these sources."""
    if not is_fresh(_WEBUI):
        pytest.exit("the editor is not built from these sources: run `make webui`", returncode=1)


@pytest.fixture(scope="session", autouse=True)
def patient() -> None:
    """How long `expect` looks for what it expects."""
    expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: LB_SCREENSHOTS, or a temporary directory."""
    named = os.environ.get("LB_SCREENSHOTS")
    directory = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Makes stages, with the arguments of `Stage` behind the directory; they end with the test."""
    with ExitStack() as stack:

        def make(backends: int = 3, **environ: str) -> Stage:
            directory = tmp_path / f"stage-{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            return stack.enter_context(Stage(directory, backends, **environ))

        yield make


@pytest.fixture(scope="session")
def standing_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One stage for all tests that need nothing special of it: starting a process takes longer than most of them."""
    with Stage(tmp_path_factory.mktemp("standing")) as stage:
        yield stage


@pytest.fixture
def stage(standing_stage: Stage) -> Stage:
    """A balancer without endpoints, and three fake backends."""
    standing_stage.clear()
    return standing_stage


@pytest.fixture
def open_editor(
    new_context: CreateContextCallback, screenshots: Path, make_stage: Callable[..., Stage]
) -> Iterator[OpenEditor]:
    """Opens editors; each is checked for complaints at the end of the test, before its stage ends."""
    opened: list[Watched] = []

    def profile(stage: Stage, logged_in: bool, options: dict[str, Any]) -> BrowserContext:
        made = new_context(**{"base_url": stage.url, "viewport": _DESKTOP, **options})
        made.set_default_timeout(PATIENCE_MS)
        if logged_in:
            answer = made.request.post("/admin/api/session", data={"token": ADMIN_TOKEN})
            assert answer.ok, answer.text()
        return made

    def open_one(
        stage: Stage,
        *,
        beside: Watched | None = None,
        logged_in: bool = True,
        path: str = "/admin",
        **context: Any,
    ) -> Watched:
        made = profile(stage, logged_in, context) if beside is None else beside.page.context
        watched = Watched(made.new_page(), stage.url, screenshots)
        opened.append(watched)
        watched.page.goto(path)
        return watched

    yield open_one
    for each in opened:
        if not each.page.is_closed():
            each.check()


@pytest.fixture
def editor(open_editor: OpenEditor, stage: Stage) -> Watched:
    """The editor of `stage`, logged in."""
    return open_editor(stage)
