"""Past runs, profiles and sets of prompts in an SQLite file of their own. Nothing secret is ever handed to it.

One connection in one thread; the event loop never waits for the disk. The balancer's database is another file, in
another directory.
"""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson

from load_tester.errors import HistoryError, NotFound

FILE_NAME = "load-tester.db"
# "LLMT": tells this file from others that are SQLite too.
_APPLICATION_ID = 0x4C4C4D54
_VERSION = 1
_TABLES = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, notes TEXT NOT NULL, state TEXT NOT NULL, started_at TEXT NOT NULL,
    ended_at TEXT, headline TEXT NOT NULL, result BLOB NOT NULL, requests BLOB NOT NULL
) STRICT;
CREATE INDEX runs_by_start ON runs (started_at);
CREATE TABLE profiles (name TEXT PRIMARY KEY, saved_at TEXT NOT NULL, value TEXT NOT NULL) STRICT;
CREATE TABLE prompt_sets (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, saved_at TEXT NOT NULL, lines INTEGER NOT NULL, data BLOB NOT NULL
) STRICT;
"""

T = TypeVar("T")


class History:
    """The file in `directory`, made if it is not there; of its runs the `keep_runs` that came last, 0: all.

    Raises HistoryError.
    """

    def __init__(self, directory: Path, keep_runs: int = 0) -> None:
        self.path = directory / FILE_NAME
        self._keep_runs = keep_runs
        self._thread = ThreadPoolExecutor(1, "history")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file, check that it is ours, bring it to the present version."""
        await self._do(self._open)

    async def close(self) -> None:
        """Write what is pending and let go of the file."""
        if self._connection is not None:
            await self._do(self._connection.close)
            self._connection = None
        self._thread.shutdown()

    # -- runs

    async def save(self, result: dict[str, Any], requests: Sequence[Sequence[Any]]) -> None:
        """Keep a run, replacing an earlier state of it."""
        values = (
            result["id"],
            result["name"],
            result["notes"],
            result["state"],
            result["started_at"],
            result["ended_at"],
            orjson.dumps(headline(result)).decode(),
        )

        def work() -> None:
            blobs = (zlib.compress(orjson.dumps(result)), zlib.compress(orjson.dumps(requests)))
            self._write("INSERT OR REPLACE INTO runs VALUES (?,?,?,?,?,?,?,?,?)", (*values, *blobs))
            self._forget_oldest()

        await self._do(work)

    async def runs(self, limit: int, offset: int) -> list[dict[str, Any]]:
        """The newest runs first: a headline of each."""
        query = "SELECT id, name, notes, state, started_at, ended_at, headline FROM runs ORDER BY started_at DESC, id"
        rows = await self._do(lambda: self._rows(f"{query} LIMIT ? OFFSET ?", (limit, offset)))
        names = ("id", "name", "notes", "state", "started_at", "ended_at")
        return [{**dict(zip(names, row, strict=False)), **orjson.loads(row[6])} for row in rows]

    async def count(self) -> int:
        """How many runs there are."""
        rows = await self._do(lambda: self._rows("SELECT count(*) FROM runs", ()))
        return int(rows[0][0])

    async def run(self, run_id: str) -> dict[str, Any]:
        """A whole run. Raises NotFound."""
        rows = await self._do(lambda: self._rows("SELECT result, name, notes FROM runs WHERE id = ?", (run_id,)))
        if not rows:
            raise NotFound(f"there is no run {run_id!r}")
        result: dict[str, Any] = orjson.loads(zlib.decompress(rows[0][0]))
        return {**result, "name": rows[0][1], "notes": rows[0][2]}

    async def requests(self, run_id: str) -> list[list[Any]]:
        """The requests of a run that were kept. Raises NotFound."""
        rows = await self._do(lambda: self._rows("SELECT requests FROM runs WHERE id = ?", (run_id,)))
        if not rows:
            raise NotFound(f"there is no run {run_id!r}")
        kept: list[list[Any]] = orjson.loads(zlib.decompress(rows[0][0]))
        return kept

    async def annotate(self, run_id: str, *, name: str | None, notes: str | None) -> None:
        """Another name or other notes. Raises NotFound."""
        change = "UPDATE runs SET name = coalesce(?, name), notes = coalesce(?, notes) WHERE id = ?"
        if not await self._do(lambda: self._write(change, (name, notes, run_id))):
            raise NotFound(f"there is no run {run_id!r}")

    async def delete_run(self, run_id: str) -> None:
        """Forget a run. Raises NotFound."""
        if not await self._do(lambda: self._write("DELETE FROM runs WHERE id = ?", (run_id,))):
            raise NotFound(f"there is no run {run_id!r}")

    # -- profiles

    async def profiles(self) -> list[dict[str, Any]]:
        """All of them, by name."""
        rows = await self._do(lambda: self._rows("SELECT name, saved_at, value FROM profiles ORDER BY name", ()))
        return [{"name": name, "saved_at": saved_at, **orjson.loads(value)} for name, saved_at, value in rows]

    async def save_profile(self, name: str, value: dict[str, Any]) -> None:
        """Keep cards under that name."""
        values = (name, _now(), orjson.dumps(value).decode())
        await self._do(lambda: self._write("INSERT OR REPLACE INTO profiles VALUES (?,?,?)", values))

    async def delete_profile(self, name: str) -> None:
        """Forget it. Raises NotFound."""
        if not await self._do(lambda: self._write("DELETE FROM profiles WHERE name = ?", (name,))):
            raise NotFound(f"there is no profile {name!r}")

    # -- sets of prompts

    async def prompt_sets(self) -> list[dict[str, Any]]:
        """All of them, without their prompts."""
        query = "SELECT id, name, saved_at, lines FROM prompt_sets ORDER BY saved_at"
        rows = await self._do(lambda: self._rows(query, ()))
        return [dict(zip(("id", "name", "saved_at", "lines"), row, strict=True)) for row in rows]

    async def prompt_set(self, set_id: str) -> bytes:
        """The file as it was uploaded. Raises NotFound."""
        rows = await self._do(lambda: self._rows("SELECT data FROM prompt_sets WHERE id = ?", (set_id,)))
        if not rows:
            raise NotFound(f"there is no set of prompts {set_id!r}")
        return zlib.decompress(rows[0][0])

    async def save_prompt_set(self, set_id: str, name: str, lines: int, data: bytes) -> None:
        """Keep an uploaded file."""

        def work() -> None:
            values = (set_id, name, _now(), lines, zlib.compress(data))
            self._write("INSERT OR REPLACE INTO prompt_sets VALUES (?,?,?,?,?)", values)

        await self._do(work)

    async def delete_prompt_set(self, set_id: str) -> None:
        """Forget it. Raises NotFound."""
        if not await self._do(lambda: self._write("DELETE FROM prompt_sets WHERE id = ?", (set_id,))):
            raise NotFound(f"there is no set of prompts {set_id!r}")

    # -- inside

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise HistoryError(f"{self.path}: {error}") from error

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = not self.path.exists()
            self.path.touch(mode=0o600)
        except OSError as error:
            raise HistoryError(f"{self.path} cannot be made: {error.strerror}; set LT_DATA_DIR") from None
        connection = self._connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA busy_timeout = 5000")
        if fresh or not self._rows("SELECT 1 FROM sqlite_master", ()):
            connection.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {_APPLICATION_ID}; "
                f"PRAGMA user_version = {_VERSION}; COMMIT;"
            )
        if self._rows("PRAGMA application_id", ())[0][0] != _APPLICATION_ID:
            raise HistoryError(f"{self.path} is another program's database; set LT_DATA_DIR to a directory of its own")
        version = self._rows("PRAGMA user_version", ())[0][0]
        if version != _VERSION:
            raise HistoryError(f"{self.path} was written by another version ({version}, this one knows {_VERSION})")
        connection.execute("PRAGMA journal_mode = WAL")
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        # By when they came into the file: one that is imported may have begun before all others.
        if self._keep_runs:
            oldest = "DELETE FROM runs WHERE rowid NOT IN (SELECT rowid FROM runs ORDER BY rowid DESC LIMIT ?)"
            self._write(oldest, (self._keep_runs,))

    def _rows(self, query: str, values: Sequence[Any]) -> list[Any]:
        return self._open_connection().execute(query, values).fetchall()

    def _write(self, statement: str, values: Sequence[Any]) -> int:
        return self._open_connection().execute(statement, values).rowcount

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise HistoryError("the history is closed")
        return self._connection


def headline(result: dict[str, Any]) -> dict[str, Any]:
    """What a list of runs shows of each."""
    cards = []
    for outcome in result["cards"]:
        summary = outcome["summary"] or {}
        latencies = summary.get("latencies", {})
        cards.append(
            {
                "name": outcome["card"]["name"],
                "url": outcome["card"]["url"],
                "model": outcome["card"]["model"],
                "load": outcome["card"]["load"]["kind"],
                "reason": outcome["reason"],
                "ok": outcome["totals"]["ok"],
                "failed": outcome["totals"]["failed"],
                "requests_per_second": summary.get("requests_per_second"),
                "output_tokens_per_second": summary.get("output_tokens_per_second"),
                "ttft_p95_ms": latencies.get("ttft", {}).get("p95"),
                "e2e_p95_ms": latencies.get("e2e", {}).get("p95"),
                "slo_met": outcome["slo_met"],
            }
        )
    return {"paired": result["paired"], "cards": cards}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
