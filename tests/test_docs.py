"""The documentation names what is there: every operation, every setting, every file it links to."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.routing import Route

from balancer.settings import SETTINGS
from balancer.wire.openai import OPERATIONS
from load_tester.app import caps_of, create_app
from load_tester.settings import load_settings
from tests.fakes import FakeServer
from tests.running_balancer import RunningBalancer

ROOT = Path(__file__).parent.parent


async def test_api_page_lists_every_operation(tmp_path: Path) -> None:
    page = (ROOT / "docs/api.md").read_text()
    async with RunningBalancer(tmp_path) as balancer:
        document = await balancer.admin("GET", "/openapi.json")
    documented = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    listed = set(re.findall(r"`((?:GET|POST|PATCH|DELETE) /admin/api/[^`]+)`", page))
    assert listed == documented
    assert all(f"`POST {path}`" in page for path in OPERATIONS)


def first_column(table: str) -> set[str]:
    """The words in code spans of a table's first column."""
    cells = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    return {name for cell in cells for name in re.findall("`(.+?)`", cell)}


def test_what_carries_over_is_read() -> None:
    page = (ROOT / "docs/migration.md").read_text()
    table = page.partition("### What carries over")[2].partition("### Run both")[0]
    named, settings = first_column(table), {name for setting in SETTINGS for name in setting.names}
    assert len(named) > 10
    assert named <= settings
    ignored = re.findall("`([A-Z_]+?)`", table.rpartition("|")[2].partition("have no effect")[0])
    assert ignored and not settings & set(ignored)


async def test_api_page_lists_the_interfaces_of_older_systems(tmp_path: Path) -> None:
    page = (ROOT / "docs/api.md").read_text()
    section = page.partition("## Interfaces of older systems")[2].partition("\n## ")[0]
    async with RunningBalancer(tmp_path) as balancer:
        for path in re.findall(r"^\| `GET ([^`]+)`", section, re.MULTILINE):
            assert (await balancer.client.get(path)).status_code == 200, path
        async with FakeServer() as fake:
            await balancer.add("gpu-1", fake)
            (node,) = (await balancer.client.get("/v1/nodes")).json()["data"]
    table = section.partition("A node of")[2].partition("`/health`")[0]
    assert first_column(table) == node.keys()


def test_the_load_testers_page_lists_every_call(tmp_path: Path) -> None:
    settings = load_settings({"LT_DATA_DIR": str(tmp_path)})
    app = create_app(settings, "", "0", caps=caps_of(settings), wall_clock=lambda: 0.0)
    pages = ("/", "/assets/{name:path}", "/favicon.svg", "/api/{rest:path}")
    routes = [route for route in app.routes if isinstance(route, Route) and route.path not in pages]
    served = {f"{method} {route.path.replace(':int', '')}" for route in routes for method in route.methods or ()}
    page = (ROOT / "docs/load-testing.md").read_text()
    listed = re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`?]+)", page, re.MULTILINE)
    assert set(listed) == {each for each in served if not each.startswith("HEAD")}


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
