"""What importing does: the core pulls in no outside world, and no module of the package acts before it is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import balancer

PACKAGE = Path(balancer.__file__).parent

OUTSIDE_WORLD = {
    "asyncio",
    "concurrent",
    "http",
    "json",
    "logging",
    "multiprocessing",
    "selectors",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "urllib",
}

PRINT_WHAT_THE_CORE_IMPORTS = """
import sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import importlib, pathlib
expected = set(sys.modules)
for file in sorted(pathlib.Path(sys.argv[1], "balancer", "core").glob("*.py")):
    importlib.import_module("balancer.core" if file.stem == "__init__" else f"balancer.core.{file.stem}")
print(*sorted(set(sys.modules) - expected), sep="\\n")
"""

# Reports every act whose cause is a line of the package itself, at most by way of the standard library, rather than
# of a module or a library that it uses.
PRINT_WHAT_IMPORTING_DOES = """
import importlib, os, sys
package = sys.argv[1]

def report(act):
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(package):
            print(f"{file}:{frame.f_lineno}: {act}", flush=True)
            return
        if file.startswith("<frozen importlib") or "site-packages" in file:
            return
        frame = frame.f_back

class Watched(type(os.environ)):
    def __getitem__(self, key):
        report(f"reads {key} from the environment")
        return super().__getitem__(key)

    def __iter__(self):
        report("reads the whole environment")
        return super().__iter__()

ACTS = ("open", "os.", "socket.", "sqlite3.", "subprocess.", "shutil.", "tempfile.", "_thread.start_new_thread")
os.environ.__class__ = Watched
sys.addaudithook(lambda event, args: report(f"{event} {args}") if event.startswith(ACTS) else None)
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def run(script: str, *arguments: str, path: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=path, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_core_imports_only_what_is_pure(tmp_path: Path) -> None:
    imported = {name.partition(".")[0] for name in run(PRINT_WHAT_THE_CORE_IMPORTS, str(PACKAGE.parent), path=tmp_path)}
    assert "balancer" in imported
    assert imported - {"balancer"} <= sys.stdlib_module_names
    assert imported & OUTSIDE_WORLD == set()


def acts(package: Path, *modules: str, path: Path) -> list[str]:
    return run(
        f"import sys; sys.path.insert(0, {str(package.parent)!r})\n{PRINT_WHAT_IMPORTING_DOES}",
        str(package),
        *modules,
        path=path,
    )


def test_importing_any_module_opens_nothing_and_reads_no_environment(tmp_path: Path) -> None:
    files = (file.relative_to(PACKAGE.parent).with_suffix("") for file in PACKAGE.rglob("*.py"))
    modules = [".".join(file.parts).removesuffix(".__init__") for file in files if file.name != "__main__"]
    assert "balancer.core.pool" in modules
    assert acts(PACKAGE, *sorted(modules), path=tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    guilty = tmp_path / "guilty"
    guilty.mkdir()
    lines = [
        "import os, pathlib, socket, sqlite3",
        "os.environ.get('HOME'); os.getenv('LB_PORT'); dict(os.environ)",
        "pathlib.Path(__file__).read_text()",
        "socket.socket().close()",
        "sqlite3.connect(':memory:').close()",
    ]
    (guilty / "__init__.py").write_text("\n".join(lines))
    seen = acts(guilty, "guilty", path=tmp_path)
    assert {line.partition(".py:")[2].partition(":")[0] for line in seen} == {"2", "3", "4", "5"}
    assert any("LB_PORT" in line for line in seen)
