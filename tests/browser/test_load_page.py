"""The load tester's page in a browser: from cards to results, reloads, comparison, files, and the way to the editor."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Locator, Page, expect
from pytest_playwright.pytest_playwright import CreateContextCallback

from balancer.web.bundle import read_bundle
from tests.browser.conftest import PATIENCE_MS, OpenEditor
from tests.browser.stage import MODEL, Stage, eventually
from tests.browser.tester import Tester
from tests.browser.watched import Watched

OpenPage = Callable[..., Watched]
MOST_KILOBYTES = 220
RESULT_MS = 30_000


@pytest.fixture
def tester(tmp_path: Path) -> Iterator[Tester]:
    """A load tester that has run nothing yet."""
    with Tester(tmp_path) as running:
        yield running


@pytest.fixture
def open_page(new_context: CreateContextCallback, screenshots: Path, tester: Tester) -> Iterator[OpenPage]:
    """Opens the page in a browser profile of its own; each is checked for complaints at the end of the test."""
    with ExitStack() as checks:

        def open_one(path: str = "/", url: str | None = None, **context: Any) -> Watched:
            origin = url or tester.url
            viewport = {"width": 1440, "height": 900}
            made = new_context(**{"base_url": origin, "viewport": viewport, **context})
            made.set_default_timeout(PATIENCE_MS)
            watched = Watched(made.new_page(), origin, screenshots)
            checks.callback(lambda: None if watched.page.is_closed() else watched.check())
            watched.page.goto(path)
            return watched

        yield open_one


@pytest.fixture
def watched(open_page: OpenPage) -> Watched:
    """The page, as somebody sees it who comes for the first time."""
    return open_page()


@pytest.fixture
def page(watched: Watched) -> Page:
    """The same, where nothing needs to be allowed."""
    return watched.page


def field(page: Page | Locator, path: str) -> Locator:
    """A field by the API's way to it."""
    return page.locator(f'[data-field="{path}"]')


def fill(page: Page | Locator, **fields: str) -> None:
    """Type into fields; double underscores stand for dots."""
    for name, text in fields.items():
        field(page, name.replace("__", ".")).fill(text)


def start(page: Page) -> None:
    """Start all cards, and see the test begin."""
    page.get_by_test_id("start").click()
    expect(page.get_by_test_id("run-state")).to_be_visible()


def expect_done(page: Page, state: str = "done") -> Locator:
    """Wait for the end; the first card's result."""
    expect(page.get_by_test_id("run-state")).to_have_text(state, timeout=RESULT_MS)
    result = page.get_by_test_id("card-result").first
    expect(result).to_be_visible()
    return result


def test_from_a_card_to_its_result(page: Page, stage: Stage) -> None:
    stage.behave(0, ttft_seconds=0.15, tpot_seconds=0.005)
    fill(page, name="Direct", url=stage.base_url(0), load__concurrency="3", stop__requests="60", max_tokens="8")
    page.get_by_role("button", name="Models").click()
    page.locator(".model-choices").get_by_role("button", name=MODEL).click()
    expect(field(page, "model")).to_have_value(MODEL)
    page.get_by_role("button", name="Objective").click()
    page.get_by_label("Limit of objective 1").fill("20ms")
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.get_by_test_id("trial")).to_contain_text("It answers.")
    start(page)
    expect(page.get_by_test_id("answered")).not_to_have_text("0")
    result = expect_done(page)
    expect(result).to_contain_text("objectives missed")
    expect(result.get_by_role("list", name="Objectives")).to_contain_text("TTFT p95 at most 20 ms")
    row = result.get_by_role("row", name=re.compile("^TTFT "))
    expect(row).to_contain_text("t_1 - t_send")
    expect(row.locator("[data-firm]")).to_have_attribute("data-firm", "false")
    expect(row.locator("[data-firm]")).to_contain_text("≈")
    expect(result.locator('[data-badge="few_samples"]')).to_contain_text("60 answers")
    expect(result.locator('[data-badge="token_source"]')).to_be_visible()
    assert stage.received(0) >= 61
    page.get_by_text("one by one").click()
    expect(page.get_by_test_id("requests").get_by_role("row")).to_have_count(61)


