"""The documentation names what is there: every operation, every setting, every file it links to."""

from __future__ import annotations

import re
from pathlib import Path

from balancer.wire.openai import OPERATIONS
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


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
