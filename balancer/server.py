"""Serves the application with uvicorn: our protocol class, our sockets, our way to stop.

On the first SIGTERM or SIGINT readiness goes off and nothing new is taken, while the port still answers; running
requests and streams finish within the grace time. A second signal stops at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from balancer.app import Balancer, create_app
from balancer.core.errors import BalancerError
from balancer.descriptors import raise_open_files
from balancer.loops import new_event_loop
from balancer.proxy.endpoint import ProxyEndpoint
from balancer.proxy.reception import ClientLimits, Reception
from balancer.proxy.transport import Direct, TransportProtocol
from balancer.settings import Settings
from balancer.workers.place import Place, opened
from balancer.workers.relayed import Relayed

logger = logging.getLogger("balancer")

_BACKLOG = 2048
_POLL_SECONDS = 0.05
_GARBAGE_THRESHOLD = 10_000
# After the grace time, what still runs is cancelled and gets this long to give back what it holds.
_LAST_SECONDS = 1


_HOW: Mapping[str, Any] = MappingProxyType(
    {
        "interface": "asgi3",
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "date_header": False,
        "server_header": False,
        "timeout_graceful_shutdown": _LAST_SECONDS,
    }
)

# Workers do not wait for each other: what keeps one waiting is its client, which it gives up itself.
_AMONG_US = ClientLimits(
    header_timeout_seconds=3600.0,
    body_timeout_seconds=3600.0,
    write_timeout_seconds=3600.0,
    header_bytes=1 << 24,
    headers=1 << 16,
)


class StartError(BalancerError):
    """The process cannot serve; the message says why and what to do."""


class DrainingServer(uvicorn.Server):
    """A server that finishes what runs before it goes. Of several workers, `place` tells which this one is."""

    def __init__(
        self, config: uvicorn.Config, balancer: Balancer, drain_seconds: float, place: Place | None = None
    ) -> None:
        super().__init__(config)
        self._balancer = balancer
        self._drain_seconds = drain_seconds
        self._place = place
        self._draining: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals reach the event loop, not whatever line happens to run; of several workers, the supervisor."""
        if self._place is not None or threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self.stop, each.name)
        try:
            yield
        finally:
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(each)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; the lead of several workers listens to what the others pass on, too."""
        await super().startup(sockets)
        if self._place is not None and self._place.is_lead:
            inner = uvicorn.Config(cast(Any, Relayed(cast(Any, self.config.app))), http=TransportProtocol, **_HOW)
            inner.load()
            protocol = partial(
                TransportProtocol, inner, self.server_state, self.lifespan.state, reception=Reception(_AMONG_US)
            )
            loop = asyncio.get_running_loop()
            self.servers.append(await loop.create_unix_server(protocol, sock=opened((self._place.pages,))[0]))

    def obey(self) -> None:
        """From now on stop when the supervisor says so, and at once when it is gone. Tells it that this one serves."""
        assert self._place is not None  # noqa: S101
        (control,) = opened((self._place.control,))
        control.setblocking(False)

        def heard() -> None:
            try:
                words = control.recv(16)
            except OSError:
                words = b""
            for _ in words:
                self.stop("the supervisor")
            if not words:
                logger.error("the supervisor is gone: stopping at once")
                asyncio.get_running_loop().remove_reader(control)
                control.close()
                self.should_exit = self.force_exit = True

        asyncio.get_running_loop().add_reader(control, heard)
        control.send(b"r")

    def stop(self, reason: str) -> None:
        """Begin to drain; called again: stop at once. For the event loop's own thread."""
        if self._draining is not None:
            logger.warning("%s again: stopping at once", reason)
            self.should_exit = self.force_exit = True
            return
        logger.info("%s: draining, at most %g s; repeat to stop at once", reason, self._drain_seconds)
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        self._balancer.drain()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_seconds
        # Polled: an event set by every last request would be work on the request path for something that happens once.
        while self._balancer.busy and loop.time() < deadline and not self.should_exit:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
        self.should_exit = True