def test_a_reload_comes_back_to_the_running_test_and_it_can_be_changed_and_stopped(
    watched: Watched, stage: Stage, tester: Tester
) -> None:
    watched.allow("status of 422")
    page = watched.page
    stage.behave(0, ttft_seconds=0.02)
    fill(page, name="Long", url=stage.base_url(0), stop__seconds="60", max_tokens="3")
    start(page)
    expect(page.get_by_test_id("answered")).not_to_have_text("0")
    page.reload()
    expect(page.get_by_test_id("run-state")).to_have_text("running")
    page.goto("/")
    expect(page.get_by_test_id("live-card")).to_contain_text("1 user")
    expect(page.locator(".run-charts .chart-value").first).not_to_contain_text("–")
    page.get_by_role("button", name="Change …").click()
    dialog = page.get_by_role("dialog")
    fill(dialog, load__concurrency="0")
    dialog.get_by_role("button", name="Apply").click()
    expect(field(dialog, "load.concurrency")).to_have_attribute("aria-invalid", "true")
    fill(dialog, load__concurrency="4")
    dialog.get_by_role("button", name="Apply").click()
    expect(page.get_by_test_id("live-card")).to_contain_text("4 users")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    page.keyboard.press("x")
    result = expect_done(page, "stopped")
    expect(result.locator('[data-badge="changed"]')).to_be_visible()
    expect(result.locator('[data-badge="interrupted"]')).to_be_visible()
    assert tester.runs()["active"] == []


def test_the_kill_switch_cuts_what_hangs(page: Page, stage: Stage) -> None:
    stage.behave(0, ttft_seconds=60)
    fill(page, url=stage.base_url(0), load__concurrency="2", stop__seconds="60")
    start(page)
    expect(page.get_by_test_id("live-card")).to_contain_text(re.compile(r"2\s*in flight"))
    page.get_by_role("button", name="Stop everything").click()
    expect_done(page, "stopped")
    expect(page.get_by_role("button", name="Stop everything")).to_have_count(0)


def test_bad_input_stands_at_its_field(watched: Watched, stage: Stage) -> None:
    watched.allow("status of 422")
    page = watched.page
    fill(page, url="ftp://somewhere", load__concurrency="many")
    page.get_by_test_id("start").click()
    users = field(page, "load.concurrency")
    expect(users).to_have_attribute("aria-invalid", "true")
    expect(users).to_be_focused()
    fill(page, load__concurrency="100000")
    page.get_by_test_id("start").click()
    expect(field(page, "url")).to_be_focused()
    expect(page.get_by_text("http:// or https://")).to_be_visible()
    fill(page, url="http://127.0.0.1:1/v1")
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.get_by_test_id("trial")).to_contain_text("What to do")
    fill(page, url=stage.base_url(0))
    page.get_by_test_id("start").click()
    expect(page.get_by_text("LT_MAX_CONNECTIONS allows")).to_be_visible()
    field(page, "load").select_option("stages")
    fill(page, load__stages="fast")
    page.get_by_test_id("start").click()
    expect(page.get_by_text("is no stage")).to_be_visible()
    field(page, "load").select_option("poisson")
    fill(page, load__rate="0")
    page.get_by_test_id("start").click()
    expect(field(page, "load.rate")).to_have_attribute("aria-invalid", "true")
    expect(field(page, "load.rate")).to_be_focused()
    expect(page.get_by_test_id("card")).to_be_visible()


