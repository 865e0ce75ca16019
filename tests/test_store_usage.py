"""Usage: totals and minutes, the writer behind the requests, and what is deleted in time."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from balancer.store import (
    ConfigurationStore,
    CreateEndpoint,
    Database,
    DeleteEndpoint,
    EndpointTotals,
    MinuteUsage,
    TokenStore,
    TokenTotals,
    UpdateEndpoint,
    UsageBatch,
    UsageStore,
    UsageWriter,
    prune,
)
from tests.store_parts import Clock, sql, url_of

NOON = 1_800_000_000  # a full minute, and a full hour
DAY = 86_400


class Counters:
    """What a process counts: gives what has changed since it was last asked."""

    def __init__(self) -> None:
        self.batches: list[UsageBatch] = []

    def __call__(self) -> UsageBatch | None:
        return self.batches.pop(0) if self.batches else None


def requests(**by_endpoint: int) -> UsageBatch:
    """Totals of endpoints e1, e2, ... with so many requests."""
    return UsageBatch({int(name[1:]): EndpointTotals(total_requests=count) for name, count in by_endpoint.items()})


def minute(number: int, endpoint_id: int = 1, count: int = 1) -> MinuteUsage:
    return MinuteUsage(NOON + number * 60, endpoint_id, requests=count)


def minutes(*rows: MinuteUsage) -> UsageBatch:
    return UsageBatch(minutes={(row.minute, row.endpoint_id): row for row in rows})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def break_totals(path: Path) -> None:
    sql(path, "CREATE TRIGGER broken BEFORE INSERT ON endpoint_totals BEGIN SELECT RAISE(ABORT, 'out of order'); END")


def repair_totals(path: Path) -> None:
    sql(path, "DROP TRIGGER broken")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the endpoints 1 and 2, to copy: quicker than making one for each test."""
    path = tmp_path_factory.mktemp("template") / "lb.db"

    async def make() -> None:
        database = await Database.open(url_of(path))
        created = [CreateEndpoint({"name": name, "base_url": "http://x"}) for name in ("a", "b")]
        await ConfigurationStore(database, clock=Clock()).commit(created, actor="test")
        await database.close()

    asyncio.run(make())
    return path


@pytest.fixture
def store(database: Database, clock: Clock) -> UsageStore:
    return UsageStore(database, clock=clock)


# -- what is stored ----------------------------------------------------------------------------------------------------


async def test_totals_are_replaced_by_what_memory_holds(store: UsageStore) -> None:
    first = EndpointTotals(10, 8, 2, 1000, 2000, 8, 804.0)
    await store.write(UsageBatch({1: first, 2: EndpointTotals(total_requests=5)}))
    await store.write(requests(e2=7))
    assert await store.load_totals() == {1: first, 2: EndpointTotals(total_requests=7)}
    assert (first.avg_latency_ms, EndpointTotals().avg_latency_ms) == (100.5, 0.0)
    await store.write(requests(e1=0))  # a reset
    assert (await store.load_totals())[1] == EndpointTotals()


async def test_token_totals_are_stored_with_their_token(database: Database, store: UsageStore) -> None:
    tokens = TokenStore(database)
    await tokens.create("app", "1" * 64, "a")
    await store.write(UsageBatch(tokens={1: TokenTotals(3, 40, 50, last_used_at=NOON + 1.5), 99: TokenTotals(1)}))
    await store.write(UsageBatch(tokens={1: TokenTotals(4, 41, 51)}))
    (record,) = await tokens.load()
    assert (record.total_requests, record.prompt_tokens_total, record.completion_tokens_total) == (4, 41, 51)
    assert record.last_used_at == "2027-01-15T08:00:01.500Z"


async def test_an_absurd_count_does_not_keep_the_others_from_being_stored(
    database: Database, store: UsageStore
) -> None:
    await TokenStore(database).create("app", "1" * 64, "a")
    absurd = 10**40
    batch = UsageBatch(
        {1: EndpointTotals(prompt_tokens_total=absurd), 2: EndpointTotals(total_requests=2)},
        {1: TokenTotals(1, absurd, absurd)},
        {(NOON, 1): MinuteUsage(NOON, 1, prompt_tokens=absurd)},
    )
    await store.write(batch)
    totals = await store.load_totals()
    assert (totals[1].prompt_tokens_total, totals[2].total_requests) == (2**63 - 1, 2)


