"""Revisions: conflicts, history, restore and revert, provider keys kept and dropped."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balancer.store import (
    Change,
    ChangeRefused,
    Configuration,
    ConfigurationStore,
    CreateEndpoint,
    Database,
    DeleteEndpoint,
    EndpointTotals,
    FieldChange,
    NameTaken,
    RevertRefused,
    RevisionConflict,
    SetRoutingMode,
    UnknownRevision,
    UpdateEndpoint,
    UsageBatch,
    UsageStore,
    prune,
)
from tests.store_parts import EVERY_FIELD, KEY, Clock, endpoint, names, sql, url_of

DAY = 86_400.0


def without_layout(configuration: Configuration) -> tuple[object, ...]:
    """Everything a revision stands for."""
    bare = [dataclasses.replace(each, pos_x=0, pos_y=0, updated_at="") for each in configuration.endpoints]
    return (configuration.routing_mode, *bare)


def stored_keys(path: Path) -> list[str]:
    return [key for (key,) in sql(path, "SELECT api_key FROM endpoint_keys ORDER BY id")]


@pytest.fixture
def store(database: Database, clock: Clock) -> ConfigurationStore:
    return ConfigurationStore(database, clock=clock)


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


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
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
