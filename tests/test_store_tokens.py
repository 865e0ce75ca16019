"""Client tokens: created once, renamed, revoked and kept."""

from __future__ import annotations

import pytest

from balancer.store import Database, NameTaken, TokenRecord, TokenStore, TokenTaken, UnknownToken
from tests.store_parts import Clock

FIRST, SECOND = "1" * 64, "2" * 64


@pytest.fixture
def store(database: Database, clock: Clock) -> TokenStore:
    return TokenStore(database, clock=clock)


async def test_a_token_is_stored_with_its_defaults(store: TokenStore) -> None:
    created = await store.create("app ü", FIRST, "ct-1...wxyz")
    expected = TokenRecord(1, "app ü", FIRST, "ct-1...wxyz", "2027-01-15T08:00:00.000Z")
    assert created == expected
    assert (created.pos_x, created.pos_y, created.revoked) == (80.0, 100.0, False)
    assert await store.load() == (expected,)
    assert FIRST not in repr(created)


async def test_tokens_and_names_in_use_are_unique(store: TokenStore) -> None:
    await store.create("app", FIRST, "a")
    with pytest.raises(NameTaken):
        await store.create("app", SECOND, "b")
    with pytest.raises(TokenTaken) as caught:
        await store.create("other", FIRST, "a")
    assert FIRST not in str(caught.value)
    await store.create("App", SECOND, "b", position=(1.0, 2.0))
    with pytest.raises(NameTaken):
        await store.update(2, name="app", position=(9.0, 9.0))
    assert [(each.name, each.pos_x) for each in await store.load()] == [("app", 80.0), ("App", 1.0)]


async def test_a_token_is_renamed_and_moved(store: TokenStore) -> None:
    await store.create("app", FIRST, "a")
    assert (await store.update(1, name="web")).name == "web"
    moved = await store.update(1, position=(3.0, 4.5))
    assert (moved.name, moved.pos_x, moved.pos_y) == ("web", 3.0, 4.5)
    assert await store.update(1) == await store.update(1, name="web") == moved


async def test_a_revoked_token_is_kept_and_frees_its_name(store: TokenStore, clock: Clock) -> None:
    await store.create("app", FIRST, "a")
    revoked = await store.revoke(1)
    assert (revoked.revoked, revoked.revoked_at) == (True, "2027-01-15T08:00:00.000Z")
    clock.now += 60
    assert await store.revoke(1) == revoked
    with pytest.raises(TokenTaken):
        await store.create("app", FIRST, "a")
    second = await store.create("app", SECOND, "b")
    assert await store.load() == (revoked, second)
    # Two rows share the name now; the one that lets nobody in may be called anything.
    assert (await store.update(1, name="app")).name == "app"
    with pytest.raises(NameTaken):
        await store.create("app", "3" * 64, "c")


@pytest.mark.parametrize("token_id", [2, 0, -1, 10**30])
async def test_an_unknown_token(store: TokenStore, token_id: int) -> None:
    await store.create("app", FIRST, "a")
    with pytest.raises(UnknownToken):
        await store.update(token_id, name="x")
    with pytest.raises(UnknownToken):
        await store.revoke(token_id)
