"""The admin pages without a browser: the shell, its headers, and the files of a bundle."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from balancer.admin.pages import admin_pages
from balancer.web.bundle import BundleError, read_bundle
from tests.running_balancer import RunningBalancer

SCRIPT = b"export const words = 'a script that is long enough to be worth packing'; " * 20
MANIFEST = {
    "src/editor/main.tsx": {
        "file": "assets/editor-1a2b.js",
        "name": "editor",
        "isEntry": True,
        "imports": ["_shared.js"],
        "dynamicImports": ["src/chart.ts"],
        "css": ["assets/editor-3c4d.css"],
    },
    "src/other.tsx": {"file": "assets/other-1.js", "name": "other", "isEntry": True},
    "_shared.js": {"file": "assets/shared-5e6f.js", "css": ["assets/shared-7a8b.css"], "imports": ["_shared.js"]},
    "src/chart.ts": {"file": "assets/chart-9c0d.js", "isDynamicEntry": True},
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    directory = tmp_path / "dist"
    _write(directory / ".vite/manifest.json", json.dumps(MANIFEST).encode())
    _write(directory / "assets/editor-1a2b.js", SCRIPT)
    _write(directory / "assets/shared-5e6f.js", b"export {};")
    _write(directory / "assets/chart-9c0d.js", SCRIPT)
    _write(directory / "assets/other-1.js", SCRIPT)
    _write(directory / "assets/editor-3c4d.css", b"body { margin: 0 }")
    _write(directory / "assets/shared-7a8b.css", b"html { margin: 0 }")
    _write(directory / "assets/noted.html", b"<p>not served</p>")
    _write(directory / "editor.html", b"<p>not served</p>")
    _write(directory / "favicon.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    _write(tmp_path / "secret.js", b"outside")
    return directory


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _client(directory: Path | None) -> httpx.AsyncClient:
    pages = admin_pages(None if directory is None else read_bundle(directory, "editor"), "1.2.3")
    return httpx.AsyncClient(transport=httpx.ASGITransport(Starlette(routes=pages)), base_url="http://lb.test")


@pytest.fixture
async def client(bundle: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with _client(bundle) as client:
        yield client


@pytest.mark.parametrize("path", ["/admin", "/admin/"])
async def test_the_page_loads_what_the_manifest_names(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = answer.text
    assert '<script type="module" src="/admin/assets/editor-1a2b.js"></script>' in page
    assert '<link rel="modulepreload" href="/admin/assets/shared-5e6f.js">' in page
    styles = re.findall(r'<link rel="stylesheet" href="([^"]+)">', page)
    assert styles == ["/admin/assets/shared-7a8b.css", "/admin/assets/editor-3c4d.css"]
    assert 'href="/admin/favicon.svg"' in page
    assert '<meta name="version" content="1.2.3">' in page
    assert '<html lang="en">' in page and "<noscript>" in page and '<div id="root"></div>' in page
    assert "other-1" not in page and "chart-9c0d" not in page
    for address in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (await client.get(address)).status_code == 200, address


async def test_the_page_holds_nothing_inline_and_forbids_it(client: httpx.AsyncClient) -> None:
    answer = await client.get("/admin")
    assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=", answer.text)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    expected = {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-store",
    }
    assert expected.items() <= dict(answer.headers).items()


async def test_an_asset_is_kept_for_ever_and_travels_packed(client: httpx.AsyncClient) -> None:
    answer = await client.get("/admin/assets/editor-1a2b.js", headers={"accept-encoding": "br, gzip;q=0.5"})
    assert answer.content == SCRIPT
    assert int(answer.headers["content-length"]) < len(SCRIPT)
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0, identity", "br", ""])
async def test_who_does_not_take_gzip_gets_it_unpacked(client: httpx.AsyncClient, accepted: str) -> None:
    answer = await client.get("/admin/assets/editor-1a2b.js", headers={"accept-encoding": accepted})
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.content == SCRIPT and int(answer.headers["content-length"]) == len(SCRIPT)


async def test_a_file_packed_by_the_build_is_taken_as_it_is(bundle: Path) -> None:
    packed = gzip.compress(SCRIPT, 1, mtime=0)
    _write(bundle / "assets/editor-1a2b.js.gz", packed)
    assert read_bundle(bundle, "editor").assets["assets/editor-1a2b.js"].packed == packed
    assert "assets/editor-1a2b.js.gz" not in read_bundle(bundle, "editor").assets


async def test_what_gzip_makes_longer_stays_as_it_is(client: httpx.AsyncClient) -> None:
    answer = await client.get("/admin/assets/shared-5e6f.js")
    assert "content-encoding" not in answer.headers and answer.text == "export {};"


async def test_head_tells_the_same_as_get(client: httpx.AsyncClient) -> None:
    for path in ("/admin", "/admin/assets/editor-1a2b.js", "/admin/favicon.svg"):
        got, head = await client.get(path), await client.head(path)
        assert head.status_code == 200 and head.headers == got.headers


@pytest.mark.parametrize(
    "path",
    [
        "/admin/assets/",
        "/admin/assets/gone-1a2b.js",
        "/admin/assets/editor-1a2b.js/",
        "/admin/assets/noted.html",
        "/admin/assets/../editor.html",
        "/admin/assets/..%2feditor.html",
        "/admin/assets/..%2f.vite%2fmanifest.json",
        "/admin/assets/%2e%2e/%2e%2e/secret.js",
        "/admin/assets/..%2f..%2fsecret.js",
        "/admin/assets//etc/passwd",
        "/admin/assets/%2fetc%2fpasswd",
        "/admin/assets/editor-1a2b.js%00",
        "/admin/assets/..%5c..%5csecret.js",
    ],
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert b"served" not in answer.content and b"outside" not in answer.content
    if path.startswith("/admin/assets/") and "/../" not in path:
        assert answer.text == "no such file\n"
        assert answer.headers["cache-control"] == "no-store"


async def test_without_a_bundle_the_page_says_how_to_build_it() -> None:
    async with _client(None) as client:
        answer = await client.get("/admin")
        assert answer.status_code == 503
        assert "make webui" in answer.text and "<script" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert (await client.get("/admin/assets/editor-1a2b.js")).status_code == 404
        assert (await client.get("/admin/favicon.svg")).status_code == 404


async def test_a_person_at_the_root_is_shown_the_way_and_a_program_is_not(client: httpx.AsyncClient) -> None:
    for_people = await client.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert for_people.status_code == 307
    assert for_people.headers["location"] == "/admin"
    assert (await client.get("/")).status_code == 404


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (b"{}", "has no entry named editor"),
        (b"not json", "has no manifest"),
        (b"[1]", "has no manifest"),
        (b'{"a": {"isEntry": true, "name": "editor"}}', "has no manifest"),
        (b'{"a": {"isEntry": true, "name": "editor", "file": "assets/gone.js"}}', "lacks assets/gone.js"),
    ],
)
def test_a_broken_bundle_is_refused_in_words(bundle: Path, broken: bytes, words: str) -> None:
    _write(bundle / ".vite/manifest.json", broken)
    with pytest.raises(BundleError, match=words):
        read_bundle(bundle, "editor")


async def test_the_balancer_serves_the_shell_and_its_api_beside_each_other(tmp_path: Path) -> None:
    async with RunningBalancer(tmp_path) as balancer:
        page = await balancer.client.get("/admin")
        assert page.status_code in (200, 503)  # built or not, there is a page
        assert "content-security-policy" in page.headers
        unauthorized = await balancer.client.get("/admin/api/state")
        assert unauthorized.status_code == 401
        assert unauthorized.headers["cache-control"] == "no-store"
        gone = await balancer.client.get("/admin/assets/gone.js")
        assert gone.text == "no such file\n"
        assert (await balancer.client.get("/")).json() == {"detail": "Not Found"}
