"""What the command line does besides serving: the admin token, the configuration as a file."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from balancer import __version__
from balancer.admin.models import read_endpoint
from balancer.auth import ensure_admin_token
from balancer.core.errors import BalancerError, ConnectError
from balancer.core.strategies import resolve_strategy
from balancer.settings import Settings
from balancer.store import (
    Change,
    Configuration,
    ConfigurationStore,
    CreateEndpoint,
    Database,
    KeyCipher,
    SetRoutingMode,
    UpdateEndpoint,
)
from balancer.store.engines import database_path
from balancer.upstream.addresses import require_allowed

_FORMAT = "llm-balancer configuration"
# What does not describe an endpoint but how, where and when it came to be stored.
_NOT_EXPORTED = frozenset({"id", "api_key", "api_key_id", "discovered", "created_at", "updated_at"})


class CommandError(BalancerError):
    """A command cannot be carried out; the message says why."""


def admin_token_path(settings: Settings) -> Path:
    """Where a generated admin token is kept: beside the database."""
    return database_path(settings.database_url).parent / "admin-token"


def admin_token(settings: Settings) -> tuple[str, bool]:
    """The admin token in force, and whether it was generated just now. Raises AdminTokenUnavailable."""
    if settings.admin_token:
        return settings.admin_token, False
    return ensure_admin_token(admin_token_path(settings))


def show_admin_token(settings: Settings, _: argparse.Namespace) -> int:
    """Print the admin token, made if there is none yet."""
    sys.stdout.write(admin_token(settings)[0] + "\n")
    return 0


def config_export(settings: Settings, chosen: argparse.Namespace) -> int:
    """Write the configuration as JSON; a file gets mode 0600 whether it holds keys or not."""
    configuration = asyncio.run(_load(settings))
    document = {
        "format": _FORMAT,
        "version": 1,
        "made_by": __version__,
        "routing_mode": configuration.routing_mode,
        "endpoints": [_exported(endpoint, with_keys=chosen.with_keys) for endpoint in configuration.endpoints],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if chosen.file is None:
        sys.stdout.write(text)
    else:
        _write_private(chosen.file, text)
    return 0


def config_import(settings: Settings, chosen: argparse.Namespace) -> int:
    """Take over a configuration as one revision, or nothing of it. Endpoints are matched by name; none is deleted."""
    document = _read_document(chosen.file)
    created, updated = asyncio.run(import_configuration(settings, document))
    sys.stdout.write(f"{created} endpoints created, {updated} updated\n")
    sys.stdout.write("a balancer that is running on this database takes it over when it is restarted\n")
    return 0


def open_store(settings: Settings, database: Database) -> ConfigurationStore:
    """The configuration in `database`, with provider keys as the settings have them stored."""
    cipher = KeyCipher(settings.secret_keys)
    return ConfigurationStore(database, initial_routing_mode=settings.routing_strategy, cipher=cipher)


async def _load(settings: Settings) -> Configuration:
    database = await Database.open(settings.database_url)
    try:
        return await open_store(settings, database).load()
    finally:
        await database.close()


async def import_configuration(settings: Settings, document: Mapping[str, Any]) -> tuple[int, int]:
    """Take over `routing_mode` and `endpoints`; returns how many of these were created and updated.

    Raises CommandError, InvalidEndpoint or StoreError, and then nothing has changed.
    """
    database = await Database.open(settings.database_url)
    try:
        store = open_store(settings, database)
        known = {endpoint.name: endpoint.id for endpoint in (await store.load()).endpoints}
        changes: list[Change] = []
        if "routing_mode" in document:
            changes.append(SetRoutingMode(_routing_mode(document["routing_mode"])))
        for place, given in enumerate(document.get("endpoints", [])):
            fields = read_endpoint(given, where=f"endpoints[{place}]")
            _require_allowed(settings, str(fields["base_url"]), f"endpoints[{place}].base_url")
            name = str(fields["name"])
            changes.append(UpdateEndpoint(known[name], fields) if name in known else CreateEndpoint(fields))
        await store.commit(changes, actor="command line")
    finally:
        await database.close()
    created = sum(isinstance(change, CreateEndpoint) for change in changes)
    return created, sum(isinstance(change, UpdateEndpoint) for change in changes)


def _require_allowed(settings: Settings, base_url: str, where: str) -> None:
    try:
        if not settings.allow_link_local:
            require_allowed(base_url)
    except ConnectError as error:
        raise CommandError(f"{where}: is at {error}") from None


def _routing_mode(given: object) -> str:
    try:
        return resolve_strategy(str(given))
    except ValueError as error:
        raise CommandError(f"routing_mode: {error}") from None


def _exported(endpoint: Any, *, with_keys: bool) -> dict[str, Any]:
    names = [name for kind in type(endpoint).__mro__ for name in getattr(kind, "__slots__", ())]
    fields = {name: getattr(endpoint, name) for name in names if name not in _NOT_EXPORTED}
    fields["model_aliases"] = dict(endpoint.model_aliases)
    if with_keys:
        fields["api_key"] = endpoint.api_key
    return dict(sorted(fields.items(), key=lambda item: (item[0] != "name", item[0])))


def _write_private(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)  # a file that was there keeps its mode otherwise
            file.write(text)
    except OSError as error:
        raise CommandError(f"{path}: cannot be written ({error.strerror})") from None


def _read_document(path: Path) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
        document = json.loads(text)
    except OSError as error:
        raise CommandError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise CommandError(f"{path}: is not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise CommandError(f"{path}: is not a configuration made by `llm-balancer config export`")
    if document.get("version") != 1:
        raise CommandError(f"{path}: has version {document.get('version')!r}; this program reads version 1")
    if not isinstance(document.get("endpoints", []), list):
        raise CommandError(f"{path}: endpoints must be a list")
    return document
