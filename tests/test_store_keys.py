"""Provider keys at rest: encrypted by a secret, with another secret later, and refused with a wrong one."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from balancer.store import (
    ConfigurationStore,
    CreateEndpoint,
    Database,
    DeleteEndpoint,
    KeyCipher,
    KeySurvey,
    StoreError,
    UpdateEndpoint,
    WrongSecretKey,
    encrypt_stored_keys,
    survey_keys,
)
from tests.store_parts import EVERY_FIELD, KEY, endpoint, sql, url_of

OLD, NEW = "an-old-secret-of-the-operator", "a-new-secret-of-the-operator"
OTHER_KEY = "sk-the-other-one"


@pytest.fixture(scope="module")
def old() -> KeyCipher:
    return KeyCipher([OLD])


@pytest.fixture(scope="module")
def both() -> KeyCipher:
    return KeyCipher([NEW, OLD])


@pytest.fixture(scope="module")
def new() -> KeyCipher:
    return KeyCipher([NEW])


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Database]:
    database = await Database.open(url_of(directory / "lb.db"))
    try:
        yield database
    finally:
        await database.close()


def stored(directory: Path) -> list[str]:
    return [text for (text,) in sql(directory / "lb.db", "SELECT api_key FROM endpoint_keys ORDER BY id")]


def in_clear(directory: Path, key: str) -> list[str]:
    """The files of a directory that hold a key in clear."""
    return [path.name for path in directory.iterdir() if path.is_file() and key.encode() in path.read_bytes()]


async def test_with_a_secret_no_file_ever_holds_a_key(tmp_path: Path, database: Database, old: KeyCipher) -> None:
    store = ConfigurationStore(database, cipher=old)
    await store.commit([CreateEndpoint(EVERY_FIELD)], actor="me")
    changed = await store.commit([UpdateEndpoint(1, {"api_key": OTHER_KEY})], actor="me")
    assert changed.endpoints[0].api_key == OTHER_KEY
    await store.commit([DeleteEndpoint(1)], actor="me")
    back = await store.restore(1, actor="me")
    assert back.endpoints[0].api_key == KEY
    assert (tmp_path / "lb.db-wal").stat().st_size > 0, "the log is looked at too"
    assert not in_clear(tmp_path, KEY) and not in_clear(tmp_path, OTHER_KEY)
    assert len(stored(tmp_path)) == 2


async def test_without_a_secret_they_stand_in_clear(tmp_path: Path, database: Database) -> None:
    await ConfigurationStore(database).commit([CreateEndpoint(EVERY_FIELD)], actor="me")
    assert in_clear(tmp_path, KEY), "what the other tests look for can be found"


async def test_equal_keys_are_one_key(tmp_path: Path, database: Database, old: KeyCipher) -> None:
    store = ConfigurationStore(database, cipher=old)
    await store.commit([endpoint("a", api_key=KEY), endpoint("b", api_key=KEY)], actor="me")
    again = ConfigurationStore(database, cipher=KeyCipher([OLD]))
    unchanged = await again.commit([UpdateEndpoint(1, {"api_key": KEY})], actor="me")
    assert (unchanged.revision, {each.api_key_id for each in unchanged.endpoints}) == (1, {1})
    assert len(stored(tmp_path)) == 1


async def test_keys_in_clear_are_encrypted_and_gone_from_the_files(tmp_path: Path, old: KeyCipher) -> None:
    async with opened(tmp_path) as database:
        plain = ConfigurationStore(database)
        await plain.commit([endpoint("a", api_key=KEY), endpoint("b")], actor="me")
        await plain.commit([UpdateEndpoint(1, {"api_key": OTHER_KEY})], actor="me")
    async with opened(tmp_path) as database:
        assert await encrypt_stored_keys(database, old) == 2, "also one that only a revision needs"
        assert not in_clear(tmp_path, KEY) and not in_clear(tmp_path, OTHER_KEY), "while the database is open"
        assert await encrypt_stored_keys(database, old) == 0, "they are already"
        store = ConfigurationStore(database, cipher=old)
        assert [each.api_key for each in (await store.load()).endpoints] == [OTHER_KEY, ""]
        assert (await store.revert(2, actor="me")).endpoints[0].api_key == KEY
    assert not in_clear(tmp_path, KEY)


@pytest.mark.parametrize(("secrets", "words"), [([NEW], "LB_SECRET_KEY does not fit"), ([], "set LB_SECRET_KEY")])
async def test_a_wrong_secret_is_refused_and_changes_nothing(
    tmp_path: Path, database: Database, old: KeyCipher, secrets: list[str], words: str
) -> None:
    await ConfigurationStore(database, cipher=old).commit([endpoint("a", api_key=KEY)], actor="me")
    before = stored(tmp_path)
    wrong = KeyCipher(secrets)
    for attempt in (
        ConfigurationStore(database, cipher=wrong).load(),
        ConfigurationStore(database, cipher=wrong).commit([endpoint("b", api_key=OTHER_KEY)], actor="me"),
        encrypt_stored_keys(database, wrong),
        encrypt_stored_keys(database, wrong, again=True),
    ):
        with pytest.raises(WrongSecretKey, match=words) as caught:
            await attempt
        told = "".join(traceback.format_exception(caught.value))
        assert not any(secret in told for secret in (KEY, OLD, NEW, before[0]))
    assert stored(tmp_path) == before
    assert await survey_keys(database, wrong) == KeySurvey(total=1, encrypted=1, unreadable=1)


async def test_a_secret_is_exchanged_for_another(
    tmp_path: Path, database: Database, old: KeyCipher, both: KeyCipher, new: KeyCipher
) -> None:
    await ConfigurationStore(database, cipher=old).commit([endpoint("a", api_key=KEY)], actor="me")
    running = ConfigurationStore(database, cipher=both)
    await running.commit([endpoint("b", api_key=OTHER_KEY)], actor="me")
    with pytest.raises(StoreError):
        await encrypt_stored_keys(database, new, again=True)
    assert await encrypt_stored_keys(database, both) == 0, "what opens is left alone unless it is asked for"
    assert await encrypt_stored_keys(database, both, again=True) == 2
    for cipher in (new, both):
        loaded = await ConfigurationStore(database, cipher=cipher).load()
        assert [each.api_key for each in loaded.endpoints] == [KEY, OTHER_KEY]
    with pytest.raises(WrongSecretKey):
        await ConfigurationStore(database, cipher=old).load()


async def test_what_was_changed_in_the_file_is_refused(tmp_path: Path, database: Database, old: KeyCipher) -> None:
    await ConfigurationStore(database, cipher=old).commit([endpoint("a", api_key=KEY)], actor="me")
    sql(
        tmp_path / "lb.db", "UPDATE endpoint_keys SET api_key = substr(api_key, 1, 50) || 'AAAA' || substr(api_key, 55)"
    )
    with pytest.raises(WrongSecretKey):
        await ConfigurationStore(database, cipher=old).load()


def test_the_cipher_shows_nothing(old: KeyCipher) -> None:
    text = old.stored(KEY)
    assert KEY not in text and old.stored(KEY) != text, "the same key never looks the same"
    assert (old.opened(text, True), old.opened("plain", False)) == (KEY, "plain")
    assert repr(old) == "<KeyCipher: 1 secrets>"