def test_paired_cards_state_what_the_balancer_costs_and_who_served(page: Page, stage: Stage) -> None:
    for place in (0, 1):
        stage.behave(place, ttft_seconds=0.01)
        endpoint = stage.add(f"gpu-{place}", place)
        stage.admin("PATCH", f"/endpoints/{endpoint}", {"connected": True})
    page.get_by_role("button", name=re.compile("^Cost of the balancer")).click()
    for place, url in enumerate((stage.base_url(0), f"{stage.url}/v1")):
        card = page.get_by_test_id("card").nth(place)
        fill(card, url=url, model=MODEL, load__rate="20", stop__seconds="", stop__requests="40", max_tokens="3")
    start(page)
    expect_done(page)
    paired = page.get_by_test_id("paired")
    expect(paired).to_contain_text("Through the balancer compared with Direct")
    expect(paired).to_contain_text(re.compile(r"TTFT.*95 % between"))
    expect(paired).to_contain_text("40 pairs")
    overview = page.get_by_test_id("overview").get_by_role("row")
    overview.first.get_by_role("button", name="E2E p50").click()
    expect(overview.first.get_by_role("columnheader", name="E2E p50")).to_have_attribute("aria-sort", "descending")
    served = page.get_by_test_id("endpoints")
    expect(served.get_by_role("row")).to_have_count(3)
    expect(served).to_contain_text("gpu-1")


def test_a_sweep_of_an_endpoint_is_handed_to_the_editor_which_asks(
    stage: Stage, make_stage: Callable[..., Stage], open_editor: OpenEditor, open_page: OpenPage, tester: Tester
) -> None:
    stage = make_stage(1, LB_LOAD_TESTER_URL=tester.url)
    endpoint = stage.add("gpu-1", 0, models=[MODEL])
    watched = open_editor(stage, path=f"/admin#/endpoint/{endpoint}")
    editor = watched.page
    editor.evaluate(
        "window.open = () => ({ location: { replace: (address) => { window.opened = address; } }, close() {} })"
    )
    editor.get_by_test_id("inspector").get_by_role("button", name="Load test").click()
    watched.eventually("() => window.opened")
    address = editor.evaluate("window.opened")
    assert address.startswith(f"{tester.url}/#/new?")
    asked = parse_qs(address.partition("?")[2])
    assert asked["url"] == [stage.base_url(0)] and asked["endpoint"] == [str(endpoint)]

    page = open_page(address.removeprefix(tester.url)).page
    expect(field(page, "url")).to_have_value(stage.base_url(0))
    expect(field(page, "model")).to_have_value(MODEL)
    stage.behave(0, ttft_seconds=0.01, tpot_seconds=0.001)
    field(page, "load").select_option("sweep")
    fill(page, load__most="4", load__step_seconds="1", max_tokens="3")
    start(page)
    expect_done(page)
    expect(page.get_by_test_id("steps")).to_contain_text("knee")
    link = page.get_by_role("link", name="Hand it to the editor").get_attribute("href")
    assert link is not None
    found = re.fullmatch(rf"{stage.url}/admin#/endpoint/{endpoint}\?suggest_max_concurrent=(\d+)", link)
    assert found is not None, link

    editor.goto("about:blank")
    editor.goto(link)
    suggestion = editor.get_by_test_id("suggested-most")
    expect(suggestion).to_contain_text(found[1])
    assert stage.endpoint("gpu-1")["max_concurrent"] == 0
    suggestion.get_by_role("button", name="Use").click()
    expect(suggestion).to_have_count(0)
    expect(editor.locator('[data-field="max_concurrent"]')).to_have_value(found[1])
    eventually(lambda: stage.endpoint("gpu-1")["max_concurrent"] == int(found[1]), "the suggestion to be saved")


