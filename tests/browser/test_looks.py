"""What all must be able to read and reach: accessibility in both themes, narrow and zoomed pages, names as text."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenEditor
from tests.browser.desk import Desk
from tests.browser.stage import Stage, eventually

THEMES = pytest.mark.parametrize("theme", ["light", "dark"])
DRAWER = ["Requests", "Charts", "Changes", "Client tokens", "Settings"]
MARKUP = "<img src=x onerror=window.broken=1><b>bold</b>"

# What in `root` is out of the window, cut off, or under something else that can be used.
CROWDED = """
    (root) => {
        const shown = (each) => each.checkVisibility({ visibilityProperty: true }) && each.getClientRects().length > 0;
        const name = (each) => each.getAttribute("aria-label") || each.textContent.trim() || each.className;
        const all = [...document.querySelectorAll(root)].flatMap((each) =>
            [...each.querySelectorAll("button, input, select, textarea, a, [role=slider]")]).filter(shown);
        const boxes = all.map((each) => [each, each.getBoundingClientRect()]);
        // What stays in place while the rest scrolls beneath it.
        const foot = (each) => {
            for (let at = each; at; at = at.parentElement)
                if (["sticky", "fixed"].includes(getComputedStyle(at).position)) return at;
            return null;
        };
        const found = [];
        for (const [each, box] of boxes) {
            if (box.left < -1 || box.right > innerWidth + 1) found.push(`${name(each)} is out of the window`);
            const isCut = each.tagName === "BUTTON" && each.scrollWidth > each.clientWidth + 1;
            if (isCut) found.push(`${name(each)} is cut`);
        }
        for (const [at, [one, box]] of boxes.entries()) {
            for (const [other, over] of boxes.slice(at + 1)) {
                if (one.contains(other) || other.contains(one) || foot(one) !== foot(other)) continue;
                const wide = Math.min(box.right, over.right) - Math.max(box.left, over.left);
                const high = Math.min(box.bottom, over.bottom) - Math.max(box.top, over.top);
                if (wide > 1 && high > 1) found.push(`${name(one)} and ${name(other)} overlap`);
            }
        }
        const page = document.documentElement;
        if (page.scrollWidth > innerWidth + 1) {
            const out = [...document.querySelectorAll("body *")].filter(
                (each) => shown(each) && each.getBoundingClientRect().right > innerWidth + 1);
            found.push(`the page is ${page.scrollWidth} wide: ${out.map((each) => each.className).join(", ")}`);
        }
        return found;
    }
