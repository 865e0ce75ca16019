"""The configuration: round trip, revisions, conflicts, restore and revert, keys, crash and concurrency."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    EndpointTotals,
    FieldChange,
    NameTaken,
    RevertRefused,
    RevisionConflict,
    SetRoutingMode,
    StoreError,
    TokenStore,
    UnknownEndpoint,
    UnknownRevision,
    UnknownToken,
    UpdateEndpoint,
    UsageBatch,
    UsageStore,
    prune,
)
from balancer.store.tables import endpoints as endpoints_table

CHECKOUT = Path(__file__).resolve().parent.parent
KEY = "sk-very-secret"
DAY = 86_400.0


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


def without_layout(configuration: Configuration) -> tuple[object, ...]:
    """Everything a revision stands for."""
    bare = [dataclasses.replace(each, pos_x=0, pos_y=0, updated_at="") for each in configuration.endpoints]
    return (configuration.routing_mode, *bare)


def stored_keys(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [key for (key,) in connection.execute("SELECT api_key FROM endpoint_keys ORDER BY id")]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy: quicker than migrating one for each test."""
    path = tmp_path_factory.mktemp("template") / "lb.db"

    async def make() -> None:
        await (await Database.open(url_of(path))).close()

    asyncio.run(make())
    return path


@pytest.fixture
async def database(template: Path, tmp_path: Path) -> AsyncIterator[Database]:
    shutil.copy(template, tmp_path / "lb.db")
    database = await Database.open(url_of(tmp_path / "lb.db"))
    yield database
    await database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> ConfigurationStore:
    return ConfigurationStore(database, clock=clock)


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
    "pos_x": -12.5,
    "pos_y": 900.0,
}


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
    assert stored_keys(tmp_path / "lb.db") == []
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


async def test_a_conflict_says_what_changed(store: ConfigurationStore) -> None:
    await store.commit([endpoint("a", token_quota_percent=30), endpoint("b")], actor="me")
    await store.commit([UpdateEndpoint(1, {"token_quota_percent": 40, "api_key": KEY})], actor="other")
    await store.commit([DeleteEndpoint(2), endpoint("c"), SetRoutingMode("priority")], actor="other")
    await store.commit([UpdateEndpoint(1, {"token_quota_percent": 45})], actor="other")
    with pytest.raises(RevisionConflict) as caught:
        await store.commit([UpdateEndpoint(1, {"weight": 2})], actor="me", expected_revision=1)
    assert caught.value.current == await store.load()
    assert caught.value.changed == {
        "routing_mode": FieldChange("percentage", "priority"),
        "endpoints.1.token_quota_percent": FieldChange(30.0, 45.0),
        "endpoints.1.api_key_id": FieldChange(None, 1),
        "endpoints.2": FieldChange("b", None),
        "endpoints.3": FieldChange(None, "c"),
    }
    assert (await store.commit([UpdateEndpoint(1, {"weight": 2})], actor="me", expected_revision=4)).revision == 5


@pytest.mark.parametrize("expected", [-1, 0, 2, 10**30])
async def test_a_revision_nobody_has_seen_conflicts(store: ConfigurationStore, expected: int) -> None:
    await store.commit([endpoint("a")], actor="me")
    for going in (
        store.commit([], actor="me", expected_revision=expected),
        store.restore(1, actor="me", expected_revision=expected),
        store.revert(1, actor="me", expected_revision=expected),
    ):
        with pytest.raises(RevisionConflict) as caught:
            await going
        assert caught.value.changed == ({"endpoints.1": FieldChange(None, "a")} if expected == 0 else {})


async def test_revisions_say_who_when_and_what(store: ConfigurationStore, clock: Clock) -> None:
    await store.commit([endpoint("gpu-1"), endpoint("gpu-2", token_quota_percent=30)], actor="admin")
    clock.now += 60
    await store.commit(
        [
            UpdateEndpoint(1, {"connected": True, "api_key": KEY}),
            UpdateEndpoint(2, {"token_quota_percent": 40, "name": "gpu-3", "models": ["a"]}),
            SetRoutingMode("priority"),
        ],
        actor="editor",
    )
    await store.commit([UpdateEndpoint(1, {"api_key": "sk-other", "price_per_million_input": 0.5})], actor="editor")
    await store.commit([UpdateEndpoint(1, {"api_key": ""}), DeleteEndpoint(2)], actor="editor")
    found = await store.revisions()
    assert [(each.number, each.actor, each.created_at[11:19], each.summary) for each in found] == [
        (4, "editor", "08:01:00", "gpu-1: key removed; gpu-3: deleted"),
        (3, "editor", "08:01:00", "gpu-1: input price none -> 0.5, key changed"),
        (
            2,
            "editor",
            "08:01:00",
            "routing mode percentage -> priority; gpu-1: connected, key set;"
            " gpu-3: renamed from gpu-2, quota 30 -> 40, models changed",
        ),
        (1, "admin", "08:00:00", "gpu-1: added; gpu-2: added"),
    ]
    assert found[1].changes[0].before == {"api_key_id": 1, "price_per_million_input": None}
    assert found[1].changes[0].after == {"api_key_id": 2, "price_per_million_input": 0.5}
    assert "sk-" not in repr(found)


