"""What the tests of the store share: a clock, databases quickly made, an endpoint with every field set."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from balancer.store import Configuration, CreateEndpoint, Database

KEY = "sk-very-secret"


class Clock:
    """Unix time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def endpoint(name: str, **fields: object) -> CreateEndpoint:
    return CreateEndpoint({"name": name, "base_url": f"http://{name}/v1", **fields})


def names(configuration: Configuration) -> dict[int, str]:
    return {each.id: each.name for each in configuration.endpoints}


def make_database(path: Path) -> Path:
    """A migrated database to copy: quicker than migrating one for each test."""

    async def make() -> None:
        await (await Database.open(url_of(path))).close()

    asyncio.run(make())
    return path


def sql(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Run one statement beside the program, and commit it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


EVERY_FIELD: dict[str, Any] = {
    "name": "gpu-1 ü",
    "base_url": "https://gpu-1:8000/v1",
    "api_key": KEY,
    "timeout": 12.5,
    "verify_tls": False,
    "enabled": False,
    "connected": True,
    "token_quota_percent": 33.3,
    "priority_order": 2,
    "max_concurrent": 7,
    "weight": 0.25,
    "models": ("org/llama-3", "b"),
    "model_aliases": {"gpt-4o": "org/llama-3"},
    "include_usage": False,
    "price_per_million_input": 0.0,
    "price_per_million_output": 1.5,
    "tags": ("eu", "fast"),
    "health_check": False,
    "discovered": True,
    "pos_x": -12.5,
    "pos_y": 900.0,
}
