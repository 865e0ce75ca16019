from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from balancer.auth import SESSION_SECONDS
from balancer.core.endpoints import Usage
from tests.admin_parts import ADMIN_TOKEN, AdminServer, admin_server
from tests.store_parts import sql

TOKEN = "a-client-token-of-mine"


@pytest.fixture
async def admin(template: Path, tmp_path: Path) -> AsyncIterator[AdminServer]:
    async with admin_server(template, tmp_path) as server:
        yield server
        await server.check_consistent()


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


class TestClientTokens:
    async def test_a_made_one_is_shown_once(self, admin: AdminServer) -> None:
        created = (await admin.client.post("tokens", json={"name": "laptop"})).json()
        assert created["token"].startswith("ct-") and len(created["token"]) > 40
        assert (created["id"], created["name"], created["pos_x"], created["pos_y"]) == (1, "laptop", 80, 100)
        assert created["created_at"] == "2027-01-15T08:00:00.000Z"
        client = admin.tokens.authenticate(bearer(created["token"]))
        assert client is not None and client.id == 1
        answer = await admin.client.get("tokens")
        assert created["token"] not in answer.text
        shown = {name: value for name, value in created.items() if name != "token"}
        assert answer.json() == [shown]
        assert shown["token_preview"] == f"ct-{created['token'][3]}...{created['token'][-4:]}"

    async def test_a_given_one_is_taken_as_it_is(self, admin: AdminServer) -> None:
        body = {"name": "ci", "token": TOKEN, "pos_x": 1, "pos_y": 2}
        created = (await admin.client.post("tokens", json=body)).json()
        assert (created["token"], created["pos_x"], created["pos_y"]) == (TOKEN, 1, 2)
        assert admin.tokens.authenticate(bearer(TOKEN)) is not None

    async def test_the_first_one_closes_the_balancer_for_good(self, template: Path, tmp_path: Path) -> None:
        async with admin_server(template, tmp_path) as admin:
            assert admin.tokens.authenticate(None) is not None
            await admin.client.post("tokens", json={"name": "laptop"})
            assert admin.tokens.authenticate(None) is None
            await admin.client.delete("tokens/1")
            assert admin.tokens.authenticate(None) is None

    async def test_duplicates_are_refused(self, template: Path, tmp_path: Path) -> None:
        async with admin_server(template, tmp_path, env_tokens=("from-the-environment",)) as admin:
            await admin.client.post("tokens", json={"name": "a", "token": TOKEN})
            for token in (TOKEN, "from-the-environment"):
                answer = await admin.client.post("tokens", json={"name": "b", "token": token})
                assert (answer.status_code, answer.json()) == (409, {"detail": "token already exists"})
            name = await admin.client.post("tokens", json={"name": "a"})
            assert (name.status_code, name.json()) == (409, {"detail": "the name 'a' is taken"})
            await admin.client.delete("tokens/1")
            again = await admin.client.post("tokens", json={"name": "b", "token": TOKEN})
            assert again.json() == {"detail": "token already exists"}
            assert [each["id"] for each in await admin.get("tokens")] == []

    async def test_one_can_be_renamed_and_moved(self, admin: AdminServer) -> None:
        await admin.client.post("tokens", json={"name": "a", "token": TOKEN})
        await admin.client.post("tokens", json={"name": "b"})
        renamed = await admin.patch("tokens/1", {"name": "c"})
        moved = await admin.patch("tokens/1", {"pos_x": -5, "name": None})
        assert (renamed.json()["name"], renamed.json()["pos_x"]) == ("c", 80)
        assert (moved.json()["name"], moved.json()["pos_x"], moved.json()["pos_y"]) == ("c", -5, 100)
        assert (await admin.get("tokens"))[0] == moved.json()
        assert (await admin.patch("tokens/1", {"name": "b"})).status_code == 409
        assert (await admin.get("state"))["revision"] == 0

    async def test_a_revoked_one_is_out_at_once(self, admin: AdminServer) -> None:
        await admin.client.post("tokens", json={"name": "a", "token": TOKEN})
        answer = await admin.client.delete("tokens/1")
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
        assert admin.tokens.authenticate(bearer(TOKEN)) is None
        assert (await admin.get("state"))["client_tokens"] == []
        for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
            again = await admin.client.request(method, "tokens/1", json=body)
            assert (again.status_code, again.json()) == (404, {"detail": "token not found"})

    async def test_usage_is_told(self, admin: AdminServer) -> None:
        await admin.client.post("tokens", json={"name": "a", "token": TOKEN})
        await admin.add("gpu", connected=True)
        for _ in range(6):
            admin.serve(1, usage=Usage(10, 20), client=admin.tokens.get(1))
        shown = (await admin.get("tokens"))[0]
        assert (shown["total_requests"], shown["prompt_tokens_total"], shown["completion_tokens_total"]) == (6, 60, 120)
        assert (shown["requests_per_second"], shown["last_used_at"]) == (0.1, "2027-01-15T08:00:00.000Z")
        assert shown["tokens_per_second"] == 3.0
        assert (await admin.get("state"))["client_tokens"] == [shown]
        admin.clock.now += 61
        assert (await admin.get("tokens"))[0]["tokens_per_second"] == 0

    async def test_a_store_that_fails_changes_nothing(self, admin: AdminServer, tmp_path: Path) -> None:
        await admin.client.post("tokens", json={"name": "a", "token": TOKEN})
        before = await admin.get("tokens")
        for event in ("INSERT", "UPDATE"):
            raising = f"BEFORE {event} ON client_tokens BEGIN SELECT RAISE(ABORT, 'full'); END"
            sql(tmp_path / "lb.db", f"CREATE TRIGGER full_{event} {raising}")
        answers = [
            await admin.client.post("tokens", json={"name": "b"}),
            await admin.patch("tokens/1", {"name": "c"}),
            await admin.client.delete("tokens/1"),
        ]
        assert [each.status_code for each in answers] == [503] * 3
        assert await admin.get("tokens") == before
        assert admin.tokens.authenticate(bearer(TOKEN)) is not None

    async def test_of_many_at_once_with_one_name_one_is_made(self, admin: AdminServer) -> None:
        answers = await asyncio.gather(*(admin.client.post("tokens", json={"name": "a"}) for _ in range(10)))
        assert sorted(each.status_code for each in answers) == [200] + 9 * [409]
        assert len(list(admin.tokens)) == 1