async def test_revisions_come_in_pages(store: ConfigurationStore) -> None:
    for number in range(5):
        await store.commit([endpoint(f"e{number}")], actor="me")
    assert [each.number for each in await store.revisions(limit=2)] == [5, 4]
    assert [each.number for each in await store.revisions(limit=2, before=4)] == [3, 2]
    assert [each.number for each in await store.revisions(limit=9, before=10**30)] == [5, 4, 3, 2, 1]
    assert await store.revisions(before=1) == []
    many = await store.commit([endpoint(f"f{number}") for number in range(20)], actor="me")
    assert len(many.endpoints) == 25
    assert (await store.revisions(limit=1))[0].summary.endswith("f7: added; and 12 more")


async def test_restore_is_a_new_revision_with_the_old_state(store: ConfigurationStore, clock: Clock) -> None:
    second = await store.commit([CreateEndpoint(EVERY_FIELD), endpoint("b")], actor="me")
    clock.now += 60
    await store.commit([UpdateEndpoint(1, {"api_key": "sk-other", "name": "x"}), DeleteEndpoint(2)], actor="me")
    await store.commit([endpoint("c"), SetRoutingMode("random")], actor="me")
    await store.set_positions({1: (77.0, 77.0)})
    restored = await store.restore(1, actor="me", expected_revision=3)
    assert without_layout(restored) == without_layout(second)
    assert (restored.revision, restored.endpoints[0].pos_x) == (4, 77.0)
    newest = (await store.revisions(limit=1))[0]
    assert newest.summary == (
        "restored revision 1: routing mode random -> percentage;"
        " gpu-1 ü: renamed from x, key changed; b: added; c: deleted"
    )
    assert (await store.restore(4, actor="me")).revision == 4  # nothing to do


async def test_undoing_a_delete_brings_everything_back(
    tmp_path: Path, database: Database, store: ConfigurationStore, clock: Clock
) -> None:
    before = (await store.commit([CreateEndpoint(EVERY_FIELD)], actor="me")).endpoints[0]
    totals = EndpointTotals(10, 9, 1, 1000, 2000, 9, 900.5)
    await UsageStore(database).write(UsageBatch(endpoints={1: totals}))
    clock.now += 3 * DAY
    await store.commit([DeleteEndpoint(1)], actor="me")
    await prune(database, clock.now, retention_days=1)
    assert stored_keys(tmp_path / "lb.db") == [KEY]
    back = await store.revert(2, actor="me")
    assert back.endpoints == (dataclasses.replace(before, updated_at="2027-01-18T08:00:00.000Z"),)
    assert await UsageStore(database).load_totals() == {1: totals}
    assert (await store.revisions(limit=1))[0].summary == "undid revision 2: gpu-1 ü: added"


async def test_revert_takes_back_one_revision_and_leaves_later_ones(store: ConfigurationStore) -> None:
    await store.commit([endpoint("a", weight=1), endpoint("b")], actor="me")
    await store.commit([UpdateEndpoint(1, {"weight": 2}), SetRoutingMode("weighted")], actor="me")
    await store.commit([UpdateEndpoint(1, {"timeout": 30}), endpoint("c")], actor="me")
    reverted = await store.revert(2, actor="me", expected_revision=3)
    assert (reverted.revision, reverted.routing_mode, names(reverted)) == (4, "percentage", {1: "a", 2: "b", 3: "c"})
    assert (reverted.endpoints[0].weight, reverted.endpoints[0].timeout) == (1.0, 30.0)
    assert names(await store.revert(3, actor="me")) == {1: "a", 2: "b"}


async def test_revert_is_refused_where_somebody_went_on(store: ConfigurationStore) -> None:
    await store.commit([endpoint("a"), endpoint("b")], actor="me")  # 1
    await store.commit([UpdateEndpoint(1, {"weight": 2, "timeout": 9}), SetRoutingMode("weighted")], actor="me")  # 2
    await store.commit([UpdateEndpoint(1, {"weight": 3}), SetRoutingMode("random"), DeleteEndpoint(2)], actor="me")  # 3
    before = await store.load()
    with pytest.raises(RevertRefused) as caught:
        await store.revert(1, actor="me")
    assert set(caught.value.fields) == {"endpoints.1.weight", "endpoints.1.timeout", "endpoints.2"}
    with pytest.raises(RevertRefused, match=r"revision 2 .*: routing_mode, endpoints.1.weight$"):
        await store.revert(2, actor="me")
    assert await store.load() == before
    await store.revert(3, actor="me")  # brings endpoint 2 back
    with pytest.raises(RevertRefused) as caught:
        await store.revert(3, actor="me")
    assert set(caught.value.fields) == {"endpoints.1.weight", "endpoints.2", "routing_mode"}


