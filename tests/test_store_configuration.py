"""The configuration: round trip, names and ids, positions, batches, secrets, concurrency, a kill."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from balancer.core.endpoints import Endpoint
from balancer.store import (
    Change,
    ChangeRefused,
    Configuration,
    ConfigurationStore,
    CreateEndpoint,
    Database,
    DeleteEndpoint,
    EndpointRecord,
    NameTaken,
    RevisionConflict,
    SetRoutingMode,
    StoreError,
    TokenStore,
    UnknownEndpoint,
    UnknownToken,
    UpdateEndpoint,
)
from balancer.store.tables import endpoints as endpoints_table
from tests.store_parts import EVERY_FIELD, KEY, Clock, endpoint, names, sql, url_of

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture
def store(database: Database, clock: Clock) -> ConfigurationStore:
    return ConfigurationStore(database, clock=clock)


def test_a_record_has_every_field_of_an_endpoint_and_a_column_for_each() -> None:
    fields = {field.name for field in dataclasses.fields(EndpointRecord)}
    assert {field.name for field in dataclasses.fields(Endpoint)} < fields
    assert {column.name for column in endpoints_table.c} == fields - {"api_key"}
    assert EVERY_FIELD.keys() == fields - {"id", "api_key_id", "created_at", "updated_at"}


async def test_a_new_database_is_empty_at_revision_0(database: Database) -> None:
    first = await ConfigurationStore(database, initial_routing_mode="priority").load()
    assert first == Configuration(0, "priority", (), (80.0, 300.0))
    # From now on the database knows.
    assert (await ConfigurationStore(database, initial_routing_mode="random").load()).routing_mode == "priority"


async def test_every_field_survives_a_restart(tmp_path: Path, store: ConfigurationStore, database: Database) -> None:
    await store.commit([CreateEndpoint(EVERY_FIELD), endpoint("plain"), SetRoutingMode("weighted")], actor="me")
    await database.close()
    again = await Database.open(url_of(tmp_path / "lb.db"))
    loaded = await ConfigurationStore(again).load()
    await again.close()
    assert (loaded.revision, loaded.routing_mode) == (1, "weighted")
    time = "2027-01-15T08:00:00.000Z"
    assert loaded.endpoints == (
        EndpointRecord(id=1, api_key_id=1, created_at=time, updated_at=time, **EVERY_FIELD),
        EndpointRecord(id=2, name="plain", base_url="http://plain/v1", created_at=time, updated_at=time),
    )


async def test_an_update_touches_its_fields_and_its_time_only(store: ConfigurationStore, clock: Clock) -> None:
    before = (await store.commit([CreateEndpoint(EVERY_FIELD)], actor="me")).endpoints[0]
    clock.now += 1.5
    fields: dict[str, object] = {"weight": 3, "price_per_million_input": None, "models": []}
    after = (await store.commit([UpdateEndpoint(1, fields)], actor="me")).endpoints[0]
    assert after == dataclasses.replace(
        before,
        weight=3.0,
        price_per_million_input=None,
        models=(),
        updated_at="2027-01-15T08:00:01.500Z",
    )


async def test_what_changes_nothing_makes_no_revision(store: ConfigurationStore) -> None:
    stored = await store.commit([CreateEndpoint(EVERY_FIELD)], actor="me")
    assert await store.commit([UpdateEndpoint(1, EVERY_FIELD), SetRoutingMode("percentage")], actor="me") == stored
    assert (
        await store.commit([UpdateEndpoint(1, {"api_key": "x"}), UpdateEndpoint(1, {"api_key": KEY})], actor="me")
        == stored
    )
    assert await store.commit([], actor="me") == stored
    assert len(await store.revisions()) == 1


async def test_positions_make_no_revision(database: Database, store: ConfigurationStore) -> None:
    await store.commit([endpoint("a"), endpoint("b")], actor="me")
    token = await TokenStore(database).create("app", "0" * 64, "ct-1...wxyz")
    await store.set_positions({1: (1.0, 2.0), 2: (3.5, -4.0)}, incoming=(5.0, 6.0), tokens={token.id: (7.0, 8.0)})
    moved = await store.commit([UpdateEndpoint(2, {"pos_x": 9})], actor="me")
    assert moved == await store.load()
    assert [(each.pos_x, each.pos_y) for each in moved.endpoints] == [(1.0, 2.0), (9.0, -4.0)]
    assert (moved.revision, moved.incoming_pos) == (1, (5.0, 6.0))
    assert moved.endpoints[1].updated_at == moved.endpoints[1].created_at
    assert [(each.pos_x, each.pos_y) for each in await TokenStore(database).load()] == [(7.0, 8.0)]


@pytest.mark.parametrize("unknown", [3, 0, -1, 10**30])
async def test_positions_of_the_unknown_are_refused_with_all_others(store: ConfigurationStore, unknown: int) -> None:
    before = await store.commit([endpoint("a")], actor="me")
    with pytest.raises(UnknownEndpoint):
        await store.set_positions({1: (1.0, 1.0), unknown: (2.0, 2.0)})
    with pytest.raises(UnknownToken):
        await store.set_positions({1: (1.0, 1.0)}, incoming=(1.0, 1.0), tokens={unknown: (2.0, 2.0)})
    assert await store.load() == before


async def test_the_incoming_node_can_be_placed_before_anything_else(store: ConfigurationStore) -> None:
    await store.set_positions({}, incoming=(1.0, 2.0))
    assert (await store.load()).incoming_pos == (1.0, 2.0)


async def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path, store: ConfigurationStore) -> None:
    before = await store.commit([endpoint("a"), endpoint("b")], actor="me")
    good: list[Change] = [
        endpoint("c", api_key="sk-c"),
        UpdateEndpoint(1, {"connected": True}),
        SetRoutingMode("random"),
    ]
    refused: list[tuple[Change, type[ChangeRefused]]] = [
        (UpdateEndpoint(2, {"name": "a"}), NameTaken),
        (endpoint("c"), NameTaken),
        (UpdateEndpoint(9, {"weight": 2}), UnknownEndpoint),
        (UpdateEndpoint(10**30, {"weight": 2}), UnknownEndpoint),
        (DeleteEndpoint(9), UnknownEndpoint),
    ]
    for bad, error in refused:
        with pytest.raises(error):
            await store.commit([*good, bad], actor="me")
    with pytest.raises(UnknownEndpoint):
        await store.commit([*good, DeleteEndpoint(1), UpdateEndpoint(1, {"weight": 2})], actor="me")
    assert await store.load() == before
    assert sql(tmp_path / "lb.db", "SELECT * FROM endpoint_keys") == []
    after = await store.commit(good, actor="me")
    assert (after.revision, names(after)) == (2, {1: "a", 2: "b", 3: "c"})


@pytest.mark.parametrize(
    "fields",
    [
        {"id": 3},
        {"created_at": "now"},
        {"nonsense": 1},
        {"api_key_id": 1},
        {"weight": float("nan")},
        {"price_per_million_input": float("inf")},
        {"pos_x": float("-inf")},
    ],
)
async def test_what_no_caller_may_set(store: ConfigurationStore, fields: dict[str, object]) -> None:
    await store.commit([endpoint("a", api_key=KEY)], actor="me")
    for change in (UpdateEndpoint(1, fields), endpoint("b", **fields), CreateEndpoint({"name": "b"})):
        with pytest.raises(ValueError, match=r"be set|as api_key|be stored|needs base_url"):
            await store.commit([change], actor="me")


async def test_names_are_unique_by_case(store: ConfigurationStore) -> None:
    await store.commit([endpoint("gpu"), endpoint("GPU")], actor="me")
    with pytest.raises(NameTaken) as caught:
        await store.commit([UpdateEndpoint(2, {"name": "gpu"})], actor="me")
    assert caught.value.name == "gpu"


async def test_names_can_be_passed_on_within_one_change(store: ConfigurationStore) -> None:
    await store.commit([endpoint("a"), endpoint("b"), endpoint("c"), endpoint("d")], actor="me")
    swapped = await store.commit(
        [
            UpdateEndpoint(1, {"name": "b"}),
            UpdateEndpoint(2, {"name": "c"}),
            UpdateEndpoint(3, {"name": "a"}),
            DeleteEndpoint(4),
            endpoint("d"),
        ],
        actor="me",
    )
    assert names(swapped) == {1: "b", 2: "c", 3: "a", 5: "d"}


async def test_an_id_is_never_given_twice(store: ConfigurationStore) -> None:
    await store.commit([endpoint("a"), endpoint("b")], actor="me")
    await store.commit([DeleteEndpoint(2)], actor="me")
    assert names(await store.commit([endpoint("c")], actor="me")) == {1: "a", 3: "c"}
    await store.restore(1, actor="me")
    assert names(await store.commit([endpoint("d")], actor="me")) == {1: "a", 2: "b", 4: "d"}


async def test_secrets_show_nowhere(store: ConfigurationStore) -> None:
    create, change = endpoint("a", api_key=KEY), UpdateEndpoint(1, {"api_key": KEY})
    stored = await store.commit([create], actor="me")
    unstorable = UpdateEndpoint(1, {"api_key": KEY + "\ud800", "priority_order": 10**30})
    with pytest.raises(StoreError) as caught:
        await store.commit([unstorable], actor="me")
    with pytest.raises(StoreError) as also_caught:
        await store.commit([UpdateEndpoint(1, {"name": None, "api_key": KEY + "2"})], actor="me")
    told = [repr(each) for each in (create, change, stored, stored.endpoints)]
    told += ["".join(traceback.format_exception(each.value)) for each in (caught, also_caught)]
    assert KEY not in "".join(told)
    assert (await store.load()) == stored


async def test_twenty_changes_at_once_follow_each_other(store: ConfigurationStore) -> None:
    await asyncio.gather(*(store.commit([endpoint(f"e{number}")], actor="me") for number in range(20)))
    found = await store.revisions()
    assert [each.number for each in found] == list(range(20, 0, -1))
    loaded = await store.load()
    assert [each.id for each in loaded.endpoints] == list(range(1, 21))
    assert len(set(names(loaded).values())) == 20


async def test_of_twenty_changes_of_the_same_revision_one_wins(store: ConfigurationStore) -> None:
    await store.commit([endpoint("a", weight=100)], actor="me")
    results = await asyncio.gather(
        *(store.commit([UpdateEndpoint(1, {"weight": n})], actor="me", expected_revision=1) for n in range(1, 21)),
        return_exceptions=True,
    )
    stored = [each for each in results if isinstance(each, Configuration)]
    assert stored == [await store.load()]
    conflicts = [each for each in results if isinstance(each, RevisionConflict)]
    assert len(conflicts) == 19
    assert {each.current.revision for each in conflicts} == {2}


async def test_two_processes_worth_of_changes_leave_no_gap(tmp_path: Path, store: ConfigurationStore) -> None:
    other = await Database.open(url_of(tmp_path / "lb.db"))
    others = ConfigurationStore(other)
    await asyncio.gather(
        *(
            each.commit([endpoint(f"{who}{n}")], actor=who)
            for n in range(10)
            for who, each in {"a": store, "b": others}.items()
        )
    )
    await other.close()
    assert [each.number for each in await store.revisions()] == list(range(20, 0, -1))
    assert len((await store.load()).endpoints) == 20


@pytest.mark.parametrize("steps", range(1, 40, 3))
async def test_a_change_once_begun_is_stored_whole_though_its_caller_leaves(
    store: ConfigurationStore, steps: int
) -> None:
    await store.commit([endpoint("a")], actor="me")
    leaving = asyncio.create_task(store.commit([endpoint("b", api_key=KEY), DeleteEndpoint(1)], actor="me"))
    for _ in range(steps):
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    after = await store.commit([endpoint("c")], actor="me")  # waits for its turn
    assert (after.revision, names(after)) == (3, {2: "b", 3: "c"})


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    script = f"""
import asyncio, time
from balancer.store import *
async def main():
    store = ConfigurationStore(await Database.open({url_of(tmp_path / "lb.db")!r}))
    fields = {{"name": "a", "base_url": "http://a", "api_key": "sk-1"}}
    stored = await store.commit([CreateEndpoint(fields)], actor="me")
    print(stored.revision, flush=True)
    time.sleep(60)
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=CHECKOUT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    process.kill()
    process.communicate()

    async def reopened() -> Configuration:
        database = await Database.open(url_of(tmp_path / "lb.db"))
        loaded = await ConfigurationStore(database).load()
        await database.close()
        return loaded

    loaded = asyncio.run(reopened())
    assert [(each.name, each.api_key) for each in loaded.endpoints] == [("a", "sk-1")]
