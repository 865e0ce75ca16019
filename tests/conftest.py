"""Fixtures of more than one module; a module's own of the same name come first.

Keeps the tests that drive a browser out of a run that did not ask for them by path: they use the synchronous interface
of Playwright, which does not go together with asyncio tests in one process.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from balancer.store import Database
from tests.store_parts import Clock, make_database, url_of
from tests.upstream_fakes import Bench, FakeLoop

_BROWSER = Path(__file__).parent / "browser"

# How long an example takes says how busy the machine is. All else as it is, which in CI is the same examples each time.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore `tests/browser` unless every path on the command line lies in it."""
    if collection_path != _BROWSER and _BROWSER not in collection_path.parents:
        return None
    asked = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if asked and all(path == _BROWSER or _BROWSER in path.parents for path in asked) else True


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, to copy."""
    return make_database(tmp_path_factory.mktemp("template") / "lb.db")


@pytest.fixture
async def database(template: Path, tmp_path: Path) -> AsyncIterator[Database]:
    """A database of the test's own, at `lb.db` in its folder."""
    shutil.copy(template, tmp_path / "lb.db")
    database = await Database.open(url_of(tmp_path / "lb.db"))
    yield database
    await database.close()


@pytest.fixture
def fresh_heap() -> Iterator[None]:
    """The garbage collector knows only what is made from now on: a look at that is quick, and tells of nothing else."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def clock() -> Clock:
    """Unix time that a test moves."""
    return Clock()


@pytest.fixture
def loop() -> Iterator[FakeLoop]:
    """An event loop without sockets whose time a test moves."""
    made = FakeLoop()
    yield made
    made.close()


@pytest.fixture
def bench(loop: FakeLoop) -> Bench:
    """One upstream connection on that loop."""
    return Bench(loop)
