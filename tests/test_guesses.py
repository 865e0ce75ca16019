"""Guessing the admin token: slowed down by address and in total, told in the log, and nobody else is held up."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.admin.gate import PREFIX
from balancer.guesses import ADDRESS_PAUSE_SECONDS, IN_TOTAL, PER_ADDRESS, Guesses, TooManyGuesses
from tests.admin_parts import ADMIN_TOKEN, AdminServer, admin_server
from tests.running_balancer import RunningBalancer


def tries(guesses: Guesses, address: str, now: float, *, right: bool = False) -> float:
    """0 when a token from there is looked at, otherwise the wait."""
    try:
        guesses.judge(address, right, now)
    except TooManyGuesses as refused:
        assert refused.wait_seconds >= 1
        return refused.wait_seconds
    return 0


def test_an_address_gets_so_many_and_then_one_after_each_pause() -> None:
    guesses = Guesses()
    assert [tries(guesses, "10.0.0.1", 100.0) for _ in range(PER_ADDRESS)] == [0] * PER_ADDRESS
    assert tries(guesses, "10.0.0.1", 100.0) == ADDRESS_PAUSE_SECONDS
    assert tries(guesses, "10.0.0.1", 100.0, right=True), "the right one too, or the pause would be none"
    assert tries(guesses, "10.0.0.1", 100.0 + ADDRESS_PAUSE_SECONDS - 0.5) == 1
    assert not tries(guesses, "10.0.0.1", 100.0 + ADDRESS_PAUSE_SECONDS)
    assert tries(guesses, "10.0.0.1", 100.0 + ADDRESS_PAUSE_SECONDS)
    assert not tries(guesses, "10.0.0.2", 100.0), "another address"
    assert not tries(guesses, "10.0.0.1", 1e6, right=True)


def test_all_together_get_so_many_but_who_was_right_before_is_let_in() -> None:
    guesses = Guesses()
    assert not tries(guesses, "10.9.9.9", 0.0, right=True)
    for number in range(IN_TOTAL):
        assert not tries(guesses, f"10.0.0.{number}", 0.0)
    assert tries(guesses, "10.1.1.1", 0.0, right=True)
    assert not tries(guesses, "10.9.9.9", 0.0, right=True)


def test_a_network_of_ipv6_is_one_address_and_so_are_both_forms_of_ipv4() -> None:
    guesses = Guesses()
    for number in range(PER_ADDRESS):
        assert not tries(guesses, f"2001:db8::{number}:1", 0.0)
        assert not tries(guesses, ("10.0.0.1", "::ffff:10.0.0.1")[number % 2], 0.0)
    assert tries(guesses, "2001:db8::ffff", 0.0) and not tries(guesses, "2001:db8:0:1::1", 0.0)
    assert tries(guesses, "10.0.0.1", 0.0) and tries(guesses, "::ffff:10.0.0.1", 0.0)


def test_memory_is_bounded() -> None:
    guesses = Guesses()
    for number in range(20_000):
        tries(guesses, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", float(10 * number))
    assert repr(guesses) == "<Guesses: 10000 addresses>"


@given(st.lists(st.tuples(st.sampled_from(["a", "10.0.0.1", "::1"]), st.booleans(), st.floats(-1e9, 1e9))))
def test_no_order_of_events_breaks_it(events: list[tuple[str, bool, float]]) -> None:
    guesses = Guesses()
    for address, right, now in events:
        assert 0 <= tries(guesses, address, now, right=right) <= PER_ADDRESS * ADDRESS_PAUSE_SECONDS


# -- over the admin API


@pytest.fixture
async def server(template: Path, tmp_path: Path) -> AsyncIterator[AdminServer]:
    async with admin_server(template, tmp_path) as running:
        yield running


def browser(server: AdminServer, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(server.app, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url=f"http://balancer.test{PREFIX}/")


async def login(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("session", json={"token": token})


@pytest.mark.parametrize("way", ["login", "x-admin-token", "bearer"])
async def test_every_way_to_give_a_token_is_slowed_down(server: AdminServer, way: str) -> None:
    async with browser(server, "10.0.0.1") as attacker, browser(server, "10.0.0.2") as operator:

        async def attempt(token: str) -> httpx.Response:
            if way == "login":
                return await login(attacker, token)
            header = {"x-admin-token": token} if way == "x-admin-token" else {"authorization": f"Bearer {token}"}
            return await attacker.get("state", headers=header)

        assert [(await attempt(f"guess-{number}")).status_code for number in range(PER_ADDRESS)] == [401] * PER_ADDRESS
        for token in ("guess-again", ADMIN_TOKEN):
            refused = await attempt(token)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "30")
            assert "set-cookie" not in refused.headers
        assert (await attacker.post("session", json={"token": ADMIN_TOKEN})).status_code == 429, (
            "one count for all ways"
        )
        assert (await login(operator, ADMIN_TOKEN)).status_code == 200
        server.wall_clock.now += ADDRESS_PAUSE_SECONDS
        assert (await attempt(ADMIN_TOKEN)).status_code == 200


async def test_a_session_goes_on_whatever_is_guessed_beside_it(server: AdminServer) -> None:
    async with browser(server, "10.0.0.1") as shared:
        csrf = (await login(shared, ADMIN_TOKEN)).json()["csrf_token"]
        session = shared.cookies["lb_session"]
        shared.cookies.clear()
        for number in range(PER_ADDRESS + 1):
            last = await login(shared, f"guess-{number}")
        assert last.status_code == 429
        headers = {"cookie": f"lb_session={session}", "x-csrf-token": csrf}
        assert (await shared.get("state", headers=headers)).status_code == 200
        assert (await shared.post("reset-stats", headers=headers)).status_code == 200


async def test_the_interfaces_of_older_systems_are_no_way_around(tmp_path: Path) -> None:
    async with RunningBalancer(tmp_path, client_tokens=("client-token",)) as balancer:
        statuses = []
        for number in range(PER_ADDRESS + 1):
            answer = await balancer.client.get("/v1/nodes", headers={"x-admin-token": f"guess-{number}"})
            statuses.append(answer.status_code)
        assert statuses == [401] * PER_ADDRESS + [429]
        assert int(answer.headers["retry-after"]) > 0
        client = {"authorization": "Bearer client-token"}
        assert (await balancer.client.get("/v1/nodes", headers=client)).status_code == 200


# -- what the log says


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [record.fields for record in caplog.records if record.name == "balancer.audit"]  # type: ignore[attr-defined]


async def test_every_change_login_and_refusal_is_a_line(server: AdminServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "balancer.audit")
    await server.add("gpu-1", api_key="sk-a-provider-key-0123456789abcdef")
    created = (await server.client.post("tokens", json={"name": "app", "token": "ct-a-client-token"})).json()
    token = f"tokens/{created['id']}"
    assert (await server.patch(token, {"name": "app-2"})).status_code == 200
    for method, path in (
        ("DELETE", token),
        ("POST", "reset-stats"),
        ("POST", "endpoints/1/abort"),
        ("POST", "endpoints/1/test"),
        ("POST", "revisions/1/revert"),
    ):
        assert (await server.client.request(method, path)).status_code == 200, path
    async with browser(server, "10.0.0.7") as person:
        await login(person, "wrong")
        csrf = (await login(person, ADMIN_TOKEN)).json()["csrf_token"]
        await person.post("reset-stats")
        await person.delete("session", headers={"x-csrf-token": csrf})
    token_actor = {"event": "admin_change", "actor": "token", "address": "127.0.0.1"}
    assert audited(caplog) == [
        {**token_actor, "action": "POST /endpoints", "revision": 1},
        {**token_actor, "action": "POST /tokens", "token_id": created["id"], "token": "app"},
        {**token_actor, "action": f"PATCH /{token}", "token": "app", "renamed_to": "app-2"},
        {**token_actor, "action": f"DELETE /{token}", "token": "app-2"},
        {**token_actor, "action": "POST /reset-stats"},
        {**token_actor, "action": "POST /endpoints/1/abort", "endpoint": "gpu-1", "aborted": 0},
        {**token_actor, "action": "POST /endpoints/1/test"},
        {**token_actor, "action": "POST /revisions/1/revert", "revision": 2},
        {"event": "admin_refused", "address": "10.0.0.7", "paused": False},
        {"event": "admin_login", "address": "10.0.0.7"},
        {"event": "admin_refused", "address": "10.0.0.7"},
        {"event": "admin_change", "actor": "session", "address": "10.0.0.7", "action": "DELETE /session"},
    ]
    revisions = (await server.get("revisions"))["revisions"]
    assert {each["actor"] for each in revisions} == {"admin (token) from 127.0.0.1"}
    assert not any(secret in caplog.text for secret in ("sk-a-provider", "ct-a-client", ADMIN_TOKEN, "wrong-"))


async def test_reading_trying_out_and_moving_nodes_leave_no_line(
    server: AdminServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "balancer.audit")
    await server.get("state")
    assert (await server.client.post("explain", json={"model": "m"})).status_code == 200
    assert (await server.patch("layout", {"incoming": {"x": 1, "y": 2}})).status_code == 200
    assert (await server.client.post("endpoints", json={"name": "refused"})).status_code == 422
    assert audited(caplog) == []


async def test_the_cookie_has_every_attribute_that_keeps_it_in(server: AdminServer) -> None:
    async with browser(server, "10.0.0.1") as person:
        plain = (await login(person, ADMIN_TOKEN)).headers["set-cookie"]
        tls = await person.post("https://balancer.test/admin/api/session", json={"token": ADMIN_TOKEN})
        secure = tls.headers["set-cookie"]
    for cookie, extra in ((plain, set()), (secure, {"Secure"})):
        value, *attributes = cookie.split("; ")
        assert value.startswith("lb_session=") and ADMIN_TOKEN not in value
        assert set(attributes) == {"Max-Age=43200", "Path=/admin", "HttpOnly", "SameSite=Strict", *extra}
