"""The admin's own session over the admin API: the admin token exchanged for a cookie, and its end."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import TypeAdapter
from starlette.responses import Response

from balancer.admin import audit
from balancer.admin.answers import Done, SessionView
from balancer.admin.gate import Body, Call, Operation
from balancer.admin.models import Login
from balancer.admin.problems import Refused, answer
from balancer.auth import AdminAuth, Session
from balancer.guesses import Guesses
from balancer.store import iso_time

PATH = "/session"


class SessionOperations:
    """Login, logout, and who is asking. `wall_clock` gives Unix time in seconds."""

    def __init__(self, admin_auth: AdminAuth, guesses: Guesses, wall_clock: Callable[[], float]) -> None:
        self._admin_auth = admin_auth
        self._guesses = guesses
        self._wall_clock = wall_clock

    def operations(self) -> list[Operation]:
        """The table of these operations."""
        return [
            Operation("GET", PATH, "Who is asking", self._get, SessionView),
            Operation(
                "POST",
                PATH,
                "Log in: sets the session cookie",
                self._login,
                SessionView,
                (401, 429),
                Body(TypeAdapter(Login)),
                public=True,
                audited=False,  # it has a line of its own
            ),
            Operation("DELETE", PATH, "Log out in this browser", self._logout, Done),
        ]

    async def _get(self, call: Call) -> Response:
        session = call.admin.session if call.admin else None
        return answer(_view(session) if session else SessionView("token", None, None))

    async def _login(self, call: Call) -> Response:
        wanted: Login = call.body
        session = self._admin_auth.login(wanted.token, self._wall_clock())
        self._guesses.judge(call.address, session is not None, self._wall_clock())
        if session is None:
            raise Refused(401, "admin authorization failed", {"www-authenticate": "Bearer"})
        audit.note("admin_login", f"admin logged in from {call.address}", {"address": call.address})
        secure = call.request.url.scheme == "https"
        cookie = self._admin_auth.set_cookie(session, secure=secure)
        return answer(_view(session), headers={"set-cookie": cookie})

    async def _logout(self, _: Call) -> Response:
        return answer(Done(), headers={"set-cookie": self._admin_auth.clear_cookie()})


def _view(session: Session) -> SessionView:
    return SessionView("session", session.csrf_token, iso_time(session.expires_at))