def test_two_sweeps_are_compared_step_by_step(watched: Watched, stage: Stage) -> None:
    page = watched.page
    stage.behave(0, ttft_seconds=0.01, tpot_seconds=0.001)
    for name in ("Old driver", "New driver"):
        page.goto("/#/cards")
        field(page, "load").select_option("sweep")
        fill(page, url=stage.base_url(0), load__most="4", load__step_seconds="0.5", max_tokens="3")
        page.get_by_label("Name of the test").fill(name)
        start(page)
        expect_done(page)
    page.goto("/#/history")
    for name in ("Old driver", "New driver"):
        page.get_by_test_id("history").get_by_label(f"Compare {name}").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_test_id("compare").get_by_role("row", name="knee", exact=False).first).to_contain_text("users")
    steps = page.get_by_test_id("compare-steps")
    expect(steps).to_contain_text("4 users")
    expect(steps.get_by_role("row", name="TTFT p95").nth(2)).to_be_visible()
    looks: tuple[tuple[Literal["light", "dark"], int], ...] = (("light", 1440), ("dark", 800))
    for theme, width in looks:
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 900})
        watched.check_accessible()
        watched.shot(f"load-compare-sweeps-{theme}")


def _run_once(page: Page, url: str, name: str) -> None:
    page.goto("/#/cards")
    fill(page, url=url, stop__requests="5", max_tokens="3")
    page.get_by_label("Name of the test").fill(name)
    start(page)
    expect_done(page)


def test_history_notes_comparison_and_files(page: Page, open_page: OpenPage, stage: Stage, tmp_path: Path) -> None:
    _run_once(page, stage.base_url(0), "Before")
    page.get_by_label("Notes of this test").fill("with the old driver")
    page.get_by_label("Name of this test").focus()
    stage.behave(0, ttft_seconds=0.15)
    _run_once(page, stage.base_url(0), "After")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as report:
        page.get_by_role("menuitem", name="HTML report").click()
    with page.expect_download() as exported:
        page.keyboard.press("e")
    kept = tmp_path / "kept.json"
    exported.value.save_as(kept)
    assert json.loads(kept.read_text())["name"] == "After"

    page.get_by_role("button", name="History").click()
    history = page.get_by_test_id("history")
    expect(history).to_contain_text("with the old driver")
    for name in ("Before", "After"):
        history.get_by_label(f"Compare {name}").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", name="After compared with Before")).to_be_visible()
    expect(page.get_by_test_id("compare").get_by_role("row", name="TTFT p50")).to_contain_text("worse")

    page.get_by_role("button", name="History").first.click()
    history.get_by_role("button", name="Forget After").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(history).not_to_contain_text("After")
    page.get_by_label("File of a test").set_input_files(kept)
    expect(page.get_by_role("heading", name=re.compile("^After"))).to_be_visible()
    older = {"ts": 1, "cards": [{"config": {"url": "http://old:4000/v1", "key": "sk-1", "total": 7}, "stats": {}}]}
    (tmp_path / "older.json").write_text(json.dumps(older))
    page.get_by_role("button", name="History").click()
    page.get_by_label("File of a test").set_input_files(tmp_path / "older.json")
    expect(page.get_by_role("region", name="Notices")).to_contain_text("Its keys were left out")
    expect(field(page, "url")).to_have_value("http://old:4000/v1")
    expect(field(page, "stop.requests")).to_have_value("7")

    offline = tmp_path / "report.html"
    report.value.save_as(offline)
    reading = page.context.new_page()
    reading.goto(offline.as_uri())
    expect(reading.get_by_role("heading", name=re.compile("After")).first).to_be_visible()
    reading.close()


def test_a_key_is_held_by_the_server_alone(page: Page, stage: Stage) -> None:
    secret = "sk-browser-secret-123456"
    fill(page, url=stage.base_url(0), key=secret, stop__requests="2")
    field(page, "name").focus()
    expect(page.get_by_test_id("card")).to_contain_text("sk-b...3456")
    page.get_by_role("button", name="Profiles").click()
    page.get_by_role("menuitem", name="Save these cards").click()
    page.get_by_label("Name", exact=True).last.fill("Nightly")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("region", name="Notices")).to_contain_text("Profile saved: Nightly")
    page.reload()
    expect(page.get_by_test_id("card")).to_contain_text("sk-b...3456")
    stored = page.evaluate("JSON.stringify({ ...localStorage, ...sessionStorage })")
    assert secret not in stored and secret not in page.content()
    page.get_by_role("button", name="Forget").click()
    expect(field(page, "key")).to_have_value("")


