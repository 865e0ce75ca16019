"""Login, logout, who is asking; and what this server is and allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from load_tester.access import Refusal, Session
from load_tester.api.http import Api, json_answer, problem, read_json
from load_tester.measures.definitions import definitions
from load_tester.plan.cards import Card
from load_tester.plan.presets import PRESETS
from load_tester.runs import Runs


class Login(BaseModel):
    """What is sent to log in."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(max_length=10_000, repr=False)]


class SessionRoutes:
    """Routes of the session and of what never changes. `more`: what else the page is to know of the settings."""

    def __init__(self, api: Api, runs: Runs, version: str, more: Mapping[str, Any]) -> None:
        self._api = api
        self._runs = runs
        self._version = version
        self._more = more

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        route = self._api.route
        return [
            route("GET", "/session", self._get, public=True),
            route("POST", "/session", self._login, public=True),
            route("DELETE", "/session", self._logout),
            route("GET", "/about", self._about),
            route("GET", "/definitions", self._definitions),
            route("GET", "/presets", self._presets),
        ]

    async def _get(self, request: Request) -> Response:
        access = self._api.access
        found = self._api.check(request)
        if isinstance(found, Refusal):
            if access.needs_token or found.status == 403:
                return problem(found.status, found.detail)
            return self._begin(request, access.new_session(self._api.wall_clock()))
        return json_answer(self._shown(found.session))

    async def _login(self, request: Request) -> Response:
        access = self._api.access
        wanted = await read_json(request, Login)
        if not access.needs_token or not access.is_token(wanted.token.encode()):
            return problem(401, "that is not the token", "token")
        return self._begin(request, access.new_session(self._api.wall_clock()))

    async def _logout(self, _: Request) -> Response:
        return json_answer({"ok": True}, headers={"set-cookie": self._api.access.clear_cookie()})

    def _begin(self, request: Request, session: Session) -> Response:
        cookie = self._api.access.set_cookie(session, secure=request.url.scheme == "https")
        return json_answer(self._shown(session), headers={"set-cookie": cookie})

    def _shown(self, session: Session | None) -> dict[str, Any]:
        return {
            "via": "session" if session else "token",
            "csrf_token": session.csrf_token if session else None,
            "expires_at": session.expires_at if session else None,
            "needs_token": self._api.access.needs_token,
        }

    async def _about(self, _: Request) -> Response:
        rewrites = [
            {"typed": f"{a}:{b}", "connects_to": f"{c}:{d}"} for (a, b), (c, d) in self._runs.rules.rewrites.items()
        ]
        return json_answer(
            {
                "version": self._version,
                **self._more,
                "caps": self._runs.caps.model_dump(),
                "host_rewrites": rewrites,
                "allowed_hosts": [str(each) for each in self._runs.rules.allowed],
                "card": Card().model_dump(mode="json"),
                "card_schema": Card.model_json_schema(),
            }
        )

    async def _definitions(self, _: Request) -> Response:
        return json_answer({"definitions": definitions()})

    async def _presets(self, _: Request) -> Response:
        presets = [
            {**preset, "cards": [Card.model_validate(card).model_dump(mode="json") for card in preset["cards"]]}
            for preset in PRESETS
        ]
        return json_answer({"presets": presets})
