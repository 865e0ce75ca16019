"""`llm-balancer check`: whether a start would succeed, and what an operator should know before it.

What stops a start is an error, what is dangerous a warning, what could be better a hint.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from balancer.commands import open_store
from balancer.settings import Settings
from balancer.store import (
    Configuration,
    Database,
    KeyCipher,
    KeySurvey,
    TokenRecord,
    TokenStore,
    WrongSecretKey,
    survey_keys,
)
from balancer.store.backups import verify
from balancer.store.engines import database_path

_LITTLE_BYTES = 200 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Found:
    configuration: Configuration
    tokens: tuple[TokenRecord, ...]
    keys: KeySurvey


def check(settings: Settings, _: argparse.Namespace) -> int:
    """Say whether the settings and the database can be used. Raises StoreError when not."""
    found = asyncio.run(_look(settings))
    path = database_path(settings.database_url)
    verify(path)
    configuration = found.configuration
    connected = sum(endpoint.connected for endpoint in configuration.endpoints)
    sys.stdout.write(
        f"settings: ok\ndatabase: ok, revision {configuration.revision}, {len(configuration.endpoints)} endpoints, "
        f"{connected} connected, routing mode {configuration.routing_mode}\n"
        f"provider keys: {found.keys.total}, {found.keys.encrypted} of them encrypted\n"
    )
    for line in (*settings.unknown, *_dangers(settings, found, path)):
        sys.stderr.write(f"warning: {line}\n")
    for line in _hints(settings, found.keys):
        sys.stderr.write(f"hint: {line}\n")
    return 0


async def _look(settings: Settings) -> _Found:
    database = await Database.open(settings.database_url)
    try:
        configuration = await open_store(settings, database).load()
        keys = await survey_keys(database, KeyCipher(settings.secret_keys))
        if keys.unreadable:
            # A start refuses these too: a revision that is taken back may need them.
            raise WrongSecretKey(given=bool(settings.secret_keys))
        return _Found(configuration, await TokenStore(database).load(), keys)
    finally:
        await database.close()


def _dangers(settings: Settings, found: _Found, path: Path) -> Iterator[str]:
    if not is_loopback(settings.host) and not settings.client_tokens and not found.tokens:
        yield (
            f"LB_HOST={settings.host} listens beyond this machine, and there is no client token: everybody who reaches "
            "it may use the models; set LB_CLIENT_TOKENS"
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield f"{path} can be read by other users of this machine: chmod 600 {path}"
    free = shutil.disk_usage(path.parent).free
    if free < _LITTLE_BYTES:
        yield f"the disk of {path} has only {free // 2**20} MB left"


def _hints(settings: Settings, keys: KeySurvey) -> Iterator[str]:
    if not is_loopback(settings.host) and settings.admin_port is None:
        yield (
            "the admin pages listen beyond this machine too; LB_ADMIN_PORT gives them a port of their own, on loopback"
        )
    if keys.total and not settings.secret_keys:
        yield "provider keys stand in the database in clear; set LB_SECRET_KEY to have them encrypted at the next start"
    elif keys.encrypted < keys.total:
        yield "the other provider keys are encrypted at the next start"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
