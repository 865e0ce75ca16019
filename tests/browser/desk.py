"""An operator at the editor: what is on the page by the names that people know it by, and what hands do with it."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.stage import DEADLINE_SECONDS
from tests.browser.watched import Watched

Point = tuple[float, float]

# The canvas and every card on it are where they were three frames ago. Cards are hidden until they are measured, then
# the view is fitted to them; a frame that is not drawn is not waited for.
_REST = """
    async (patience) => {
        const end = performance.now() + patience;
        const frame = () => new Promise((go) => {
            requestAnimationFrame(go);
            setTimeout(go, 100);
        });
        const places = () => {
            const canvas = document.querySelector("[data-canvas]");
            if (!canvas) return "";
            const nodes = [...canvas.querySelectorAll(".react-flow__node")];
            if (!nodes.length || nodes.some((each) => getComputedStyle(each).visibility === "hidden")) return null;
            return JSON.stringify([canvas, ...nodes].map((each) => each.getBoundingClientRect()));
        };
        for (let before = null, same = 0; same < 3; ) {
            if (performance.now() > end) throw new Error("the canvas does not come to rest");
            await frame();
            const now = places();
            same = now !== null && now === before ? same + 1 : 0;
            before = now;
        }
    }
"""


class Desk:
    """The editor in a watched page. Endpoints are told by their ids on the canvas, by their names elsewhere."""

    def __init__(self, editor: Watched) -> None:
        self.editor = editor
        self.page: Page = editor.page
        expect(self.page.locator(".topbar")).to_be_visible()
        self.rest()

    # -- what there is ---------------------------------------------------------------------------------------------

    @property
    def canvas(self) -> Locator:
        """The one Tab stop of the canvas."""
        return self.page.get_by_test_id("canvas")

    def node(self, endpoint_id: int) -> Locator:
        """An endpoint's card."""
        return self.page.locator(f"#node-endpoint-{endpoint_id}")

    def wire(self, endpoint_id: int) -> Locator:
        """The wire to an endpoint."""
        return self.page.get_by_test_id(f"rf__edge-wire-{endpoint_id}")

    def wire_label(self, endpoint_id: int) -> Locator:
        """What stands on the wire to an endpoint."""
        return self.page.get_by_test_id(f"wire-label-{endpoint_id}")

    def switch(self, name: str) -> Locator:
        """The switch that says whether an endpoint receives traffic."""
        return self.page.get_by_role("switch", name=f"{name} receives traffic")

    @property
    def toasts(self) -> Locator:
        """What just happened."""
        return self.page.get_by_role("region", name="Notices")

    @property
    def dialog(self) -> Locator:
        """The dialog that is open."""
        return self.page.get_by_role("dialog")

    @property
    def inspector(self) -> Locator:
        """The panel at the right."""
        return self.page.get_by_test_id("inspector")

    def field(self, name: str) -> Locator:
        """A field of the inspector, by the name of the API."""
        return self.inspector.locator(f'[data-field="{name}"]')

    @property
    def consequence(self) -> Locator:
        """What is being considered would do this."""
        return self.page.get_by_test_id("consequence")

    @property
    def table(self) -> Locator:
        """The endpoints as rows."""
        return self.page.get_by_test_id("endpoint-table")

    # -- what is done ----------------------------------------------------------------------------------------------

    def button(self, name: str | re.Pattern[str]) -> Locator:
        """A button by its whole name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def press(self, *keys: str) -> None:
        """Keys, one after the other, wherever the focus is."""
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def undo_button(self) -> Locator:
        """The one in the top bar; notices have their own."""
        return self.page.locator(".topbar").get_by_role("button", name="Undo")

    def rest(self) -> None:
        """Wait until nothing moves on the canvas: what is read of places then, holds when the pointer gets there."""
        self.page.evaluate(_REST, 1000 * DEADLINE_SECONDS)

    def middle(self, of: Locator) -> Point:
        """The middle of what is shown, once all is at rest."""
        self.rest()
        box = of.bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def handle(self, endpoint_id: int | None) -> Point:
        """The middle of an endpoint's handle, or of the one at Incoming's right."""
        node = "incoming" if endpoint_id is None else f"endpoint-{endpoint_id}"
        kind = "source" if endpoint_id is None else "target"
        return self.middle(self.page.locator(f'[data-nodeid="{node}"].{kind}.connectable'))

    def drag(self, start: Point, end: Point, *, drop: bool = True) -> None:
        """Press at one point, go to another in steps as a hand does, and let go."""
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=4)
        mouse.move(*end, steps=4)
        if drop:
            mouse.up()

    def select(self, endpoint_id: int, *, also: bool = False) -> None:
        """Click a card; `also`: beside what is selected already."""
        name = self.node(endpoint_id).locator(".endpoint-name")
        name.click(modifiers=["Control"] if also else [])
        expect(self.page.locator(f'[data-id="endpoint-{endpoint_id}"].selected')).to_be_visible()

    def show_table(self) -> None:
        """The table instead of the canvas."""
        self.button("Table").click()
        expect(self.table).to_be_visible()

    def choose_mode(self, label: str) -> None:
        """Switch the routing mode, as far as the question."""
        self.page.get_by_role("group", name="Routing mode").get_by_role("button", name=label).click()
        expect(self.dialog).to_contain_text(f"Switch to {label}?")

    # -- what is to be seen ----------------------------------------------------------------------------------------

    def expect_saved(self) -> None:
        """Nothing waits to be saved."""
        expect(self.page.get_by_test_id("save-state")).to_have_text(re.compile(r"· saved$"))

    def expect_toast(self, text: str | re.Pattern[str]) -> None:
        """Somebody is told so."""
        expect(self.toasts).to_contain_text(text)

    def expect_news(self, text: str | re.Pattern[str]) -> None:
        """The last thing a screen reader was told."""
        expect(self.page.get_by_test_id("announcer")).to_have_text(text)

    def expect_wired(self, endpoint_id: int) -> None:
        """A wire that is no ghost leads there."""
        expect(self.wire(endpoint_id)).to_have_class(re.compile("react-flow__edge-wire"))

    def expect_cut(self, endpoint_id: int) -> None:
        """No wire leads there."""
        expect(self.wire(endpoint_id)).to_have_count(0)