WRONG = [
    {},
    {"x-admin-token": "wrong"},
    {"x-admin-token": ""},
    {"authorization": "Bearer wrong"},
    {"authorization": f"Basic {ADMIN_TOKEN}"},
    {"cookie": "lb_session=1900000000.x.00"},
    {"x-admin-token": ADMIN_TOKEN + "x"},
]


class TestAuthorization:
    @pytest.mark.parametrize("headers", WRONG)
    async def test_nothing_but_the_login_is_open(self, admin: AdminServer, headers: dict[str, str]) -> None:
        await admin.add("a")
        before = await admin.get("state")
        asked = [(each.method, each.path.strip("/").format(eid=1, tid=1, number=1)) for each in admin.api.operations]
        for method, path in (*asked, ("GET", "nothing"), ("PUT", "state"), ("GET", "")):
            if (method, path) == ("POST", "session"):
                continue
            answer = await admin.anybody.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()) == (401, {"detail": "admin authorization failed"})
            assert answer.headers["www-authenticate"] == "Bearer"
        assert await admin.get("state") == before

    @pytest.mark.parametrize("headers", [{"x-admin-token": ADMIN_TOKEN}, {"authorization": f"Bearer {ADMIN_TOKEN}"}])
    async def test_the_token_opens_in_either_header(self, admin: AdminServer, headers: dict[str, str]) -> None:
        assert (await admin.anybody.get("state", headers=headers)).status_code == 200
        body = {"name": "a", "base_url": "http://a.test"}
        assert (await admin.anybody.post("endpoints", json=body, headers=headers)).status_code == 200


class TestSession:
    async def login(self, admin: AdminServer) -> httpx.Response:
        answer = await admin.anybody.post("session", json={"token": ADMIN_TOKEN})
        assert answer.status_code == 200
        return answer

    async def test_the_token_is_exchanged_for_a_cookie(self, admin: AdminServer) -> None:
        answer = await self.login(admin)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("lb_session=") and "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert "Secure" not in cookie
        body = answer.json()
        assert (body["via"], body["expires_at"]) == ("session", "2027-01-15T20:00:00.000Z")
        assert (await admin.anybody.get("session")).json() == body
        assert (await admin.anybody.get("state")).status_code == 200

    async def test_the_cookie_is_secure_over_https(self, admin: AdminServer) -> None:
        url = "https://balancer.test/admin/api/session"
        answer = await admin.anybody.post(url, json={"token": ADMIN_TOKEN})
        assert answer.headers["set-cookie"].endswith("; Secure")

    @pytest.mark.parametrize("token", ["wrong", " ", ADMIN_TOKEN.upper(), "ü", "x" * 1000])
    async def test_a_wrong_token_gets_none(self, admin: AdminServer, token: str) -> None:
        answer = await admin.anybody.post("session", json={"token": token})
        assert (answer.status_code, answer.json()) == (401, {"detail": "admin authorization failed"})
        assert "set-cookie" not in answer.headers

    async def test_changes_need_the_csrf_token(self, admin: AdminServer) -> None:
        csrf = (await self.login(admin)).json()["csrf_token"]
        body = {"name": "a", "base_url": "http://a.test"}
        for headers in ({}, {"x-csrf-token": "wrong"}):
            refused = await admin.anybody.post("endpoints", json=body, headers=headers)
            assert refused.status_code == 403
            assert "X-CSRF-Token" in refused.json()["detail"]
        changed = await admin.anybody.post("endpoints", json=body, headers={"x-csrf-token": csrf})
        assert changed.status_code == 200
        assert (await admin.get("revisions/1"))["actor"] == "admin (session) from 127.0.0.1"

    async def test_it_ends_by_itself(self, admin: AdminServer) -> None:
        await self.login(admin)
        admin.wall_clock.now += SESSION_SECONDS
        assert (await admin.anybody.get("state")).status_code == 401

    async def test_logging_out_takes_the_cookie_away(self, admin: AdminServer) -> None:
        csrf = (await self.login(admin)).json()["csrf_token"]
        answer = await admin.anybody.delete("session", headers={"x-csrf-token": csrf})
        assert (answer.json(), answer.headers["set-cookie"].split(";")[0]) == ({"ok": True}, "lb_session=")
        assert (await admin.anybody.get("state")).status_code == 401

    async def test_by_token_there_is_no_session(self, admin: AdminServer) -> None:
        assert await admin.get("session") == {"via": "token", "csrf_token": None, "expires_at": None}
