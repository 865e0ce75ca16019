"""Puts the load tester's server together: routes, headers, the history's life."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from balancer.web.bundle import Bundle
from balancer.web.pages import POLICY, Page, Words
from load_tester.access import Access
from load_tester.api.http import Api, json_answer, problem
from load_tester.api.library import LibraryRoutes
from load_tester.api.live import Live
from load_tester.api.run_routes import RunRoutes
from load_tester.api.session import SessionRoutes
from load_tester.engine.targets import TargetRules
from load_tester.history import History
from load_tester.plan.cards import Caps
from load_tester.runs import Runs
from load_tester.settings import Settings

ENTRY = "loadtest"
_WORDS = Words("Load tester", "load tester", "page", "/api")
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


def create_app(
    settings: Settings,
    token: str,
    version: str,
    *,
    caps: Caps,
    wall_clock: Callable[[], float],
    page: Bundle | None = None,
) -> Starlette:
    """The server. `token` empty: for this machine only. `page`: the built page, None where there is none.

    `app.state.runs` holds the runs while it lives.
    """
    history = History(Path(settings.data_dir), settings.keep_runs)
    rules = TargetRules(dict(settings.host_rewrites), settings.allow_hosts)
    runs = Runs(history, rules, caps, f"llm-load-tester {version}")
    live, api = Live(), Api(Access(token), wall_clock)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await history.open()
        try:
            yield
        finally:
            live.close()
            await runs.close()
            await history.close()

    async def health(_: Request) -> Response:
        return json_answer({"status": "ok", "version": version, "running": len(runs.active)})

    async def nothing(_: Request) -> Response:
        return problem(404, "there is no such address")

    routes: list[BaseRoute] = [
        Route("/health", health),
        *SessionRoutes(
            api, runs, version, {"editor_url": settings.editor_url, "keep_runs": settings.keep_runs}
        ).routes(),
        *RunRoutes(api, runs, live).routes(),
        *LibraryRoutes(api, runs).routes(),
        Route("/api/{rest:path}", nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        *Page("", page, version, _WORDS).routes(),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.add_middleware(_SafeHeaders)
    app.state.runs, app.state.live = runs, live
    return app


def caps_of(settings: Settings, open_files: int = 0) -> Caps:
    """What the settings and the system let a run do."""
    return Caps(
        open_files=open_files,
        connections=settings.max_connections,
        rate=settings.max_rate,
        seconds=settings.max_seconds,
        tokens=settings.max_tokens,
    )


class _SafeHeaders:
    """Adds the headers that keep a browser from being used against us."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)
