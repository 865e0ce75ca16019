"""The page at /admin in a real browser: it loads, nothing leaves its origin, its policy holds."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenEditor
from tests.browser.desk import Desk
from tests.browser.stage import Stage
from tests.browser.watched import Watched

# All scripts of the editor together, as they travel.
MOST_SCRIPT_BYTES = 220_000


def test_the_scripts_are_small(stage: Stage, open_editor: OpenEditor) -> None:
    desk = Desk(open_editor(stage))
    desk.canvas.focus()
    desk.press("2")  # charts, which come when they are asked for
    expect(desk.page.get_by_role("tabpanel", name="Charts")).not_to_contain_text("Loading")
    sizes = desk.page.evaluate(
        """() => Object.fromEntries(performance.getEntriesByType("resource")
            .filter((each) => each.name.endsWith(".js")).map((each) => [each.name, each.encodedBodySize]))"""
    )
    assert any("Charts" in name for name in sizes), sizes
    assert sum(sizes.values()) <= MOST_SCRIPT_BYTES, sizes


def test_the_page_loads_under_its_policy(stage: Stage, open_editor: OpenEditor) -> None:
    editor = open_editor(stage, path="/")
    page = editor.page
    assert page.url.startswith(f"{stage.url}/admin")
    expect(page.locator("#root > *").first).to_be_visible()
    answer = stage.client.get("/admin")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert answer.headers["cache-control"] == "no-store"


def test_its_policy_stops_what_is_not_its_own(editor: Watched) -> None:
    editor.allow("policy: ")
    editor.allow("Content Security Policy|violates")
    editor.page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.x=1'}))")
    editor.expect_complaint("policy: script-src")
    assert editor.page.evaluate("window.x === undefined")


def test_a_tab_beside_another_is_watched_too(stage: Stage, editor: Watched, open_editor: OpenEditor) -> None:
    second = open_editor(stage, beside=editor)
    second.page.evaluate("console.error('seen')")
    second.allow("seen")
    second.expect_complaint("seen")
    assert second.page.context is editor.page.context and not editor.complaints


def test_the_watch_sees_what_it_should(editor: Watched) -> None:
    editor.page.evaluate("console.error('seen')")
    editor.expect_complaint("seen")
    with pytest.raises(AssertionError, match="console error: seen"):
        editor.check()
    editor.allow("seen")
    editor.check()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_first_page_is_accessible(stage: Stage, open_editor: OpenEditor, theme: str) -> None:
    editor = open_editor(stage, color_scheme=theme)
    expect(editor.page.locator("#root > *").first).to_be_visible()
    editor.check_accessible()
    editor.shot(f"empty-{theme}")


def test_the_stage_routes_to_its_backends(stage: Stage) -> None:
    stage.add("one", 0, connected=True, token_quota_percent=100)
    stage.add("two", 1)
    assert stage.served_by(3) == {"one": 3}
    assert (stage.received(0), stage.received(1)) == (3, 0)
    stage.behave(0, fault="status", fault_status=500)
    assert stage.chat().status_code == 500
    stage.restart()
    assert stage.endpoint("one")["connected"]
