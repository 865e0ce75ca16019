"""When the editor is built and what is said when it cannot be, with stand-ins for node and npm on the PATH."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import pytest

from scripts.webui import BuildError, build, find_node, is_fresh, run

NPM = """#!/bin/sh
echo "$@" >> npm.log
case "$1 $2" in
"ci --include=dev") mkdir -p node_modules && touch node_modules/.package-lock.json ;;
"run build")
    mkdir -p dist/.vite dist/assets
    echo "{}" > dist/.vite/manifest.json
    cp src/main.ts dist/assets/main.js ;;
"run --silent") exit 3 ;;
esac
"""
BROKEN_NPM = """#!/bin/sh
echo what is wrong
for each in $(seq 100); do echo line $each; done
echo where it stopped
exit 7
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that comes first on the PATH, with a node and an npm that pretend."""
    directory = tmp_path / "bin"
    directory.mkdir()
    _program(directory / "node", "#!/bin/sh\necho v22.1.0\n")
    _program(directory / "npm", NPM)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return directory


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def webui(tmp_path: Path, tools: Path) -> Path:
    directory = tmp_path / "webui"
    (directory / "src").mkdir(parents=True)
    for name in ("package.json", "package-lock.json", "src/main.ts", "src/gone.ts"):
        _old(directory / name)
    return directory


def _old(path: Path) -> None:
    """A file that was there long before anything is built."""
    path.write_text("a line that is worth packing\n" * 20)
    for each in (path, path.parent):
        os.utime(each, (1_000_000_000, 1_000_000_000))


def _asked(webui: Path) -> list[str]:
    log = webui / "npm.log"
    return log.read_text().splitlines() if log.exists() else []


def _later(path: Path) -> None:
    """Change a file after all that was built."""
    manifest = (path.parents[1] if path.parent.name == "src" else path.parent) / "dist/.vite/manifest.json"
    newer = manifest.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(newer, newer))


def test_it_is_built_once_and_again_when_a_source_has_changed(webui: Path) -> None:
    assert build(webui)
    assert _asked(webui) == ["ci --include=dev", "run build"]
    packed = webui / "dist/assets/main.js.gz"
    assert gzip.decompress(packed.read_bytes()) == (webui / "src/main.ts").read_bytes()
    (webui / "npm.log").unlink()
    os.utime(webui / "dist/.vite/manifest.json")
    assert not build(webui)
    assert _asked(webui) == []
    _later(webui / "src/main.ts")
    assert build(webui)
    assert _asked(webui) == ["run build"]


def test_a_deleted_source_counts_and_what_was_installed_does_not(webui: Path) -> None:
    build(webui)
    os.utime(webui / "dist/.vite/manifest.json")
    assert is_fresh(webui)
    (webui / "node_modules/more.js").write_text("")
    _later(webui / "node_modules")
    assert is_fresh(webui)
    (webui / "src/gone.ts").unlink()
    _later(webui / "src")
    assert not is_fresh(webui)


def test_without_sources_what_is_built_is_taken_and_packed(webui: Path, tools: Path) -> None:
    build(webui)
    for path in [*webui.glob("*.json"), *webui.glob("src/*"), webui / "dist/assets/main.js.gz", tools / "npm"]:
        path.unlink()
    (webui / "src").rmdir()
    os.utime(webui / "dist/.vite/manifest.json", (1, 1))
    (webui / "npm.log").unlink()
    assert not build(webui)
    assert (webui / "dist/assets/main.js.gz").exists()


def test_nothing_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="neither the sources of the editor nor a built one"):
        build(tmp_path / "webui")


def test_what_npm_says_is_told_from_both_ends(webui: Path, tools: Path) -> None:
    _program(tools / "npm", BROKEN_NPM)
    with pytest.raises(BuildError) as failed:
        build(webui)
    lines = str(failed.value).splitlines()
    assert lines[0] == f"`npm ci --include=dev` in {webui} failed with code 7"
    assert (lines[1], lines[-1]) == ("what is wrong", "where it stopped")
    assert len(lines) < 50


def test_a_check_that_fails_is_a_failure(webui: Path) -> None:
    with pytest.raises(BuildError, match="npm run --silent lint"):
        run("lint", webui)


@pytest.mark.parametrize("version", ["v18.20.1", "v20.18.3", "nonsense"])
def test_an_old_node_is_none(webui: Path, tools: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tools / "node", f"#!/bin/sh\necho {version}\n")
    monkeypatch.setattr(sys, "path", [])  # where the one from PyPI might be installed
    assert find_node() is None
    with pytest.raises(BuildError, match=r"needs Node\.js 20\.19 or newer"):
        build(webui)