def test_all_of_it_by_keyboard(page: Page, stage: Stage) -> None:
    fill(page, url=stage.base_url(0), stop__requests="3", max_tokens="3")
    page.locator("h2").first.click()
    page.keyboard.press("n")
    expect(page.get_by_test_id("card")).to_have_count(2)
    expect(field(page, "url").nth(1)).to_have_value(stage.base_url(0))
    page.get_by_role("button", name="Remove the card").last.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("card")).to_have_count(1)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Help")).to_contain_text("Start all cards")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("s")
    expect_done(page)
    page.keyboard.press("h")
    expect(page.get_by_test_id("history")).to_be_visible()
    page.keyboard.press("r")
    expect(page.get_by_test_id("card-result")).to_be_visible()


def test_a_load_tester_that_is_started_again_asks_for_nothing_but_keys(
    watched: Watched, stage: Stage, tester: Tester
) -> None:
    watched.allow("status of 40[14]|ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY|ERR_SOCKET|Failed to load")
    page = watched.page
    fill(page, name="Kept", url=stage.base_url(0), key="sk-for-a-while-123", stop__requests="3", max_tokens="3")
    field(page, "name").focus()
    expect(page.get_by_role("button", name="Forget")).to_be_visible()
    tester.restart()
    page.keyboard.press("Escape")
    page.get_by_test_id("start").click()
    expect(page.get_by_role("region", name="Notices")).to_contain_text("was started again")
    expect(field(page, "key")).to_have_value("")
    expect(field(page, "name")).to_have_value("Kept")
    start(page)
    expect_done(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_is_accessible_and_fits(
    open_page: OpenPage, stage: Stage, theme: Literal["light", "dark"], tester: Tester
) -> None:
    watched = open_page(color_scheme=theme, viewport={"width": 800, "height": 900})
    page = watched.page
    expect(page.get_by_test_id("card")).to_be_visible()
    page.get_by_text("Advanced").click()
    watched.check_accessible()
    watched.shot(f"load-cards-{theme}")
    fill(page, url=stage.base_url(0), load__concurrency="x")
    page.get_by_test_id("start").click()
    watched.check_accessible()
    stage.behave(0, ttft_seconds=0.05)
    fill(page, load__concurrency="2", stop__seconds="60", max_tokens="3")
    start(page)
    expect(page.get_by_test_id("answered")).not_to_have_text("0")
    watched.check_accessible()
    watched.shot(f"load-running-{theme}")
    page.keyboard.press("x")
    expect_done(page, "stopped")
    watched.check_accessible()
    watched.shot(f"load-results-{theme}")
    assert page.evaluate("document.querySelector('main').scrollWidth") <= 800
    run = tester.runs()["past"][0]["id"]
    for view in ("#/history", f"#/compare/{run}/{run}"):
        page.goto(f"/{view}")
        expect(page.get_by_role("table").first).to_be_visible()
        watched.check_accessible()


def test_where_a_token_is_needed_it_is_asked_for(tmp_path: Path, open_page: OpenPage) -> None:
    directory = tmp_path / "guarded"
    directory.mkdir()
    with Tester(directory, LT_TOKEN="a-token-of-the-test") as guarded:
        watched = open_page(url=guarded.url)
        watched.allow("status of 401")
        page = watched.page
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_text("This is not the token.")).to_be_visible()
        watched.check_accessible()
        page.get_by_label("Token").fill("a-token-of-the-test")
        page.keyboard.press("Enter")
        expect(page.get_by_test_id("card")).to_be_visible()
        page.close()


def test_the_page_is_small() -> None:
    bundle = read_bundle(Path(__file__).parents[2] / "webui" / "dist", "loadtest")
    scripts = [bundle.script, *(name for name in bundle.preloads if name.endswith(".js"))]
    size = sum(len(bundle.assets[name].packed or bundle.assets[name].content) for name in scripts)
    assert size <= MOST_KILOBYTES * 1000, size