"""


def expect_room(desk: Desk, root: str) -> None:
    """Nothing is crowded once the page has come to rest."""
    found: list[str] = []

    def has_room() -> bool:
        found[:] = desk.page.evaluate(CROWDED, root)
        return not found

    try:
        eventually(has_room)
    except AssertionError:
        raise AssertionError("\n".join(found)) from None


def full(stage: Stage) -> list[int]:
    """Endpoints in every state that can be had at once, and some traffic."""
    ids = [
        stage.add("gpu-serving", 0, connected=True, token_quota_percent=60, pos_x=820, pos_y=0),
        stage.add("gpu-ready", 1, connected=True, token_quota_percent=40, pos_x=820, pos_y=180),
        stage.add("gpu-down", "http://127.0.0.1:9/v1", connected=True, pos_x=820, pos_y=360),
        stage.add("gpu-off", 2, connected=True, enabled=False, pos_x=820, pos_y=540),
        stage.add("gpu-loose", 2, pos_x=820, pos_y=720),
    ]
    stage.served_by(6)
    return ids


@THEMES
def test_login_and_canvas_are_accessible(stage: Stage, open_editor: OpenEditor, theme: Any) -> None:
    out = open_editor(stage, logged_in=False, color_scheme=theme, reduced_motion="reduce")
    out.allow("status of 401")
    expect(out.page.get_by_label("Admin token")).to_be_visible()
    out.check_accessible()
    desk = Desk(open_editor(stage, color_scheme=theme, reduced_motion="reduce"))
    expect(desk.page.get_by_role("region", name="No receiver")).to_be_visible()
    desk.editor.check_accessible()
    one, *_ = full(stage)
    expect(desk.node(one)).to_contain_text("serving")
    desk.editor.check_accessible()
    desk.select(one)
    desk.press("Enter")
    expect(desk.inspector).to_contain_text("Base URL")
    desk.inspector.get_by_text("More settings").click()
    desk.editor.check_accessible()
    desk.editor.shot(f"canvas-{theme}")
    desk.press("Control+a")
    expect(desk.inspector).to_contain_text("5 endpoints")
    desk.editor.check_accessible()


@THEMES
def test_table_and_drawer_are_accessible(stage: Stage, open_editor: OpenEditor, theme: Any) -> None:
    full(stage)
    desk = Desk(open_editor(stage, color_scheme=theme, reduced_motion="reduce"))
    desk.show_table()
    desk.table.get_by_role("checkbox", name="Select gpu-serving").check()
    desk.editor.check_accessible()
    desk.editor.shot(f"table-{theme}")
    desk.button("Table").click()
    desk.switch("gpu-loose").click()
    desk.expect_toast("gpu-loose connected")
    for place, tab in enumerate(DRAWER):
        desk.canvas.focus()
        desk.press(str(place + 1))
        panel = desk.page.get_by_role("tabpanel", name=tab)
        expect(panel).to_be_visible()
        expect(panel).not_to_contain_text("Loading")
        desk.editor.check_accessible()
        desk.editor.shot(f"drawer-{place + 1}-{theme}")
    desk.press("Escape")


@THEMES
def test_dialogs_are_accessible(stage: Stage, open_editor: OpenEditor, theme: Any) -> None:
    only = stage.add("gpu-1", 0, connected=True, token_quota_percent=100, pos_x=820, pos_y=100)
    stage.served_by(2)
    desk = Desk(open_editor(stage, color_scheme=theme, reduced_motion="reduce"))
    for key, text in {"n": "Add endpoint", "?": "Keys and legend", "Control+k": "", "Control+o": "Import"}.items():
        desk.canvas.focus()
        desk.press(key)
        expect(desk.dialog).to_contain_text(text)
        desk.editor.check_accessible()
        desk.press("Escape")
        expect(desk.dialog).to_have_count(0)
    desk.choose_mode("Priority")
    desk.editor.check_accessible()
    desk.press("Escape")
    desk.button(f"Cut the wire to {stage.state()['endpoints'][0]['name']}").click()
    expect(desk.dialog).to_contain_text("Disconnect the last endpoint?")
    desk.editor.check_accessible()
    desk.press("Escape")
    expect(desk.dialog).to_have_count(0)
    desk.expect_wired(only)
    desk.button("More").click()
    expect(desk.page.get_by_role("menu", name="More")).to_be_visible()
    desk.editor.check_accessible()


@pytest.mark.parametrize(
    "window",
    [
        pytest.param({"viewport": {"width": 320, "height": 640}}, id="320 px"),
        pytest.param({"viewport": {"width": 720, "height": 450}, "device_scale_factor": 2}, id="zoom 200 %"),
        pytest.param({"viewport": {"width": 1024, "height": 768}}, id="1024 px"),
    ],
)
def test_nothing_is_cut_off_or_covered(
    stage: Stage, open_editor: OpenEditor, window: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    one, *_ = full(stage)
    desk = Desk(open_editor(stage, path=f"/admin#/endpoint/{one}", reduced_motion="reduce", **window))
    expect(desk.inspector).to_be_visible()
    desk.editor.shot(f"narrow-{window['viewport']['width']}-inspector")
    expect_room(desk, ".inspector")
    desk.inspector.get_by_role("button", name="Close the inspector").click()
    expect_room(desk, ".topbar")
    expect_room(desk, ".topbar, .quotas")
    desk.editor.check_accessible()
    desk.editor.shot(f"narrow-{window['viewport']['width']}-canvas")
    desk.button("Endpoint").click()
    expect_room(desk, "dialog")
    desk.editor.shot(f"narrow-{window['viewport']['width']}-dialog")


def test_names_with_markup_are_text(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add(MARKUP, 0, connected=True, token_quota_percent=50, pos_x=820, pos_y=100, tags=[MARKUP])
    stage.add("gpu-2", 1, connected=True, token_quota_percent=50, pos_x=820, pos_y=400)
    stage.served_by(2)
    desk = Desk(open_editor(stage))
    expect(desk.node(one).locator(".endpoint-name")).to_have_text(MARKUP)
    desk.select(one)
    desk.press("Enter")
    expect(desk.inspector.get_by_role("heading").first).to_have_text(MARKUP)
    for key in "123":
        desk.canvas.focus()
        desk.press(key)
        expect(desk.page.get_by_role("tabpanel")).not_to_contain_text("Loading")
    desk.canvas.focus()
    desk.press("Control+k")
    expect(desk.dialog.get_by_role("combobox")).to_be_focused()
    desk.page.keyboard.type("bold")
    expect(desk.dialog.get_by_role("option").first).to_contain_text(MARKUP)
    desk.press("Escape")
    expect(desk.dialog).to_have_count(0)
    desk.press("Delete")
    desk.expect_toast(f"{MARKUP} disconnected")
    desk.show_table()
    expect(desk.table).to_contain_text(MARKUP)
    assert desk.page.evaluate("() => window.broken") is None
    assert desk.page.locator("img").count() == 0


def test_what_is_wrong_stands_at_its_field(stage: Stage, open_editor: OpenEditor) -> None:
    editor = open_editor(stage)
    editor.allow("status of (422|409)")
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, pos_x=820, pos_y=400)
    desk = Desk(editor)
    desk.select(one)
    desk.press("Enter")
    for field, text, words in [
        ("max_concurrent", "-3", "0"),
        ("name", "gpu-2", "name"),
        ("base_url", "ftp://host", "http"),
    ]:
        control = desk.field(field)
        control.fill(text)
        control.press("Enter")
        if field == "base_url":  # of a connected endpoint
            desk.dialog.get_by_role("button", name="Change").click()
        expect(control).to_have_attribute("aria-invalid", "true")
        described = control.get_attribute("aria-describedby") or ""
        problem = desk.page.locator(f"#{described.split()[-1]}")
        expect(problem).to_have_text(re.compile(words))
        expect(control).to_have_value(text)
        control.press("Escape")
        expect(control).not_to_have_attribute("aria-invalid", "true")
    desk.editor.check_accessible()
    found = stage.endpoint("gpu-1")
    assert (found["max_concurrent"], found["base_url"]) == (0, stage.base_url(0))
    desk.field("max_concurrent").fill("8")
    desk.field("max_concurrent").press("Enter")
    eventually(lambda: stage.endpoint("gpu-1")["max_concurrent"] == 8, "the right value")
    expect(desk.node(one)).to_contain_text("/ 8")


def test_an_endpoint_that_fails_says_why(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, token_quota_percent=100, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, pos_x=820, pos_y=400)
    desk = Desk(open_editor(stage))
    stage.behave(0, fault="status", fault_status=500)
    for _ in range(8):
        stage.chat()
    badge = desk.node(one).locator(".badge")
    expect(badge).to_have_text(re.compile(r"cooling \d+ s|down|trying"))
    desk.select(one)
    desk.press("Enter")
    expect(desk.inspector).to_contain_text(re.compile("500|fail", re.I))


def test_live_numbers_can_be_paused(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, token_quota_percent=100, pos_x=820, pos_y=100)
    desk = Desk(open_editor(stage))
    desk.canvas.focus()
    desk.press("p")
    banner = desk.page.get_by_text("The live numbers stand still.")
    expect(banner).to_be_visible()
    stage.served_by(3)
    expect(desk.node(one)).to_contain_text("ready")
    desk.button("Go on").click()
    expect(banner).to_have_count(0)
    expect(desk.node(one)).to_contain_text("serving")