async def test_minutes_are_read_from_a_time_on_and_for_one_endpoint(store: UsageStore) -> None:
    whole = MinuteUsage(NOON + 60, 1, 4, 1, 100, 200, 3, 300.0)
    await store.write(minutes(minute(0), minute(1), minute(1, endpoint_id=2), minute(2)))
    await store.write(minutes(whole))
    assert await store.minutes(NOON + 60) == [whole, minute(1, 2), minute(2)]
    assert await store.minutes(NOON + 61) == [minute(2)]
    assert await store.minutes(0, 2) == [minute(1, 2)]
    assert await store.minutes(NOON + 180) == []


async def test_minutes_are_added_up_to_steps(store: UsageStore) -> None:
    rows = [MinuteUsage(NOON + n * 60, 1, 1, 2, 3, 4, 5, 6.5) for n in (0, 4, 5, 9, 10)]
    await store.write(minutes(*rows, minute(5, endpoint_id=2)))
    assert await store.minutes(NOON, step_seconds=300) == [
        MinuteUsage(NOON, 1, 2, 4, 6, 8, 10, 13.0),
        MinuteUsage(NOON + 300, 1, 2, 4, 6, 8, 10, 13.0),
        minute(5, 2),
        MinuteUsage(NOON + 600, 1, 1, 2, 3, 4, 5, 6.5),
    ]


async def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path, database: Database, store: UsageStore) -> None:
    break_totals(tmp_path / "lb.db")
    writer = UsageWriter(database, Counters())
    assert await writer.flush()
    counters = Counters()
    counters.batches.append(UsageBatch({1: EndpointTotals(1)}, minutes=minutes(minute(0)).minutes))
    assert not await UsageWriter(database, counters).flush()
    assert await store.minutes(0) == []


# -- the writer --------------------------------------------------------------------------------------------------------


async def test_the_writer_writes_what_is_collected(database: Database, store: UsageStore) -> None:
    counters = Counters()
    writer = UsageWriter(database, counters, interval_seconds=0.001)
    await writer.start()
    counters.batches += [requests(e1=1), requests(e1=2, e2=1)]
    await until(lambda: not counters.batches)
    assert await writer.flush()
    assert await store.load_totals() == {1: EndpointTotals(2), 2: EndpointTotals(1)}
    counters.batches.append(requests(e1=3))
    await writer.stop()
    assert (await store.load_totals())[1] == EndpointTotals(3)
    assert (writer.failing, writer.lost) == (None, 0)
    with pytest.raises(RuntimeError):
        await writer.start()


async def test_flush_writes_at_once(database: Database, store: UsageStore) -> None:
    counters = Counters()
    writer = UsageWriter(database, counters, interval_seconds=3600)
    await writer.start()
    counters.batches.append(requests(e1=5))
    assert await writer.flush()
    assert await store.load_totals() == {1: EndpointTotals(5)}
    await writer.stop()


