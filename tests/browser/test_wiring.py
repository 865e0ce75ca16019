"""Wires are the routing: drawn in five ways, cut in four, and real requests follow them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenEditor
from tests.browser.desk import Desk
from tests.browser.stage import Stage, eventually

Way = Callable[[Desk, int, str], None]


def by_dragging(desk: Desk, endpoint_id: int, _: str) -> None:
    desk.drag(desk.handle(None), desk.handle(endpoint_id))


def by_clicking_source_then_target(desk: Desk, endpoint_id: int, _: str) -> None:
    desk.page.mouse.click(*desk.handle(None))
    desk.page.mouse.click(*desk.handle(endpoint_id))


def by_key(desk: Desk, endpoint_id: int, _: str) -> None:
    desk.select(endpoint_id)
    desk.press("c")


def by_the_switch_on_the_node(desk: Desk, _: int, name: str) -> None:
    desk.switch(name).click()


def by_the_switch_in_the_table(desk: Desk, _: int, name: str) -> None:
    desk.show_table()
    desk.table.get_by_role("switch", name=f"{name} receives traffic").click()
    expect(desk.switch(name)).to_have_attribute("aria-checked", "true")
    desk.button("Table").click()


WAYS = [
    by_dragging,
    by_clicking_source_then_target,
    by_key,
    by_the_switch_on_the_node,
    by_the_switch_in_the_table,
]


@pytest.mark.parametrize("way", WAYS)
def test_a_wire_is_drawn_and_traffic_flows(stage: Stage, open_editor: OpenEditor, way: Way) -> None:
    identifier = stage.add("gpu-1", 0, token_quota_percent=100, pos_x=820, pos_y=180)
    stage.add("gpu-2", 1, pos_x=820, pos_y=380)
    assert stage.chat().status_code == 503
    desk = Desk(open_editor(stage))
    desk.expect_cut(identifier)
    way(desk, identifier, "gpu-1")
    desk.expect_wired(identifier)
    desk.expect_saved()
    assert stage.served_by(3) == {"gpu-1": 3}
    assert (stage.received(0), stage.received(1)) == (3, 0)
    expect(desk.node(identifier)).to_contain_text("serving")


def test_a_wire_that_is_dropped_on_the_card_or_begun_at_the_endpoint_counts_too(
    stage: Stage, open_editor: OpenEditor
) -> None:
    one = stage.add("gpu-1", 0, pos_x=820, pos_y=100)
    two = stage.add("gpu-2", 1, pos_x=820, pos_y=400)
    desk = Desk(open_editor(stage))
    start = desk.handle(None)
    card = desk.node(one).bounding_box()
    assert card is not None
    desk.drag(start, (card["x"] + card["width"] - 30, card["y"] + card["height"] - 12))
    desk.expect_wired(one)
    desk.drag(desk.handle(two), desk.handle(None))
    desk.expect_wired(two)
    desk.expect_saved()
    assert stage.served_by(4) == {"gpu-1": 2, "gpu-2": 2}


def test_a_wire_over_an_endpoint_shows_what_it_would_do(stage: Stage, open_editor: OpenEditor) -> None:
    stage.add("gpu-1", 0, connected=True, token_quota_percent=50, pos_x=820, pos_y=100)
    two = stage.add("gpu-2", 1, token_quota_percent=50, pos_x=820, pos_y=400)
    stage.served_by(4)
    desk = Desk(open_editor(stage))
    desk.drag(desk.handle(None), desk.handle(two), drop=False)
    expect(desk.consequence).to_contain_text("gpu-2")
    expect(desk.consequence).to_contain_text("50 %")
    assert not stage.endpoint("gpu-2")["connected"]
    desk.page.mouse.up()
    desk.expect_wired(two)
    expect(desk.consequence).to_have_count(0)


def test_a_wire_dropped_on_nothing_begins_a_new_endpoint(stage: Stage, open_editor: OpenEditor) -> None:
    stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    desk = Desk(open_editor(stage))
    desk.drag(desk.handle(None), (700, 700))
    expect(desk.dialog).to_contain_text("Add endpoint")
    desk.page.get_by_label("Address").fill(stage.base_url(1))
    desk.page.get_by_label("Name").fill("dropped")
    desk.button("Add and connect").click()
    eventually(lambda: any(each["name"] == "dropped" for each in stage.state()["endpoints"]), "the endpoint")
    made = stage.endpoint("dropped")
    assert made["connected"]
    desk.expect_wired(made["id"])


def test_a_wire_is_put_on_another_endpoint(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, token_quota_percent=100, pos_x=820, pos_y=100)
    two = stage.add("gpu-2", 1, token_quota_percent=100, pos_x=820, pos_y=400)
    desk = Desk(open_editor(stage))
    desk.expect_wired(one)
    desk.drag(desk.handle(one), desk.handle(two))
    desk.expect_wired(two)
    desk.expect_cut(one)
    desk.expect_toast("gpu-2 connected, gpu-1 disconnected")
    desk.expect_saved()
    assert stage.served_by(2) == {"gpu-2": 2}


def cut_by_delete(desk: Desk, endpoint_id: int, _: str) -> None:
    desk.select(endpoint_id)
    desk.press("Delete")


def cut_by_the_button_on_the_wire(desk: Desk, _: int, name: str) -> None:
    desk.button(f"Cut the wire to {name}").click()


def cut_by_the_switch(desk: Desk, _: int, name: str) -> None:
    desk.switch(name).click()


def cut_in_the_table(desk: Desk, _: int, name: str) -> None:
    desk.show_table()
    desk.table.get_by_role("switch", name=f"{name} receives traffic").click()
    expect(desk.switch(name)).to_have_attribute("aria-checked", "false")
    desk.button("Table").click()


@pytest.mark.parametrize("way", [cut_by_delete, cut_by_the_button_on_the_wire, cut_by_the_switch, cut_in_the_table])
def test_what_is_cut_gets_nothing_more_and_stays(stage: Stage, open_editor: OpenEditor, way: Way) -> None:
    one = stage.add("gpu-1", 0, connected=True, token_quota_percent=50, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, token_quota_percent=50, pos_x=820, pos_y=400)
    assert stage.served_by(4) == {"gpu-1": 2, "gpu-2": 2}
    desk = Desk(open_editor(stage))
    desk.expect_wired(one)
    way(desk, one, "gpu-1")
    desk.expect_cut(one)
    expect(desk.node(one)).to_contain_text("not connected")
    desk.expect_saved()
    assert stage.served_by(4) == {"gpu-2": 4}
    assert stage.received(0) == 2
    assert len(stage.state()["endpoints"]) == 2


def test_what_a_cut_would_do_is_shown_no_longer_than_there_is_a_wire(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, pos_x=820, pos_y=400)
    desk = Desk(open_editor(stage))
    desk.select(one)
    desk.button("Cut the wire to gpu-1").hover()
    expect(desk.consequence).to_be_visible()
    desk.press("Delete")
    desk.expect_cut(one)
    expect(desk.consequence).to_have_count(0)


def test_cutting_the_last_one_is_asked_first(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True)
    desk = Desk(open_editor(stage))
    desk.switch("gpu-1").click()
    expect(desk.dialog).to_contain_text("clients get 503")
    desk.press("Escape")
    expect(desk.dialog).to_have_count(0)
    desk.expect_wired(one)
    desk.switch("gpu-1").click()
    desk.dialog.get_by_role("button", name="Disconnect").click()
    desk.expect_cut(one)
    expect(desk.page.get_by_role("region", name="No receiver")).to_contain_text("clients get 503")
    desk.expect_saved()
    assert stage.chat().status_code == 503


def test_what_runs_drains_and_is_ended_by_cut_now_only(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, token_quota_percent=100, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, pos_x=820, pos_y=400)
    stage.behave(0, tpot_seconds=0.2, completion_tokens=10_000)
    running = [stage.chat_beside(stream=True, max_tokens=10_000) for _ in range(2)]
    eventually(lambda: stage.in_flight(0) == 2, "two streams")
    stage.behave(0, tpot_seconds=0.0, completion_tokens=4)
    desk = Desk(open_editor(stage))
    desk.button("Cut the wire to gpu-1").click()
    expect(desk.wire_label(one)).to_contain_text("draining 2")
    expect(desk.node(one)).to_contain_text("draining 2")
    expect(desk.wire(one)).to_have_class(re.compile("react-flow__edge-draining"))
    desk.expect_saved()
    assert stage.served_by(3) == {"gpu-2": 3}
    assert stage.in_flight(0) == 2
    assert not any(each.done() for each in running)
    desk.node(one).get_by_role("button", name="Cut now").click()
    eventually(lambda: all(each.done() for each in running), "the end of the streams")
    eventually(lambda: stage.in_flight(0) == 0, "nothing in flight")
    desk.expect_cut(one)
    expect(desk.node(one)).to_contain_text("not connected")


def test_several_are_cut_as_one_change(stage: Stage, open_editor: OpenEditor) -> None:
    ids = [stage.add(f"gpu-{place}", place % 3, connected=True, pos_x=820, pos_y=160 * place) for place in range(4)]
    desk = Desk(open_editor(stage))
    before = stage.state()["revision"]
    desk.select(ids[0])
    desk.select(ids[1], also=True)
    desk.select(ids[2], also=True)
    desk.press("Delete")
    desk.expect_toast("3 endpoints disconnected")
    for identifier in ids[:3]:
        desk.expect_cut(identifier)
    desk.expect_wired(ids[3])
    assert stage.state()["revision"] == before + 1
    assert stage.served_by(3) == {"gpu-3": 3}
    desk.press("Control+z")
    for identifier in ids:
        desk.expect_wired(identifier)
    desk.expect_saved()
    assert stage.state()["revision"] == before + 2


def test_delete_never_deletes_an_endpoint_shift_delete_does(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, pos_x=820, pos_y=400)
    desk = Desk(open_editor(stage))
    desk.select(one)
    desk.press("Delete")
    desk.expect_cut(one)
    desk.press("Delete")
    expect(desk.node(one)).to_be_visible()
    desk.press("Shift+Delete")
    expect(desk.node(one)).to_have_count(0)
    desk.expect_saved()
    assert [each["name"] for each in stage.state()["endpoints"]] == ["gpu-2"]
    desk.press("Control+z")
    expect(desk.node(one)).to_be_visible()
