"""Serves the load tester with uvicorn on uvloop; a signal ends every run, keeps what it measured, and stops."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from balancer.web.bundle import find_bundle
from load_tester.app import ENTRY, caps_of, create_app
from load_tester.errors import LoadTesterError
from load_tester.settings import Settings

if sys.platform != "win32":
    import uvloop

    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
else:
    new_event_loop = asyncio.new_event_loop

logger = logging.getLogger("load_tester")

_BALANCER_DATABASE = "load_balancer.db"
_GRACE_SECONDS = 3
_OTHER_FILES = 1_000


class StartError(LoadTesterError):
    """The process cannot serve; the message says why and what to do."""


def prepare_process(connections: int) -> int:
    """As many open files as the system lets us have, and how many; fewer pauses for garbage while load is measured."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft < wanted and soft != resource.RLIM_INFINITY:
        soft = wanted if hard == resource.RLIM_INFINITY else max(soft, min(wanted, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return 0 if soft == resource.RLIM_INFINITY else soft


def check_directory(settings: Settings) -> None:
    """Raises StartError when the data directory is the balancer's."""
    if (Path(settings.data_dir) / _BALANCER_DATABASE).exists():
        raise StartError(
            f"{settings.data_dir} holds the balancer's database: set LT_DATA_DIR to a directory of its own"
        )


def listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises StartError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((address[0], settings.port), family=family)
    except OSError as error:
        place, words = f"{settings.host} port {settings.port}", error.strerror or str(error)
        raise StartError(f"cannot listen on {place}: {words}; see LT_HOST, LT_PORT") from None


class _Server(uvicorn.Server):
    """Ends live streams before it waits for connections to close."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal ends the serving, and not the process before its runs are kept; a second one is in a hurry."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._on_signal, each)
        try:
            yield
        finally:
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(each)

    def _on_signal(self, number: signal.Signals) -> None:
        logger.info("%s: stopping", number.name)
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams and runs, then the rest."""
        self._app.state.live.close()
        await super().shutdown(sockets)


def serve(settings: Settings, token: str, version: str) -> None:
    """Serve until a signal comes. Raises StartError or HistoryError."""
    check_directory(settings)
    listening = listen(settings)
    caps = caps_of(settings, prepare_process(settings.max_connections))
    app = create_app(settings, token, version, caps=caps, wall_clock=time.time, page=find_bundle(ENTRY))
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )

    async def work() -> None:
        async with app.router.lifespan_context(app):
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            logger.info("listening on http://%s:%d", host, listening.getsockname()[1])
            await _Server(config, app).serve([listening])

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work())
