"""What `balancer` offers by name, and that asking for it loads no more than it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import balancer
from balancer import (
    AsyncChatStream,
    AsyncLoadBalancer,
    Attempt,
    BalancingStrategy,
    ChatStream,
    Endpoint,
    LoadBalancer,
    serve,
)

ROOT = Path(balancer.__file__).parent.parent
OF_THE_SERVER = {"starlette", "uvicorn", "sqlalchemy", "alembic", "aiosqlite", "sqlite3", "jinja2", "pydantic"}
OF_EXTRAS = {"openai", "httpx", "prometheus_client"}

PRINT_WHAT_IS_LOADED = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
read = []
class Watched(type(os.environ)):
    def __getitem__(self, key):
        read.append(key)
        return super().__getitem__(key)
os.environ.__class__ = Watched
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event.startswith(("socket.", "sqlite3.")) else None)
exec(sys.argv[2])
read = [name for name in read if name.startswith(("LB_", "LLM_"))]
assert not opened and not read and threading.active_count() == 1, (opened, read, threading.enumerate())
print(*sorted({name.partition(".")[0] for name in sys.modules}), sep="\\n")
print(*(name for name in sys.modules if name.startswith("balancer.")), sep="\\n")
"""


def loaded_by(statement: str, directory: Path) -> set[str]:
    command = [sys.executable, "-c", PRINT_WHAT_IS_LOADED, str(ROOT), statement]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_public_names() -> None:
    assert balancer.__all__ == sorted(balancer.__all__)
    assert set(balancer.__all__) == {
        "AsyncChatStream",
        "AsyncLoadBalancer",
        "Attempt",
        "BalancingStrategy",
        "ChatStream",
        "Endpoint",
        "LoadBalancer",
        "__version__",
        "serve",
    }
    assert dir(balancer) == balancer.__all__
    classes = (AsyncChatStream, AsyncLoadBalancer, Attempt, BalancingStrategy, ChatStream, Endpoint, LoadBalancer)
    assert [each.__name__ for each in classes] == [name for name in balancer.__all__ if name[0].isupper()]
    assert callable(serve)
    with pytest.raises(AttributeError, match="no attribute 'LoadBalancers'"):
        _ = balancer.LoadBalancers


@pytest.mark.parametrize("kind", [LoadBalancer, AsyncLoadBalancer])
def test_both_faces_offer_the_same(kind: type) -> None:
    public = {name for name in vars(kind) if not name.startswith("_")}
    assert public == {
        "add_endpoint",
        "as_openai_client",
        "chat",
        "close",
        "embed",
        "from_config",
        "from_env",
        "get_stats",
        "models",
        "remove_endpoint",
    }


def test_importing_balancer_loads_nothing_else(tmp_path: Path) -> None:
    loaded = loaded_by("import balancer; dir(balancer)", tmp_path)
    assert not loaded & (OF_THE_SERVER | OF_EXTRAS | {"asyncio", "orjson", "yaml"})
    assert not {name for name in loaded if name.startswith("balancer.")}


def test_the_library_loads_no_server_and_opens_nothing(tmp_path: Path) -> None:
    statement = (
        "from balancer import AsyncLoadBalancer, Endpoint, LoadBalancer\n"
        "AsyncLoadBalancer([Endpoint('http://gpu1:8000/v1')]).get_stats()"
    )
    loaded = loaded_by(statement, tmp_path)
    assert "balancer.library.synchronous" in loaded
    assert not loaded & (OF_THE_SERVER | OF_EXTRAS)
    assert not loaded & {"balancer.app", "balancer.server", "balancer.settings", "balancer.store", "balancer.notebook"}
