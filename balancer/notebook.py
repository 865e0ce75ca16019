"""The full server in a thread: `balancer.serve(endpoints)` for notebooks and scripts that others are to connect to."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from balancer import commands
from balancer.admin.models import InvalidEndpoint
from balancer.app import create_app
from balancer.core.errors import BalancerError
from balancer.core.strategies import resolve_strategy
from balancer.library.values import BalancingStrategy, Endpoint, listed_endpoints
from balancer.loops import new_event_loop
from balancer.server import DrainingServer, listen, serve_app, url_of
from balancer.settings import Settings, load_settings

_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
# What still runs when the server is stopped gets this long, in seconds, unless a setting says otherwise.
_DRAIN_SECONDS = "5"
# Beyond it, the server needs this long to close what it holds.
_LAST_SECONDS = 10.0


class ServerUrl(str):
    """Where a server listens, such as http://127.0.0.1:8090. `admin_token` opens its admin API; `stop` ends it.

    It is stopped too by the end of a `with` and of the process.
    """

    admin_token: str
    _thread: _ServerThread

    def stop(self) -> None:
        """Finish what runs, then close; may be repeated."""
        self._thread.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    endpoints: Iterable[Endpoint] = (),
    strategy: BalancingStrategy | str = BalancingStrategy.ROUND_ROBIN,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    directory: str | Path | None = None,
    settings: Mapping[str, str] = _NO_SETTINGS,
) -> ServerUrl:
    """Start the balancer's server in a thread, with those endpoints connected, and return its URL.

    `port` 0 takes a free one. Configuration and counts are kept in `directory`, where endpoints are matched by name, or
    gone with the server without one. `settings` are those of the server by their names, such as
    `{"LB_MAX_RETRIES": "1"}`. Raises ValueError for what cannot be used, StartError where the port is taken,
    StoreError or AdminTokenUnavailable where `directory` cannot be used. `max_tokens` and `temperature` of endpoints
    have no meaning here.
    """
    mode = resolve_strategy(BalancingStrategy(strategy).value)
    document = {"routing_mode": mode, "endpoints": [_fields(each) for each in _listed(endpoints)]}
    home = Path(tempfile.mkdtemp(prefix="llm-balancer-") if directory is None else directory)
    remove_home = partial(shutil.rmtree, home, ignore_errors=True) if directory is None else _nothing
    try:
        own = {"LB_HOST": host, "LB_PORT": str(port), "LB_DB_PATH": str(home / "load_balancer.db")}
        loaded = _settings({**own, "LB_DRAIN_SECONDS": _DRAIN_SECONDS, **settings})
        admin_token, _ = commands.admin_token(loaded)
        thread = _ServerThread(loaded, admin_token, document)
    except BaseException:
        remove_home()
        raise
    thread.afterwards = remove_home
    url = ServerUrl(thread.url)
    url.admin_token, url._thread = admin_token, thread
    return url


class _ServerThread:
    """One server, its event loop and its thread."""

    def __init__(self, settings: Settings, admin_token: str, document: Mapping[str, Any]) -> None:
        self.afterwards = _nothing
        self._settings = settings
        self._lock = threading.Lock()
        self._loop = new_event_loop()
        self._started: Future[DrainingServer] = Future()
        self._sockets = listen(settings.host, settings.port)
        self.url = url_of(settings.host, self._sockets)
        work = self._serve(admin_token, document)
        self._thread = threading.Thread(target=self._live, args=(work,), name="balancer server", daemon=True)
        self._thread.start()
        try:
            self._server = self._started.result()
        except BalancerError as error:
            self._thread.join()
            raise ValueError(str(error)) if isinstance(error, InvalidEndpoint) else error from None
        atexit.register(self.stop)

    def stop(self) -> None:
        """Let what runs finish, as long as the settings grant; then end the thread."""
        with self._lock:
            if not self._thread.is_alive():
                return
            self._loop.call_soon_threadsafe(self._server.stop, "stop")
            self._thread.join(self._settings.drain_seconds + _LAST_SECONDS)
            atexit.unregister(self.stop)
            self.afterwards()

    def _live(self, work: Any) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(work)
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)
        finally:
            for each in self._sockets:
                each.close()

    async def _serve(self, admin_token: str, document: Mapping[str, Any]) -> None:
        await commands.import_configuration(self._settings, document)
        app = create_app(self._settings, admin_token)
        await serve_app(app, self._sockets, self._settings.drain_seconds, started=self._started.set_result)


def _listed(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    listed = listed_endpoints(endpoints)
    for name, count in Counter(each.label for each in listed).items():
        if count > 1:
            raise ValueError(f"two endpoints are named {name!r}: each needs a name of its own")
    return listed


def _settings(given: Mapping[str, str]) -> Settings:
    for name, text in given.items():
        if not isinstance(text, str):
            raise ValueError(f"settings: {name} must be text such as {str(text)!r}, not {text!r}")  # noqa: TRY004
    try:
        settings = load_settings(given)
    except BalancerError as error:
        raise ValueError(str(error)) from None
    if settings.unknown:
        raise ValueError("; ".join(settings.unknown))
    if settings.workers > 1:
        raise ValueError("LB_WORKERS must be 1: a server in a thread is one process")
    return settings


def _fields(endpoint: Endpoint) -> dict[str, Any]:
    """The endpoint as the admin API takes it; what the server would refuse, it refuses with its own words."""
    fields = {
        "name": endpoint.label,
        "base_url": endpoint.url,
        "api_key": endpoint.api_key or "",
        "connected": True,
        "weight": endpoint.weight,
        "max_concurrent": endpoint.max_connections,
        "token_quota_percent": endpoint.token_quota_percent,
        "priority_order": endpoint.priority_order,
        "price_per_million_input": endpoint.price_per_million_input,
        "price_per_million_output": endpoint.price_per_million_output,
        "models": list(endpoint.models),
        "model_aliases": dict(endpoint.model_aliases),
        "verify_tls": endpoint.verify_tls,
    }
    return fields if endpoint.timeout is None else {**fields, "timeout": endpoint.timeout}


def _nothing() -> None:
    """No directory is to be removed."""
