"""From the login to the first request that is served, by pointer and by keyboard alone; finding one's way."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenEditor
from tests.browser.desk import Desk
from tests.browser.stage import ADMIN_TOKEN, Stage, eventually


def test_a_wrong_token_is_told_and_the_right_one_lets_in(stage: Stage, open_editor: OpenEditor) -> None:
    editor = open_editor(stage, logged_in=False)
    editor.allow("status of 401")
    page = editor.page
    token = page.get_by_label("Admin token")
    expect(token).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Type the admin token.")
    token.fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is not the admin token.")
    expect(token).to_have_value("wrong")
    token.fill(ADMIN_TOKEN)
    page.get_by_role("button", name="Log in").click()
    Desk(editor)
    assert ADMIN_TOKEN not in page.url
    assert ADMIN_TOKEN not in page.evaluate("() => JSON.stringify({...localStorage, ...sessionStorage})")
    page.reload()
    Desk(editor)


def test_three_clicks_to_the_first_endpoint(stage: Stage, open_editor: OpenEditor) -> None:
    desk = Desk(open_editor(stage))
    empty = desk.page.get_by_role("region", name="No receiver")
    expect(empty).to_contain_text("clients get 503")
    assert stage.chat().status_code == 503
    desk.button("Add the first endpoint").click()
    address = desk.page.get_by_label("Address")
    expect(address).to_be_focused()
    desk.page.evaluate(
        """(text) => {
            const data = new DataTransfer();
            data.setData("text/plain", text);
            document.activeElement.dispatchEvent(
                new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
        }""",
        f"curl {stage.base_url(0)}/chat/completions -H 'Authorization: Bearer sk-pasted'",
    )
    expect(address).to_have_value(stage.base_url(0))
    expect(desk.dialog).to_contain_text("fake-model")
    assert "sk-pasted" not in desk.dialog.inner_text()
    expect(desk.page.get_by_label("API key")).to_have_value("sk-pasted")
    desk.editor.check_accessible()
    desk.button("Add and connect").click()
    expect(desk.dialog).to_have_count(0)
    expect(empty).to_have_count(0)
    desk.expect_saved()
    [made] = stage.state()["endpoints"]
    desk.expect_wired(made["id"])
    assert made["has_api_key"]
    assert stage.served_by(1) == {made["name"]: 1}


def test_a_wrong_address_is_told_at_its_field(stage: Stage, open_editor: OpenEditor) -> None:
    editor = open_editor(stage)
    editor.allow("status of 422")
    desk = Desk(editor)
    desk.press("n")
    expect(desk.page.get_by_label("Address")).to_be_focused()
    desk.press("Enter")
    expect(desk.page.get_by_label("Address")).to_have_attribute("aria-invalid", "true")
    desk.page.get_by_label("Address").fill("http://user:secret@host/v1")
    desk.page.get_by_label("Address").fill("http://127.0.0.1:9/v1")
    expect(desk.page.get_by_test_id("test-result")).to_contain_text(re.compile("refused|cannot|not reach", re.I))
    quota = desk.page.get_by_label("Token quota")
    quota.fill("140")
    desk.press("Enter")
    expect(quota).to_have_attribute("aria-invalid", "true")
    expect(desk.dialog.get_by_role("alert")).to_contain_text("100")
    assert stage.state()["endpoints"] == []


def test_by_keyboard_alone_from_login_to_the_first_request(stage: Stage, open_editor: OpenEditor) -> None:
    editor = open_editor(stage, logged_in=False)
    page = editor.page
    editor.allow("status of 401")
    expect(page.get_by_label("Admin token")).to_be_focused()
    page.keyboard.type(ADMIN_TOKEN)
    page.keyboard.press("Enter")
    desk = Desk(editor)
    desk.press("n")
    expect(page.get_by_label("Address")).to_be_focused()
    page.keyboard.type(stage.base_url(0))
    expect(desk.dialog).to_contain_text("fake-model")
    desk.press("Enter")
    expect(desk.dialog).to_have_count(0)
    desk.expect_saved()
    [made] = stage.state()["endpoints"]
    assert stage.served_by(1) == {made["name"]: 1}


@pytest.mark.parametrize(("address", "words"), [("", "Paste the address"), ("ftp://gpu-1", "no address of a server")])
def test_what_is_no_address_is_told_at_its_field(
    stage: Stage, open_editor: OpenEditor, address: str, words: str
) -> None:
    desk = Desk(open_editor(stage))
    desk.press("n")
    desk.page.get_by_label("Address").fill(address)
    desk.press("Enter")
    expect(desk.page.get_by_label("Address")).to_have_attribute("aria-invalid", "true")
    expect(desk.dialog).to_contain_text(words)
    expect(desk.dialog).not_to_contain_text("needs a name")
    assert stage.state()["endpoints"] == []


def test_by_keyboard_alone_on_the_canvas(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, pos_x=820, pos_y=100)
    two = stage.add("gpu-2", 1, pos_x=820, pos_y=400)
    desk = Desk(open_editor(stage))
    desk.canvas.focus()
    expect(desk.page.locator("#node-incoming")).to_have_class(re.compile("cursor"))
    desk.press("w", "ArrowRight")
    expect(desk.consequence).to_be_visible()
    at = one if "cursor" in (desk.node(one).get_attribute("class") or "") else two
    desk.press("w")
    desk.expect_wired(at)
    # The server's answer is announced after the wire is drawn; it must not overtake what the arrow says next.
    desk.expect_news(re.compile(r"^gpu-[12] connected$"))
    desk.press("ArrowDown" if at == one else "ArrowUp")
    other = two if at == one else one
    expect(desk.node(other)).to_have_class(re.compile("cursor"))
    expect(desk.canvas).to_have_attribute("aria-activedescendant", f"node-endpoint-{other}")
    desk.expect_news(re.compile(r"^gpu-[12], not connected"))
    desk.press("c")
    desk.expect_wired(other)
    desk.expect_saved()
    assert sum(stage.served_by(4).values()) == 4
    before = stage.endpoint("gpu-2")["pos_y"], stage.endpoint("gpu-1")["pos_y"]
    desk.press(" ", "ArrowDown", "ArrowDown", " ")
    eventually(lambda: (stage.endpoint("gpu-2")["pos_y"], stage.endpoint("gpu-1")["pos_y"]) != before, "the move")
    desk.press("Enter")
    expect(desk.inspector).to_be_visible()
    expect(desk.inspector).to_be_focused()
    desk.press("Escape")
    expect(desk.inspector).to_have_count(0)
    expect(desk.canvas).to_be_focused()
    desk.press("Delete")
    desk.expect_cut(other)
    desk.press("Control+ArrowLeft")
    expect(desk.page.locator("#node-incoming")).to_have_class(re.compile("cursor"))


def test_tab_goes_through_the_page_in_order_and_the_canvas_is_one_stop(stage: Stage, open_editor: OpenEditor) -> None:
    for place in range(3):
        stage.add(f"gpu-{place}", place, connected=True, token_quota_percent=33, pos_x=820, pos_y=170 * place)
    desk = Desk(open_editor(stage))
    seen: list[tuple[float, float]] = []
    names: list[str] = []
    for _ in range(40):
        desk.press("Tab")
        found = desk.page.evaluate(
            """() => {
                const at = document.activeElement;
                if (!at || at === document.body) return null;
                const box = at.getBoundingClientRect();
                const ring = getComputedStyle(at);
                return [at.dataset.testid ?? at.getAttribute("aria-label") ?? at.textContent,
                        box.x, box.y, ring.outlineStyle !== "none" || ring.boxShadow !== "none"];
            }"""
        )
        if found is None:
            break
        name, x, y, visible = found
        assert visible, f"the focus on {name} cannot be seen"
        names.append(name)
        seen.append((x, y))
    assert names.count("canvas") == 1, names
    assert not any("receives traffic" in each for each in names)
    assert names.index("Percentage") < names.index("canvas") < names.index("Quota of gpu-0, the rest of both to gpu-1")
    top = [x for x, y in seen if y < 50]
    assert top == sorted(top)


def test_help_lists_every_action(stage: Stage, open_editor: OpenEditor) -> None:
    desk = Desk(open_editor(stage))
    desk.canvas.focus()
    desk.press("?")
    expect(desk.dialog).to_contain_text("Keys and legend")
    for title in ("Add endpoint", "Cut the wire", "Cut now", "Undo", "Redo", "Rank up", "Tidy up", "Export as JSON"):
        expect(desk.dialog).to_contain_text(title)
    desk.press("Escape")
    expect(desk.dialog).to_have_count(0)
    expect(desk.canvas).to_be_focused()


def test_the_palette_finds_actions_and_endpoints(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-in-the-cellar", 0, pos_x=820, pos_y=100)
    desk = Desk(open_editor(stage))
    desk.press("Control+k")
    box = desk.dialog.get_by_role("combobox")
    expect(box).to_be_focused()
    desk.page.keyboard.type("cellar")
    expect(desk.dialog.get_by_role("option")).to_have_count(1)
    desk.press("Enter")
    expect(desk.inspector).to_contain_text("gpu-in-the-cellar")
    desk.press("Control+k")
    expect(box).to_be_focused()
    desk.page.keyboard.type("connect incoming")
    expect(desk.dialog.get_by_role("option").first).to_contain_text("Connect to Incoming")
    desk.press("Enter")
    desk.expect_wired(one)


def test_the_context_menu_of_a_wire_and_of_a_node(stage: Stage, open_editor: OpenEditor) -> None:
    one = stage.add("gpu-1", 0, connected=True, pos_x=820, pos_y=100)
    stage.add("gpu-2", 1, connected=True, pos_x=820, pos_y=400)
    desk = Desk(open_editor(stage))
    desk.node(one).locator(".endpoint-name").click(button="right")
    menu = desk.page.get_by_role("menu", name="gpu-1")
    expect(menu).to_be_visible()
    desk.editor.check_accessible()
    menu.get_by_role("menuitem", name="Cut the wire").click()
    desk.expect_cut(one)
    expect(menu).to_have_count(0)


def test_export_holds_no_key(stage: Stage, open_editor: OpenEditor) -> None:
    stage.add("gpu-1", 0, api_key="sk-very-secret")
    desk = Desk(open_editor(stage))
    with desk.page.expect_download() as download:
        desk.press("Control+s")
    text = download.value.path().read_text("utf-8")
    assert "gpu-1" in text
    assert "sk-" not in text
    assert "key" not in text
