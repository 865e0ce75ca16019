"""Undo and redo, the quota bar, ranks and modes: what is shown before, what holds after, and where requests go then."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

from playwright.sync_api import Locator, expect

from tests.browser.conftest import OpenEditor
from tests.browser.desk import Desk
from tests.browser.stage import Stage, eventually


def quotas(stage: Stage) -> list[Any]:
    return [each["token_quota_percent"] for each in stage.state()["endpoints"]]


def three(stage: Stage, *percents: float) -> list[int]:
    return [
        stage.add(f"gpu-{place}", place, connected=True, token_quota_percent=percent, pos_x=820, pos_y=180 * place)
        for place, percent in enumerate(percents)
    ]


def border(desk: Desk, left: str) -> Locator:
    return desk.page.get_by_role("slider", name=f"Quota of {left}")


def test_undo_and_redo_by_key_button_and_toast(stage: Stage, open_editor: OpenEditor) -> None:
    one, two, _ = three(stage, 40, 30, 30)
    desk = Desk(open_editor(stage))
    desk.switch("gpu-0").click()
    desk.expect_toast("gpu-0 disconnected")
    desk.switch("gpu-1").click()
    desk.expect_toast("gpu-1 disconnected")
    desk.press("Control+z")
    desk.expect_toast("Undone: gpu-1 disconnected")
    desk.expect_wired(two)
    desk.undo_button.click()
    desk.expect_toast("Undone: gpu-0 disconnected")
    desk.expect_wired(one)
    assert stage.endpoint("gpu-0")["connected"]
    expect(desk.undo_button).to_be_disabled()
    desk.press("Control+Shift+z")
    desk.expect_toast("Redone: gpu-0 disconnected")
    desk.expect_cut(one)
    desk.button("Redo").click()
    desk.expect_cut(two)
    desk.expect_saved()
    assert stage.served_by(2) == {"gpu-2": 2}
    desk.switch("gpu-0").click()
    desk.expect_wired(one)
    desk.toasts.get_by_role("button", name="Undo").click()
    desk.expect_toast("Undone: gpu-0 connected")
    desk.expect_cut(one)
    desk.expect_news("Undone: gpu-0 connected")


def test_undo_is_refused_in_words_where_somebody_changed_the_same(stage: Stage, open_editor: OpenEditor) -> None:
    editor = open_editor(stage)
    editor.allow("status of 409")
    one, *_ = three(stage, 40, 30, 30)
    desk = Desk(editor)
    desk.switch("gpu-0").click()
    desk.expect_toast("gpu-0 disconnected")
    desk.expect_saved()
    stage.admin("PATCH", f"/endpoints/{one}", {"connected": True})
    stage.admin("PATCH", f"/endpoints/{one}", {"connected": False})
    stage.admin("PATCH", f"/endpoints/{one}", {"connected": True})
    desk.press("Control+z")
    desk.expect_toast('Cannot undo "gpu-0 disconnected"')
    assert stage.endpoint("gpu-0")["connected"]


def test_a_border_of_the_quota_bar_by_keyboard(stage: Stage, open_editor: OpenEditor) -> None:
    three(stage, 40, 30, 30)
    desk = Desk(open_editor(stage))
    border(desk, "gpu-0").focus()
    desk.press("ArrowRight")
    eventually(lambda: quotas(stage) == [41, 29, 30], "one more")
    expect(border(desk, "gpu-0")).to_have_attribute("aria-valuenow", "41")
    desk.press("PageDown")
    eventually(lambda: quotas(stage) == [31, 39, 30], "ten less")
    expect(desk.page.get_by_test_id("quota-sum")).to_have_text("Sum 100 %")
    expect(border(desk, "gpu-0")).to_be_focused()
    desk.press("Control+z")
    eventually(lambda: quotas(stage) == [41, 29, 30], "back")


def test_borders_of_quotas_of_zero_are_whole_wherever_they_are(stage: Stage, open_editor: OpenEditor) -> None:
    for place, quota in enumerate((0, 100, 0, 0, 0)):
        stage.add(f"gpu-{place}", place % 2, connected=True, token_quota_percent=quota, pos_x=820, pos_y=160 * place)
    editor = open_editor(stage)
    desk = Desk(editor)
    bar = desk.page.locator(".quota-bar.target").bounding_box()
    assert bar is not None
    boxes = [desk.page.get_by_role("slider", name=f"Quota of gpu-{place},").bounding_box() for place in range(4)]
    ends = []
    for box in boxes:
        assert box is not None and box["width"] >= 24
        assert box["x"] >= bar["x"] and box["x"] + box["width"] <= bar["x"] + bar["width"] + 0.5
        ends.append(box["x"])
    assert all(after - before >= 24 for before, after in pairwise(ends))
    looks: tuple[tuple[Literal["light", "dark"], int], ...] = (("light", 1440), ("dark", 800))
    for theme, width in looks:
        desk.page.emulate_media(color_scheme=theme)
        desk.page.set_viewport_size({"width": width, "height": 900})
        editor.check_accessible()
        editor.shot(f"quotas-of-zero-{theme}")


def test_a_border_of_the_quota_bar_by_drag(stage: Stage, open_editor: OpenEditor) -> None:
    three(stage, 40, 30, 30)
    stage.served_by(10)
    desk = Desk(open_editor(stage))
    before = stage.state()["revision"]
    x, y = desk.middle(border(desk, "gpu-0"))
    desk.drag((x, y), (x + 120, y), drop=False)
    expect(desk.consequence).to_contain_text("Expected split")
    expect(desk.wire_label(stage.endpoint("gpu-0")["id"])).to_contain_text("→")
    assert quotas(stage) == [40, 30, 30]
    desk.page.mouse.up()
    eventually(lambda: quotas(stage) != [40, 30, 30], "the new quotas")
    found = quotas(stage)
    assert sum(found) == 100
    assert found[0] > 40
    assert found[2] == 30
    assert stage.state()["revision"] == before + 1
    expect(desk.consequence).to_have_count(0)
    expect(desk.page.get_by_test_id("quota-sum")).to_have_text("Sum 100 %")
    desk.expect_saved()
    target = found[0] / 100
    split = stage.served_by(50)
    assert abs(split["gpu-0"] / 50 - target) <= 0.15, split


def test_quotas_that_do_not_sum_to_100_are_scaled_at_a_press(stage: Stage, open_editor: OpenEditor) -> None:
    three(stage, 60, 20, 40)
    desk = Desk(open_editor(stage))
    expect(desk.page.get_by_test_id("quota-sum")).to_have_text("Sum 120 %")
    before = stage.state()["revision"]
    desk.button("Make 100 %").click()
    eventually(lambda: quotas(stage) == [50, 17, 33], "the sum")
    assert stage.state()["revision"] == before + 1
    expect(desk.page.get_by_test_id("quota-sum")).to_have_text("Sum 100 %")


def test_the_mode_is_switched_after_a_look_at_the_new_split(stage: Stage, open_editor: OpenEditor) -> None:
    one, two, _ = three(stage, 40, 30, 30)
    stage.admin("PATCH", "/endpoints", [{"id": two, "fields": {"priority_order": 1}}])
    stage.admin("PATCH", "/endpoints", [{"id": one, "fields": {"priority_order": 2}}])
    stage.served_by(10)
    desk = Desk(open_editor(stage))
    desk.choose_mode("Priority")
    expect(desk.dialog).to_contain_text("Expected split")
    row = desk.dialog.locator(".consequence-row").filter(has_text="gpu-1")
    expect(row).to_contain_text("100 %")
    desk.press("Escape")
    expect(desk.dialog).to_have_count(0)
    assert stage.state()["routing_mode"] == "percentage"
    desk.press("Alt+2")
    desk.dialog.get_by_role("button", name="Switch").click()
    eventually(lambda: stage.state()["routing_mode"] == "priority", "the mode")
    expect(desk.page.get_by_role("region", name="Priority order")).to_be_visible()
    desk.expect_saved()
    assert stage.served_by(3) == {"gpu-1": 3}
    desk.press("Control+z")
    eventually(lambda: stage.state()["routing_mode"] == "percentage", "the mode taken back")


def test_ranks_are_changed_by_button_key_and_drag(stage: Stage, open_editor: OpenEditor) -> None:
    ids = three(stage, 40, 30, 30)
    ranks = [{"id": each, "fields": {"priority_order": rank}} for rank, each in enumerate(ids, 1)]
    stage.admin("PATCH", "/endpoints", ranks)
    stage.admin("PATCH", "/routing", {"routing_mode": "priority"})
    assert stage.served_by(2) == {"gpu-0": 2}
    desk = Desk(open_editor(stage))
    order = desk.page.get_by_role("region", name="Priority order")
    chips = order.get_by_role("listitem")
    expect(chips).to_contain_text(["gpu-0", "gpu-1", "gpu-2"])
    desk.button("gpu-1: rank up").click()
    expect(chips).to_contain_text(["gpu-1", "gpu-0", "gpu-2"])
    desk.expect_saved()
    assert stage.served_by(2) == {"gpu-1": 2}
    desk.select(ids[2])
    desk.press("Alt+ArrowUp")
    expect(chips).to_contain_text(["gpu-1", "gpu-2", "gpu-0"])
    desk.expect_saved()
    chips.nth(2).drag_to(chips.nth(0))
    expect(chips).to_contain_text(["gpu-0", "gpu-1", "gpu-2"])
    desk.expect_saved()
    assert stage.served_by(2) == {"gpu-0": 2}
    expect(desk.node(ids[2])).to_contain_text("rank 3")


def test_a_full_first_rank_overflows_and_the_page_says_so(stage: Stage, open_editor: OpenEditor) -> None:
    one, *_ = three(stage, 40, 30, 30)
    stage.admin("PATCH", f"/endpoints/{one}", {"max_concurrent": 1})
    stage.admin("PATCH", "/routing", {"routing_mode": "priority"})
    stage.behave(0, tpot_seconds=0.2, completion_tokens=10_000)
    running = stage.chat_beside(stream=True, max_tokens=10_000)
    eventually(lambda: stage.in_flight(0) == 1, "the stream")
    desk = Desk(open_editor(stage))
    expect(desk.node(one)).to_contain_text("full")
    expect(desk.node(one)).to_contain_text("1 / 1")
    assert "gpu-0" not in stage.served_by(2)
    stage.admin("POST", f"/endpoints/{one}/abort")
    eventually(running.done, "the end of the stream")