async def test_a_failing_database_is_said_once_and_caught_up_with(
    tmp_path: Path, database: Database, store: UsageStore, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    writer = UsageWriter(database, counters, interval_seconds=3600)
    break_totals(tmp_path / "lb.db")
    counters.batches += [
        UsageBatch({1: EndpointTotals(1), 2: EndpointTotals(9)}, minutes=minutes(minute(0, count=5)).minutes),
        requests(e1=2),
    ]
    with caplog.at_level(logging.INFO, "balancer.store"):
        for _ in range(3):
            assert not await writer.flush()
        told = writer.failing
        assert told == f"the database {tmp_path / 'lb.db'} cannot be used: out of order"
        assert await store.load_totals() == {}
        repair_totals(tmp_path / "lb.db")
        assert await writer.flush()
        assert await writer.flush()
    assert writer.failing is None
    assert await store.load_totals() == {1: EndpointTotals(2), 2: EndpointTotals(9)}
    assert await store.minutes(0) == [minute(0, count=5)]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "out of order" in caplog.text


async def test_the_running_writer_goes_on_when_the_database_works_again(
    tmp_path: Path, database: Database, store: UsageStore
) -> None:
    counters = Counters()
    counters.batches.append(requests(e1=1))
    break_totals(tmp_path / "lb.db")
    writer = UsageWriter(database, counters, interval_seconds=0.001)
    await writer.start()
    await until(lambda: writer.failing is not None)
    # Not in the event loop, which the writer needs to end the transaction this waits for.
    await asyncio.to_thread(repair_totals, tmp_path / "lb.db")
    await until(lambda: writer.failing is None)
    assert await store.load_totals() == {1: EndpointTotals(1)}
    await writer.stop()


async def test_memory_stays_bounded_while_the_database_fails(
    tmp_path: Path, database: Database, store: UsageStore
) -> None:
    counters = Counters()
    writer = UsageWriter(database, counters, most_pending_minutes=3)
    break_totals(tmp_path / "lb.db")
    counters.batches += [minutes(minute(number)) for number in range(5)]
    counters.batches[0] = UsageBatch({1: EndpointTotals(5)}, minutes=counters.batches[0].minutes)
    for _ in range(5):
        assert not await writer.flush()
    repair_totals(tmp_path / "lb.db")
    assert await writer.flush()
    assert writer.lost == 2
    assert await store.minutes(0) == [minute(2), minute(3), minute(4)]
    assert await store.load_totals() == {1: EndpointTotals(5)}


async def test_stopping_with_a_failing_database_says_what_is_lost(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    writer = UsageWriter(database, counters, interval_seconds=3600)
    break_totals(tmp_path / "lb.db")
    counters.batches.append(requests(e1=1))
    await writer.start()
    await writer.stop()
    assert "the last usage is lost" in caplog.text
    assert writer.failing


async def test_stop_writes_to_the_end_though_its_caller_leaves(
    tmp_path: Path, database: Database, store: UsageStore
) -> None:
    counters = Counters()
    writer = UsageWriter(database, counters, interval_seconds=3600)
    await writer.start()
    assert await writer.flush()
    counters.batches.append(requests(e1=1))
    with closing(sqlite3.connect(tmp_path / "lb.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        leaving = asyncio.create_task(writer.stop())
        await until(lambda: not counters.batches)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        other.execute("ROLLBACK")
    await writer.stop()
    assert await store.load_totals() == {1: EndpointTotals(1)}


async def test_a_collector_that_raises_is_visible(database: Database) -> None:
    def broken() -> UsageBatch:
        raise ZeroDivisionError("a mistake")

    writer = UsageWriter(database, broken, interval_seconds=0.001)
    await writer.start()
    await until(lambda: writer.failing is not None)
    assert writer.failing == "the usage writer has stopped"
    with pytest.raises(ZeroDivisionError):
        await writer.stop()


async def test_the_writer_deletes_old_rows_at_the_start_and_every_hour(
    database: Database, store: UsageStore, clock: Clock
) -> None:
    await store.write(minutes(minute(-2 * 1440), minute(-1440 + 30), minute(0)))
    writer = UsageWriter(database, Counters(), interval_seconds=0.001, retention_days=1, clock=clock)
    await writer.start()

    async def kept(count: int) -> None:
        async with asyncio.timeout(10):
            while len(await store.minutes(0)) != count:
                await asyncio.sleep(0.005)

    await kept(2)
    clock.now += 3599
    assert await writer.flush()
    clock.now += 1
    await kept(1)
    await writer.stop()
    assert await store.minutes(0) == [minute(0)]


# -- retention ---------------------------------------------------------------------------------------------------------


async def test_old_minutes_are_deleted_however_many_days_there_are(database: Database, store: UsageStore) -> None:
    await store.write(minutes(*(minute(-1440 * day, each) for day in range(0, 400, 7) for each in (1, 2))))
    await prune(database, NOON, retention_days=30)
    assert [row.minute for row in await store.minutes(0, 1)] == [NOON - day * DAY for day in (28, 21, 14, 7, 0)]
    await prune(database, NOON, retention_days=10**9)
    assert len(await store.minutes(0)) == 10


async def test_totals_go_when_nothing_can_bring_their_endpoint_back(
    database: Database, store: UsageStore, clock: Clock
) -> None:
    configuration = ConfigurationStore(database, clock=clock)
    await configuration.commit([DeleteEndpoint(1)], actor="me")
    await store.write(requests(e1=1, e2=2, e77=3))
    await prune(database, clock.now, retention_days=30)
    assert (await store.load_totals()).keys() == {1, 2}
    for number in range(100):
        await configuration.commit([UpdateEndpoint(2, {"timeout": number + 1})], actor="me")
    await prune(database, clock.now + 31 * DAY, retention_days=30)
    assert (await store.load_totals()).keys() == {2}


async def test_revisions_never_exceed_five_thousand(tmp_path: Path, database: Database, clock: Clock) -> None:
    configuration = ConfigurationStore(database, clock=clock)
    sql(tmp_path / "lb.db", "DELETE FROM revisions")
    sql(
        tmp_path / "lb.db",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5100)"
        " INSERT INTO revisions SELECT i, '2027-01-15T08:00:00.000Z', 'script', '' FROM n",
    )
    sql(tmp_path / "lb.db", "UPDATE configuration SET revision = 5100")
    await prune(database, clock.now, retention_days=30)
    numbers = [each.number for each in await configuration.revisions(limit=10_000)]
    assert numbers == list(range(5100, 100, -1))
