"""The canvas as a place: selecting, moving, tidying, zooming, themes, and hands that are quicker than the network."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.conftest import OpenEditor
from tests.browser.desk import Desk, Point
from tests.browser.stage import Stage, eventually

POINT_ON_WIRE = """
    (path) => {
        const at = path.getPointAtLength(path.getTotalLength() * 0.3);
        const on = at.matrixTransform(path.getScreenCTM());
        return [on.x, on.y];
    }
"""


def places(stage: Stage) -> dict[str, Point]:
    return {each["name"]: (each["pos_x"], each["pos_y"]) for each in stage.state()["endpoints"]}


def two(stage: Stage) -> tuple[int, int]:
    return (
        stage.add("gpu-1", 0, connected=True, token_quota_percent=50, pos_x=820, pos_y=100),
        stage.add("gpu-2", 1, connected=True, token_quota_percent=50, pos_x=820, pos_y=400),
    )


def test_a_wire_that_is_clicked_is_cut_by_delete(stage: Stage, open_editor: OpenEditor) -> None:
    one, other = two(stage)
    desk = Desk(open_editor(stage))
    path = desk.wire(one).locator("path.wire")
    desk.rest()
    desk.page.mouse.click(*path.evaluate(POINT_ON_WIRE))
    expect(desk.wire(one)).to_have_class(re.compile("selected"))
    desk.press("Delete")
    desk.expect_cut(one)
    desk.expect_wired(other)
    expect(desk.node(one)).to_be_visible()


def test_a_switch_that_is_pressed_quickly_ends_as_it_was_pressed_last(stage: Stage, open_editor: OpenEditor) -> None:
    one, _ = two(stage)
    desk = Desk(open_editor(stage))
    for _ in range(5):
        desk.switch("gpu-1").click()
    expect(desk.switch("gpu-1")).to_have_attribute("aria-checked", "false")
    desk.expect_saved()
    desk.expect_cut(one)
    assert not stage.endpoint("gpu-1")["connected"]
    for _ in range(5):
        desk.press("Control+z")
    # Wired it is behind the first and the third as well.
    expect(desk.undo_button).to_be_disabled()
    desk.expect_wired(one)
    assert stage.endpoint("gpu-1")["connected"]


def test_all_are_selected_disabled_and_let_go(stage: Stage, open_editor: OpenEditor) -> None:
    one, other = two(stage)
    desk = Desk(open_editor(stage))
    before = stage.state()["revision"]
    desk.press("Control+a")
    expect(desk.page.locator(".react-flow__node.selected")).to_have_count(2)
    desk.press("e")
    desk.dialog.get_by_role("button", name="Disable").click()
    for identifier in (one, other):
        expect(desk.node(identifier)).to_contain_text("disabled")
    desk.expect_saved()
    assert stage.state()["revision"] == before + 1
    desk.press("Control+z")
    expect(desk.node(one)).not_to_contain_text("disabled")
    desk.canvas.focus()
    desk.press("Escape")
    expect(desk.page.locator(".react-flow__node.selected")).to_have_count(0)


def test_tidying_saves_the_places_and_is_undone(stage: Stage, open_editor: OpenEditor) -> None:
    one, _ = two(stage)
    stage.admin("PATCH", "/layout", {"endpoints": {str(one): {"x": 1333, "y": -777}}})
    before = places(stage)
    desk = Desk(open_editor(stage))
    desk.canvas.focus()
    desk.press("Shift+t")
    eventually(lambda: places(stage) != before, "the new places")
    assert places(stage)["gpu-1"] != before["gpu-1"]
    desk.press("Control+z")
    eventually(lambda: places(stage) == before, "the old places")


def test_several_are_moved_together(stage: Stage, open_editor: OpenEditor) -> None:
    one, other = two(stage)
    before = places(stage)
    desk = Desk(open_editor(stage))
    desk.select(one)
    desk.select(other, also=True)
    grip = desk.middle(desk.node(one).locator(".endpoint-name"))
    desk.drag(grip, (grip[0] + 80, grip[1] - 40))
    eventually(lambda: all(places(stage)[name] != before[name] for name in before), "both moved")
    moved = places(stage)
    assert {(moved[name][0] - before[name][0], moved[name][1] - before[name][1]) for name in before} == {
        (moved["gpu-1"][0] - before["gpu-1"][0], moved["gpu-1"][1] - before["gpu-1"][1])
    }


def test_a_grabbed_node_goes_back_with_escape(stage: Stage, open_editor: OpenEditor) -> None:
    one, _ = two(stage)
    before = places(stage)
    desk = Desk(open_editor(stage))
    desk.select(one)
    desk.canvas.focus()
    desk.press(" ", "ArrowRight", "ArrowRight", "ArrowDown")
    eventually(lambda: places(stage) != before, "the move")
    desk.press("Escape")
    eventually(lambda: places(stage) == before, "the old place")
    desk.press(" ", "ArrowRight", "ArrowRight", "ArrowDown", " ")
    eventually(lambda: places(stage) != before, "the move")
    desk.undo_button.click()
    eventually(lambda: places(stage) == before, "the old place")
    expect(desk.undo_button).to_be_disabled()


def test_zoom_and_fit_by_key(stage: Stage, open_editor: OpenEditor) -> None:
    one, _ = two(stage)
    desk = Desk(open_editor(stage, reduced_motion="reduce"))
    desk.canvas.focus()
    width = desk.node(one).evaluate("(node) => node.getBoundingClientRect().width")
    desk.press("+", "+")
    desk.editor.eventually(
        "([id, before]) => document.getElementById(id).getBoundingClientRect().width > before * 1.2",
        [f"node-endpoint-{one}", width],
    )
    desk.press("f")
    desk.editor.eventually(
        "([id, before]) => Math.abs(document.getElementById(id).getBoundingClientRect().width - before) < 2",
        [f"node-endpoint-{one}", width],
    )


def test_the_theme_is_kept(stage: Stage, open_editor: OpenEditor) -> None:
    desk = Desk(open_editor(stage, color_scheme="light"))
    page = desk.page.locator("html")
    expect(page).to_have_attribute("data-theme", "light")
    desk.press("Shift+d", "Shift+d")
    expect(page).to_have_attribute("data-theme", "dark")
    desk.page.reload()
    expect(page).to_have_attribute("data-theme", "dark")


def test_a_link_to_an_endpoint_that_is_gone_does_no_harm(stage: Stage, open_editor: OpenEditor) -> None:
    one, _ = two(stage)
    desk = Desk(open_editor(stage, path="/admin#/endpoint/999999"))
    expect(desk.node(one)).to_be_visible()
    expect(desk.inspector).to_have_count(0)
    desk.press("Delete", "c", "t", "Enter")
    desk.expect_wired(one)


def test_what_another_deletes_while_it_is_inspected_is_gone_without_harm(stage: Stage, open_editor: OpenEditor) -> None:
    editor = open_editor(stage)
    editor.allow("status of (404|409)")
    one, other = two(stage)
    desk = Desk(editor)
    desk.select(one)
    desk.press("Enter")
    desk.field("name").fill("half typed")
    stage.admin("DELETE", f"/endpoints/{one}")
    expect(desk.node(one)).to_have_count(0)
    expect(desk.inspector).to_have_count(0)
    expect(desk.node(other)).to_be_visible()
    desk.expect_toast("gpu-1 was deleted by another operator meanwhile.")
    expect(desk.dialog).to_have_count(0)
    desk.expect_saved()
    desk.expect_wired(other)


def test_connection_test_says_what_was_found(stage: Stage, open_editor: OpenEditor) -> None:
    one, _ = two(stage)
    stage.behave(1, api_key="sk-right")
    desk = Desk(open_editor(stage))
    desk.select(one)
    desk.press("t")
    desk.expect_toast(re.compile(r"gpu-1: .+\d ms"))
    desk.select(one)
    desk.press("Enter")
    desk.button("Test connection").click()
    expect(desk.page.get_by_test_id("test-result")).to_contain_text("fake-model")


def test_several_are_selected_by_key_and_cut_as_one_change(stage: Stage, open_editor: OpenEditor) -> None:
    ids = [stage.add(f"gpu-{place}", place % 3, connected=True, pos_x=820, pos_y=180 * place) for place in range(3)]
    desk = Desk(open_editor(stage))
    desk.select(ids[0])
    desk.canvas.focus()
    desk.press("Shift+ArrowDown", "Shift+ArrowDown")
    for each in ids:
        expect(desk.page.locator(f'[data-id="endpoint-{each}"].selected')).to_be_visible()
    desk.press("ArrowUp", "Shift+ArrowUp")
    expect(desk.page.locator(f'[data-id="endpoint-{ids[2]}"].selected')).to_have_count(0)
    before = stage.state()["revision"]
    desk.press("Delete")
    for each in ids[:2]:
        desk.expect_cut(each)
    desk.expect_saved()
    desk.expect_wired(ids[2])
    assert stage.state()["revision"] == before + 1
