"""Starts several workers: binds all while mistakes can still be told in one line, then becomes the supervisor."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from typing import NoReturn

from balancer.server import StartError, listen, listen_for_admin, port_of, url_of
from balancer.settings import Settings
from balancer.store.engines import database_path
from balancer.workers.place import LINKS_NAME, PAGES_NAME
from balancer.workers.table import Table

_BACKLOG = 256
# A worker that died right after its start is replaced after this, then after twice as long, and so on.
_FIRST_PAUSE_SECONDS = 0.05


def launch(settings: Settings) -> NoReturn:
    """Become the supervisor of `settings.workers` workers. Raises StartError or StoreError."""
    if sys.platform == "win32" or not hasattr(socket, "AF_UNIX"):
        raise StartError("LB_WORKERS above 1 needs Unix sockets, which this system does not have; set it to 1")
    database_path(settings.database_url)  # one file for all: a database in memory is refused here
    sockets = _listen(settings)
    admin_sockets = listen_for_admin(settings, sockets[0])
    table, directory, links, pages = _meeting_place(settings.workers)
    inherited = [links, pages, *admin_sockets, *(each for several in sockets for each in several)]
    for each in inherited:
        each.set_inheritable(True)
    plan = {
        "workers": settings.workers,
        "command": [sys.executable, "-m", "balancer", "worker"],
        "pause_seconds": _FIRST_PAUSE_SECONDS,
        "sockets": [_numbers(several) for several in sockets],
        "admin_sockets": _numbers(admin_sockets),
        "links": links.fileno(),
        "pages": pages.fileno(),
        "table": table.fileno,
        "directory": directory,
        "url": url_of(settings.host, sockets[0]),
        "drain_seconds": settings.drain_seconds,
        "log_level": settings.log_level,
        "log_format": settings.log_format,
    }
    # Nothing of what was imported here is needed any more: another program takes the place of this one.
    os.execv(sys.executable, [sys.executable, "-m", "balancer.workers.supervisor", json.dumps(plan)])  # noqa: S606


def _listen(settings: Settings) -> list[list[socket.socket]]:
    """Sockets for each worker: of its own where the kernel spreads connections over them, else the same for all."""
    first = listen(settings.host, settings.port)
    if sys.platform != "linux":
        return [first] * settings.workers
    # Bound without sharing first: another program on this port must not be joined, but found out.
    port = port_of(first)
    for each in first:
        each.close()
    return [listen(settings.host, port, shared=True) for _ in range(settings.workers)]


def _meeting_place(workers: int) -> tuple[Table, str, socket.socket, socket.socket]:
    """The table, a directory nobody else may enter, and the two Unix sockets of the lead in it. Raises StartError."""
    try:
        table = Table.create(workers)
        directory = tempfile.mkdtemp(prefix="llm-balancer-")
        sockets = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
        for each, name in zip(sockets, (LINKS_NAME, PAGES_NAME), strict=True):
            each.bind(f"{directory}/{name}")
            each.listen(_BACKLOG)
    except OSError as error:
        words = error.strerror or str(error)
        raise StartError(f"workers cannot meet in {tempfile.gettempdir()}: {words}; set TMPDIR") from None
    return table, directory, sockets[0], sockets[1]


def _numbers(sockets: Sequence[socket.socket]) -> list[int]:
    return [each.fileno() for each in sockets]
