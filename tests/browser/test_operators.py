"""Two operators at once, and what happens when the balancer, the session or the page goes away in between."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Route, expect

from tests.browser.conftest import OpenEditor
from tests.browser.desk import Desk
from tests.browser.stage import ADMIN_TOKEN, Stage, eventually


def inspect(desk: Desk, endpoint_id: int) -> None:
    desk.select(endpoint_id)
    desk.press("Enter")
    expect(desk.inspector).to_be_visible()


def test_the_other_operator_sees_changes_with_the_next_state(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, token_quota_percent=50, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, token_quota_percent=50, pos_x=820, pos_y=400)
    mine, theirs = Desk(open_editor(stage)), Desk(open_editor(stage))
    theirs.expect_wired(one)
    mine.switch("gpu-1").click()
    mine.expect_saved()
    eventually(lambda: not stage.endpoint("gpu-1")["connected"], "the cut")
    theirs.page.bring_to_front()
    theirs.expect_cut(one)


def test_disjoint_changes_are_put_together(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, pos_x=820, pos_y=400)
    editor = open_editor(stage)
    editor.allow("status of 409")
    desk = Desk(editor)
    inspect(desk, one)
    most = desk.field("max_concurrent")
    most.fill("7")
    stage.admin("PATCH", f"/endpoints/{one}", {"name": "renamed"})
    most.press("Enter")
    desk.expect_toast("Merged with what another operator changed meanwhile.")
    desk.expect_saved()
    found = stage.endpoint("renamed")
    assert found["max_concurrent"] == 7
    expect(desk.node(one)).to_contain_text("renamed")
    expect(desk.dialog).to_have_count(0)


def test_the_focus_goes_on_where_an_inspected_endpoint_is_deleted(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    two = stage.add("gpu-2", 1, connected=True, pos_x=820, pos_y=400)
    desk = Desk(open_editor(stage))
    inspect(desk, one)
    desk.field("max_concurrent").focus()
    stage.admin("DELETE", f"/endpoints/{one}")
    expect(desk.inspector).to_have_count(0)
    expect(desk.page.locator("[data-canvas]")).to_be_focused()
    inspect(desk, two)  # the keys go on


def drag_border_against(desk: Desk, stage: Stage, their_percent: int) -> None:
    """Move a border; just before it is let go, another operator sets the same quota."""
    x, y = desk.middle(desk.page.get_by_role("slider", name="Quota of gpu-1"))
    desk.drag((x, y), (x + 200, y), drop=False)
    expect(desk.consequence).to_be_visible()
    stage.admin("PATCH", f"/endpoints/{stage.endpoint('gpu-1')['id']}", {"token_quota_percent": their_percent})
    desk.page.mouse.up()
    expect(desk.dialog).to_contain_text("Another operator changed the same")
    expect(desk.dialog).to_contain_text("gpu-1: Token quota")
    expect(desk.dialog).to_contain_text(f"{their_percent} %")


def two_at(stage: Stage) -> None:
    stage.add("gpu-1", 0, connected=True, token_quota_percent=50, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, token_quota_percent=50, pos_x=820, pos_y=400)


def test_the_same_field_mine_holds_if_chosen(stage: Stage, open_editor: OpenEditor) -> None:
    two_at(stage)
    editor = open_editor(stage)
    editor.allow("status of 409")
    desk = Desk(editor)
    drag_border_against(desk, stage, 10)
    assert stage.endpoint("gpu-1")["token_quota_percent"] == 10
    editor.check_accessible()
    desk.dialog.get_by_role("button", name="Use mine").click()
    eventually(lambda: stage.endpoint("gpu-1")["token_quota_percent"] > 50, "mine")
    expect(desk.page.get_by_test_id("quota-sum")).to_have_text("Sum 100 %")


def test_the_same_field_theirs_holds_if_chosen(stage: Stage, open_editor: OpenEditor) -> None:
    two_at(stage)
    editor = open_editor(stage)
    editor.allow("status of 409")
    desk = Desk(editor)
    drag_border_against(desk, stage, 10)
    desk.dialog.get_by_role("button", name="Keep theirs").click()
    expect(desk.dialog).to_have_count(0)
    expect(desk.page.get_by_role("slider", name="Quota of gpu-1")).to_have_attribute("aria-valuenow", "10")
    assert stage.endpoint("gpu-1")["token_quota_percent"] == 10
    assert stage.endpoint("gpu-2")["token_quota_percent"] == 50
    expect(desk.undo_button).to_be_disabled()


def test_a_question_stands_above_a_form_and_nothing_typed_is_lost(stage: Stage, open_editor: OpenEditor) -> None:
    two_at(stage)
    editor = open_editor(stage)
    editor.allow("status of 409")
    desk = Desk(editor)
    held: list[Route] = []
    desk.page.route("**/admin/api/endpoints", lambda route: held.append(route), times=1)
    desk.page.get_by_role("slider", name="Quota of gpu-1").press("ArrowRight")
    eventually(lambda: desk.page.evaluate("1") and held, "the change on its way")
    stage.admin("PATCH", f"/endpoints/{stage.endpoint('gpu-1')['id']}", {"token_quota_percent": 10})
    desk.button("Endpoint").click()
    desk.page.get_by_label("Address").fill("http://half-typed/v1")
    held[0].continue_()
    question = desk.page.get_by_role("dialog", name="Another operator changed the same")
    question.get_by_role("button", name="Keep theirs").click()
    expect(question).to_have_count(0)
    expect(desk.page.get_by_label("Address")).to_have_value("http://half-typed/v1")
    expect(desk.page.get_by_label("Address")).to_be_focused()
    assert stage.endpoint("gpu-1")["token_quota_percent"] == 10


def test_positions_never_conflict_and_outlive_a_reload(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    mine, theirs = Desk(open_editor(stage)), Desk(open_editor(stage))
    before = stage.state()["revision"]
    grip = theirs.middle(theirs.node(one).locator(".endpoint-name"))
    theirs.drag(grip, (grip[0] + 60, grip[1] + 200))
    grip = mine.middle(mine.node(one).locator(".endpoint-name"))
    mine.drag(grip, (grip[0] - 40, grip[1] + 120))
    eventually(lambda: stage.endpoint("gpu-1")["pos_y"] not in (100,), "a place")
    mine.page.reload()
    desk = Desk(mine.editor)
    expect(desk.node(one)).to_be_visible()
    eventually(lambda: stage.endpoint("gpu-1")["pos_y"] not in (100,), "a place")
    assert stage.state()["revision"] == before
    for each in (mine, theirs):
        expect(each.dialog).to_have_count(0)


def test_a_move_just_before_the_page_is_left_is_kept(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    desk = Desk(open_editor(stage))
    grip = desk.middle(desk.node(one).locator(".endpoint-name"))
    desk.drag(grip, (grip[0], grip[1] + 200))
    desk.page.reload()
    eventually(lambda: stage.endpoint("gpu-1")["pos_y"] > 150, "the place")


def test_a_reload_keeps_all(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, pos_x=820, pos_y=100)
    desk = Desk(open_editor(stage))
    desk.switch("gpu-1").click()
    desk.expect_wired(one)
    inspect(desk, one)
    expect(desk.page).to_have_url(re.compile(f"#/endpoint/{one}$"))
    desk.expect_saved()
    desk.page.reload()
    desk = Desk(desk.editor)
    desk.expect_wired(one)
    expect(desk.inspector).to_contain_text("gpu-1")
    assert stage.served_by(1) == {"gpu-1": 1}


def test_the_balancer_goes_and_comes_back_and_nothing_is_lost(
    make_stage: Callable[..., Stage], open_editor: OpenEditor
) -> None:
    stage = make_stage()
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    two = stage.add("gpu-2", 1, pos_x=820, pos_y=400)
    editor = open_editor(stage)
    editor.allow("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET")
    desk = Desk(editor)
    inspect(desk, one)
    desk.field("name").fill("half typed")
    stage.stop()
    banner = desk.page.locator(".banner.bad")
    expect(banner).to_contain_text(re.compile(r"Trying again in \d+ s"))
    # Said once: the seconds are no part of what is read out.
    expect(banner.get_by_role("alert")).to_contain_text("What you see may be old")
    expect(banner.get_by_role("alert")).not_to_contain_text("Trying again")
    editor.check_accessible()
    desk.switch("gpu-2").click()
    desk.expect_wired(two)
    stage.start()
    # At once: the countdown may come to its end meanwhile, and the banner with it.
    desk.page.evaluate("() => document.querySelector('.banner.bad button')?.click()")
    expect(banner).to_have_count(0)
    eventually(lambda: stage.endpoint("gpu-2")["connected"], "what waited")
    desk.expect_saved()
    assert stage.endpoint("half typed")["id"] == one
    desk.expect_wired(two)
    assert sum(stage.served_by(4).values()) == 4


def test_the_session_ends_in_the_middle_of_work(make_stage: Callable[..., Stage], open_editor: OpenEditor) -> None:
    stage = make_stage()
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    editor = open_editor(stage)
    editor.allow("status of 401")
    desk = Desk(editor)
    inspect(desk, one)
    name = desk.field("name")
    name.fill("half typed")
    desk.page.context.clear_cookies()
    name.press("Enter")
    expect(desk.dialog).to_contain_text("The session has ended")
    editor.check_accessible()
    token = desk.page.get_by_label("Admin token")
    expect(token).to_be_focused()
    # A browser closes a dialog at the second Escape, whatever the page says.
    desk.press("Escape", "Escape", "Escape")
    expect(desk.dialog).to_be_visible()
    expect(token).to_be_focused()
    token.fill("wrong")
    token.press("Enter")
    expect(desk.dialog).to_contain_text("This is not the admin token.")
    token.fill(ADMIN_TOKEN)
    token.press("Enter")
    expect(desk.dialog).to_have_count(0)
    eventually(lambda: any(each["name"] == "half typed" for each in stage.state()["endpoints"]), "what was typed")
    expect(desk.node(one)).to_contain_text("half typed")
    expect(name).to_have_value("half typed")


def test_seven_tabs_of_one_browser_stay_live(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, pos_x=820, pos_y=400)
    first = open_editor(stage)
    streams: list[str] = []
    first.page.context.on("request", lambda each: streams.append(each.url) if "/events" in each.url else None)
    desks = [Desk(first), *(Desk(open_editor(stage, beside=first)) for _ in range(6))]
    for desk in desks:
        desk.expect_wired(one)
    stage.admin("PATCH", f"/endpoints/{one}", {"connected": False})
    for desk in desks:
        desk.expect_cut(one)
        expect(desk.page.get_by_role("alert")).to_have_count(0)
    assert len(streams) <= 1
    desks[0].page.close()
    stage.admin("PATCH", f"/endpoints/{one}", {"connected": True})
    for desk in desks[1:]:
        desk.expect_wired(one)