async def test_revert_cannot_bring_back_a_name_that_is_taken(store: ConfigurationStore) -> None:
    await store.commit([endpoint("a")], actor="me")
    await store.commit([DeleteEndpoint(1)], actor="me")
    before = await store.commit([endpoint("a")], actor="me")
    with pytest.raises(NameTaken):
        await store.revert(2, actor="me")
    assert await store.load() == before


@pytest.mark.parametrize("number", [-1, 0, 2, 10**30])
async def test_an_unknown_revision(store: ConfigurationStore, number: int) -> None:
    await store.commit([endpoint("a")], actor="me")
    with pytest.raises(UnknownRevision):
        await store.restore(number, actor="me")
    with pytest.raises(UnknownRevision):
        await store.revert(number, actor="me")


async def test_keys_are_stored_once_and_only_as_long_as_needed(
    tmp_path: Path, database: Database, store: ConfigurationStore, clock: Clock
) -> None:
    path = tmp_path / "lb.db"
    stored = await store.commit([endpoint("a", api_key=KEY), endpoint("b", api_key=KEY)], actor="me")
    assert [each.api_key_id for each in stored.endpoints] == [1, 1]
    await store.commit([UpdateEndpoint(1, {"api_key": "sk-2"})], actor="me")
    await store.commit([UpdateEndpoint(1, {"api_key": "sk-3"}), UpdateEndpoint(2, {"api_key": ""})], actor="me")
    await prune(database, clock.now, retention_days=30)
    assert stored_keys(path) == [KEY, "sk-2", "sk-3"]
    for weight in range(2, 102):  # a hundred later revisions
        await store.commit([UpdateEndpoint(1, {"weight": weight})], actor="me")
    await prune(database, clock.now, retention_days=30)
    assert len(await store.revisions(limit=200)) == 103
    clock.now += 31 * DAY
    await prune(database, clock.now, retention_days=30)
    assert [each.number for each in await store.revisions(limit=200)] == list(range(103, 3, -1))
    assert stored_keys(path) == ["sk-3"]
    assert (await store.load()).endpoints[0].api_key == "sk-3"
    with pytest.raises(UnknownRevision):
        await store.restore(3, actor="me")
    with pytest.raises(RevisionConflict) as caught:
        await store.commit([], actor="me", expected_revision=2)
    assert caught.value.changed == {}
    await database.close()
    assert KEY.encode() not in path.read_bytes()


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


# -- any sequence of changes ------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["a", "b", "c", "A"])
_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": _NAMES,
        "api_key": st.sampled_from(["", "k1", "k2"]),
        "connected": st.booleans(),
        "weight": st.sampled_from([1, 2.5]),
        "price_per_million_input": st.sampled_from([None, 0.0, 2.0]),
        "models": st.lists(st.sampled_from(["m", "n"]), max_size=2),
        "model_aliases": st.dictionaries(st.sampled_from(["x", "y"]), st.just("m"), max_size=2),
        "pos_x": st.sampled_from([0.0, 7.0]),
    },
)
_IDS = st.integers(1, 5)
_CHANGES = st.one_of(
    st.builds(lambda name, fields: endpoint(**{**fields, "name": name}), _NAMES, _FIELDS),
    st.builds(UpdateEndpoint, _IDS, _FIELDS),
    st.builds(DeleteEndpoint, _IDS),
    st.builds(SetRoutingMode, st.sampled_from(["percentage", "priority"])),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(st.lists(_CHANGES, min_size=1, max_size=3), min_size=2, max_size=8),
    visits=st.lists(st.integers(0, 99), min_size=1, max_size=3),
)
async def test_restoring_a_revision_gives_exactly_what_stood_after_it(
    template: Path, batches: list[list[Change]], visits: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "lb.db"
        await asyncio.to_thread(shutil.copy, template, path)
        database = await Database.open(url_of(path))
        store = ConfigurationStore(database)
        history: dict[int, tuple[object, ...]] = {}
        for batch in batches:
            try:
                stored = await store.commit(batch, actor="me")
            except ChangeRefused:
                continue
            history.setdefault(stored.revision, without_layout(stored))
        history.pop(0, None)
        for visit in visits if history else ():
            number = sorted(history)[visit % len(history)]
            restored = await store.restore(number, actor="me")
            assert without_layout(restored) == history[number]
            history.setdefault(restored.revision, without_layout(restored))
        await database.close()
