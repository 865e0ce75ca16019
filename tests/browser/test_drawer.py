"""The drawer and what goes in and out as text: requests, changes, client tokens, settings, copies, imports."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from playwright.sync_api import Locator, expect

from tests.browser.conftest import OpenEditor
from tests.browser.desk import Desk
from tests.browser.stage import ADMIN_TOKEN, Stage, eventually


def drawer(desk: Desk, key: str, name: str) -> Locator:
    desk.canvas.focus()
    desk.press(key)
    panel = desk.page.get_by_role("tabpanel", name=name)
    expect(panel).to_be_visible()
    return panel


def test_the_request_log_says_who_served_and_why_there(stage: Stage, open_editor: OpenEditor) -> None:
    stage.add("gpu-1", 0, connected=True, token_quota_percent=100, pos_x=820, pos_y=100)
    two = stage.add("gpu-2", 1, connected=True, pos_x=820, pos_y=400)
    desk = Desk(open_editor(stage))
    panel = drawer(desk, "1", "Requests")
    stage.behave(0, fault="status", fault_status=503)
    assert stage.chat().status_code == 200
    row = panel.get_by_role("row").filter(has_text="gpu-2").first
    expect(row).to_contain_text("200")
    row.get_by_role("button", name=re.compile("Why there")).click()
    expect(panel).to_contain_text("gpu-1")
    expect(panel).to_contain_text("503")
    desk.editor.check_accessible()
    desk.select(two)
    desk.press("Shift+R")
    expect(panel.get_by_role("row").filter(has_text="gpu-2").first).to_be_visible()


def test_a_change_is_reverted_and_all_is_restored(stage: Stage, open_editor: OpenEditor) -> None:
    stage.add("gpu-1", 0, connected=True, token_quota_percent=50, pos_x=820, pos_y=100)
    two = stage.add("gpu-2", 1, connected=True, token_quota_percent=50, pos_x=820, pos_y=400)
    then = stage.state()["revision"]
    desk = Desk(open_editor(stage))
    desk.switch("gpu-2").click()
    desk.expect_cut(two)
    desk.expect_saved()
    stage.admin("PATCH", f"/endpoints/{stage.endpoint('gpu-1')['id']}", {"name": "renamed"})
    panel = drawer(desk, "3", "Changes")
    panel.get_by_role("button", name=f"What change {then + 1} did").click()
    desk.editor.check_accessible()
    panel.get_by_role("button", name="Revert this change").click()
    desk.expect_wired(two)
    desk.expect_saved()
    assert stage.endpoint("renamed")["connected"]
    panel.get_by_role("button", name=f"What change {then} did").click()
    panel.get_by_role("button", name="Restore: back to how it was then").click()
    desk.dialog.get_by_role("button", name="Restore").click()
    eventually(lambda: {each["name"] for each in stage.state()["endpoints"]} == {"gpu-1", "gpu-2"}, "the names")
    assert stage.served_by(2) == {"gpu-1": 1, "gpu-2": 1}


def test_the_first_client_token_is_shown_once_and_closes_the_data_plane(
    make_stage: Callable[..., Stage], open_editor: OpenEditor
) -> None:
    stage = make_stage(1)
    stage.add("gpu-1", 0, connected=True, token_quota_percent=100)
    editor = open_editor(stage)
    desk = Desk(editor)
    panel = drawer(desk, "4", "Client tokens")
    expect(panel).to_contain_text("The data plane is open")
    panel.get_by_role("textbox").fill("team-search")
    panel.get_by_role("button", name="Create").click()
    shown = panel.locator(".token-shown")
    expect(shown).to_contain_text("shown this once")
    token = shown.locator("code").inner_text()
    assert len(token) > 30
    desk.editor.check_accessible()
    assert stage.chat().status_code == 401
    answer = stage.client.post(
        "/v1/chat/completions",
        headers={"authorization": f"Bearer {token}"},
        json={"model": "fake-model", "messages": [{"role": "user", "content": "hello"}]},
    )
    assert answer.status_code == 200
    expect(desk.page.locator(".node.client")).to_contain_text("team-search")
    panel.get_by_role("button", name="I have it").click()
    assert token not in desk.page.content()
    desk.page.reload()
    assert token not in desk.page.content()
    Desk(editor)
    expect(panel).to_be_visible()
    panel.get_by_role("button", name="Revoke team-search").click()
    desk.dialog.get_by_role("button", name="Revoke").click()
    expect(panel.get_by_role("button", name="Revoke team-search")).to_have_count(0)


def test_settings_and_charts_are_shown_without_secrets(stage: Stage, open_editor: OpenEditor) -> None:
    stage.add("gpu-1", 0, connected=True, token_quota_percent=100)
    stage.served_by(3)
    desk = Desk(open_editor(stage))
    panel = drawer(desk, "5", "Settings")
    expect(panel).to_contain_text("LB_ADMIN_TOKEN")
    expect(panel.get_by_role("row").filter(has_text="LB_ADMIN_TOKEN")).to_contain_text("set, not shown")
    assert ADMIN_TOKEN not in desk.page.content()
    panel = drawer(desk, "2", "Charts")
    expect(panel.locator("canvas").first).to_be_visible()


def test_copy_and_paste_bring_a_copy_without_wire_and_key(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, token_quota_percent=100, api_key="sk-secret", pos_x=820, pos_y=100)
    desk = Desk(open_editor(stage, permissions=["clipboard-read", "clipboard-write"]))
    desk.select(one)
    desk.press("Control+c")
    desk.expect_toast("gpu-1 copied")
    assert "sk-" not in desk.page.evaluate("() => navigator.clipboard.readText()")
    desk.press("Control+v")
    desk.expect_toast("gpu-1 2 added")
    desk.expect_saved()
    made = stage.endpoint("gpu-1 2")
    assert (made["connected"], made["has_api_key"]) == (False, False)
    expect(desk.node(made["id"])).to_be_visible()
    desk.select(one)
    desk.press("Control+d")
    desk.expect_toast("gpu-1 3 added")
    desk.press("Control+z")
    eventually(lambda: len(stage.state()["endpoints"]) == 2, "the copy is gone")


def test_an_address_pasted_on_the_page_opens_the_form(stage: Stage, open_editor: OpenEditor) -> None:
    desk = Desk(open_editor(stage, permissions=["clipboard-read", "clipboard-write"]))
    desk.page.evaluate("(text) => navigator.clipboard.writeText(text)", stage.base_url(0))
    desk.canvas.focus()
    desk.press("Control+v")
    expect(desk.page.get_by_label("Address")).to_have_value(stage.base_url(0))


def test_an_import_shows_what_it_would_do_and_does_it(stage: Stage, open_editor: OpenEditor) -> None:
    stage.add("gpu-1", 0, connected=True, token_quota_percent=100, api_key="sk-secret", pos_x=820, pos_y=100)
    desk = Desk(open_editor(stage))
    desk.press("Control+o")
    text = desk.dialog.get_by_role("textbox")
    text.fill("{")
    expect(desk.dialog).to_contain_text("This is no JSON")
    file = {
        "format": "llm-balancer",
        "version": 1,
        "routing_mode": "percentage",
        "endpoints": [
            {"name": "gpu-1", "base_url": stage.base_url(0), "weight": 3},
            {"name": "gpu-9", "base_url": stage.base_url(1)},
        ],
    }
    text.fill(json.dumps(file))
    expect(desk.dialog).to_contain_text("gpu-9")
    assert len(stage.state()["endpoints"]) == 1
    desk.editor.check_accessible()
    desk.dialog.get_by_role("button", name="Add 1, change 1").click()
    expect(desk.dialog).to_have_count(0)
    eventually(lambda: len(stage.state()["endpoints"]) == 2, "the import")
    found = stage.endpoint("gpu-1")
    assert (found["weight"], found["has_api_key"]) == (3, True)


def test_a_hidden_tab_lets_go_of_the_stream_and_is_fresh_when_it_is_back(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, pos_x=820, pos_y=400)
    editor = open_editor(stage)
    ended: list[str] = []
    editor.page.on("requestfailed", lambda each: ended.append(each.url))
    with editor.page.expect_response("**/admin/api/events"):  # there must be a stream to let go of
        editor.page.reload()
    desk = Desk(editor)
    desk.expect_wired(one)
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    desk.page.evaluate(hide, True)
    eventually(lambda: desk.page.evaluate("1") and any("/events" in each for each in ended), "the end of the stream")
    stage.admin("PATCH", f"/endpoints/{one}", {"connected": False})
    desk.expect_wired(one)
    desk.page.evaluate(hide, False)
    desk.expect_cut(one)