class ShortWay:
    """`app`, whose fixed paths of the data plane our own server looks up at once.

    They need no middleware and no search through routes, which would cost as much as choosing an endpoint.
    `admin_port`: connections of that port get `admin` instead, and none of this.
    """

    def __init__(self, app: Starlette, admin: ASGIApp | None = None, admin_port: int | None = None) -> None:
        self._app = app
        self._admin = app if admin is None else admin
        self._admin_port = admin_port
        self._direct: dict[bytes, Direct] = {
            route.path.encode(): route.endpoint.serve
            for route in app.routes
            if isinstance(route, Route) and isinstance(route.endpoint, ProxyEndpoint) and not route.param_convertors
        }

    def direct(self, port: int | None) -> Mapping[bytes, Direct]:
        """Who serves a POST to a path, by the port of the socket that accepted the connection."""
        return {} if port is not None and port == self._admin_port else self._direct

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # The address of the socket that accepted it: nothing that a client or a proxy can say.
        at_admin = self._admin_port is not None and scope["server"][1] == self._admin_port
        return (self._admin if at_admin else self._app)(scope, receive, send)


def listen(host: str, port: int, *, names: str = "LB_HOST and LB_PORT", shared: bool = False) -> list[socket.socket]:
    """Sockets for every address of `host`; `shared`: others like them may take part of the connections.

    Raises StartError, which tells to see the settings `names`.
    """
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            chosen = sockets[0].getsockname()[1] if sockets else port
            made = socket.create_server((address[0], chosen), family=family, backlog=_BACKLOG, reuse_port=shared)
            sockets.append(made)
    except OSError as error:
        for made in sockets:
            made.close()
        words = error.strerror or str(error)
        raise StartError(f"cannot listen on {host} port {port}: {words}; see {names}") from None
    return sockets


def port_of(sockets: list[socket.socket]) -> int:
    """The port that they listen on."""
    port: int = sockets[0].getsockname()[1]
    return port


def url_of(host: str, sockets: list[socket.socket]) -> str:
    """What to type into a browser."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port_of(sockets)}"


def listen_for_admin(settings: Settings, main: list[socket.socket]) -> list[socket.socket]:
    """The sockets of the admin port, none without one. Raises StartError."""
    if settings.admin_port is None:
        return []
    if settings.admin_port == port_of(main):
        raise StartError("LB_ADMIN_PORT must be another port than LB_PORT")
    sockets = listen(settings.admin_host, settings.admin_port, names="LB_ADMIN_HOST and LB_ADMIN_PORT")
    logger.info("admin pages at %s/admin", url_of(settings.admin_host, sockets))
    return sockets


async def serve_app(
    app: Starlette,
    sockets: list[socket.socket],
    drain_seconds: float,
    *,
    started: Callable[[DrainingServer], None] = lambda _: None,
) -> None:
    """Serve until told to stop, admin pages and API on a port of their own where the settings have one.

    `started` gets the server, to stop it by. Raises StoreError when the database cannot be used, and StartError.
    """
    balancer: Balancer = app.state.balancer
    place = balancer.place
    if place is None:
        admin_sockets = listen_for_admin(balancer.settings, sockets)
    else:
        admin_sockets = opened(place.admin_sockets)
    whole = ShortWay(app, app.state.admin_app, port_of(admin_sockets)) if admin_sockets else ShortWay(app)
    config = uvicorn.Config(
        cast(Any, whole),  # uvicorn's types know only coroutine functions
        **_HOW,
        http=cast(Any, partial(TransportProtocol, reception=balancer.reception)),
        proxy_headers=bool(balancer.settings.trusted_proxies),
        forwarded_allow_ips=[str(network) for network in balancer.settings.trusted_proxies],
    )
    server = DrainingServer(config, balancer, drain_seconds, place)
    try:
        async with app.router.lifespan_context(app):
            started(server)
            await server.serve([*sockets, *admin_sockets])
    finally:
        for each in admin_sockets:
            each.close()


def serve(settings: Settings, admin_token: str, place: Place | None = None) -> None:
    """Serve in this thread until a signal comes; as one of several workers, with what `place` says, until told to stop.

    Raises StartError or StoreError.
    """
    raise_open_files()
    sockets = listen(settings.host, settings.port) if place is None else opened(place.sockets)
    app = create_app(settings, admin_token, place=place)

    def started(server: DrainingServer) -> None:
        # What is there now stays for good: there is no need to search it for garbage again and again.
        gc.collect()
        gc.freeze()
        # Nor is there much to find later: requests are freed as soon as nobody refers to them.
        gc.set_threshold(_GARBAGE_THRESHOLD)
        if place is None:
            logger.info("listening on %s", url_of(settings.host, sockets))
        else:
            server.obey()

    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve_app(app, sockets, settings.drain_seconds, started=started))
    finally:
        for each in sockets:
            each.close()
