from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from balancer.core.endpoints import Outcome, RouteRequest
from tests.admin_parts import KEY, OTHER_KEY, AdminServer, Json, admin_server
from tests.fakes import FakeServer
from tests.store_parts import sql


@pytest.fixture
async def admin(template: Path, tmp_path: Path) -> AsyncIterator[AdminServer]:
    async with admin_server(template, tmp_path) as server:
        yield server
        await server.check_consistent()


DEFAULTS = {
    "id": 1,
    "name": "gpu-1",
    "base_url": "http://gpu-1.test/v1",
    "api_key_preview": "",
    "has_api_key": False,
    "timeout": 90.0,
    "timeout_seconds": 90.0,
    "verify_tls": True,
    "enabled": True,
    "connected": False,
    "token_quota_percent": 0,
    "priority_order": 10,
    "max_concurrent": 0,
    "weight": 1,
    "models": [],
    "model_aliases": {},
    "include_usage": True,
    "price_per_million_input": None,
    "price_per_million_output": None,
    "tags": [],
    "health_check": True,
    "discovered": False,
    "pos_x": 500,
    "pos_y": 200,
    "inflight": 0,
    "total_requests": 0,
    "total_success": 0,
    "total_failures": 0,
    "avg_latency_ms": 0,
    "prompt_tokens_total": 0,
    "completion_tokens_total": 0,
    "consecutive_failures": 0,
    "cooldown_until": None,
    "cooldown_remaining_s": 0,
    "eligible": False,
    "reason": "not connected",
    "health": {"status": "off", "checked_at": None, "latency_ms": None, "reason": None},
    "discovered_models": None,
    "discovered_models_at": None,
}
EVERY_FIELD: dict[str, Any] = {
    "name": "gpu-1 ü",
    "base_url": "https://gpu-1.test:8443/api/v3",
    "timeout": 12.5,
    "verify_tls": False,
    "enabled": False,
    "connected": True,
    "token_quota_percent": 33.3,
    "priority_order": 2,
    "max_concurrent": 7,
    "weight": 0.25,
    "models": ["org/llama-3", "b"],
    "model_aliases": {"gpt-4o": "org/llama-3"},
    "include_usage": False,
    "price_per_million_input": 0.0,
    "price_per_million_output": 1.5,
    "tags": ["eu", "fast"],
    "health_check": False,
    "pos_x": -12.5,
    "pos_y": 900.0,
}


class TestOne:
    async def test_a_new_endpoint_has_the_defaults(self, admin: AdminServer) -> None:
        answer = await admin.client.post("endpoints", json={"name": "gpu-1", "base_url": "http://gpu-1.test"})
        assert answer.status_code == 200
        assert answer.headers["etag"] == '"1"'
        assert answer.json().items() >= DEFAULTS.items()
        assert answer.json()["created_at"] == answer.json()["updated_at"] == "2027-01-15T08:00:00.000Z"
        assert await admin.get("endpoints") == [answer.json()]
        assert await admin.get("endpoints/1") == answer.json()

    async def test_every_field_can_be_given_and_changed(self, admin: AdminServer) -> None:
        created = await admin.client.post("endpoints", json={**EVERY_FIELD, "api_key": KEY})
        assert created.json().items() >= EVERY_FIELD.items()
        assert created.json()["api_key_preview"] == "sk-a...cdef"
        plain = await admin.add("plain")
        changed = await admin.patch(f"endpoints/{plain['id']}", {**EVERY_FIELD, "name": "other", "api_key": OTHER_KEY})
        assert changed.json().items() >= {**EVERY_FIELD, "name": "other", "has_api_key": True}.items()

    async def test_what_is_stored_survives_a_restart(self, template: Path, tmp_path: Path) -> None:
        async with admin_server(template, tmp_path) as admin:
            await admin.add(**EVERY_FIELD, api_key=KEY)
            before = await admin.get("state")
        async with admin_server(template, tmp_path) as admin:
            assert await admin.get("state") == before
            assert admin.pool.states[1].endpoint.api_key == KEY

    @pytest.mark.parametrize(
        ("given", "stored"),
        [
            ("http://host", "http://host/v1"),
            ("http://host/", "http://host/v1"),
            ("http://host/v1///", "http://host/v1"),
            ("HTTPS://Host.Example:8443", "https://host.example:8443/v1"),
            ("http://host/api/v3", "http://host/api/v3"),
            ("http://host/openai", "http://host/openai"),
            ("http://[::1]:8000", "http://[::1]:8000/v1"),
            ("http://host:", "http://host/v1"),
        ],
    )
    async def test_base_urls_are_normalised(self, admin: AdminServer, given: str, stored: str) -> None:
        created = await admin.add("a", base_url=given)
        assert created["base_url"] == stored

    async def test_timeout_has_two_names(self, admin: AdminServer) -> None:
        created = await admin.add("a", timeout_seconds=33)
        assert (created["timeout"], created["timeout_seconds"]) == (33, 33)
        same = await admin.patch("endpoints/1", {"timeout": 44, "timeout_seconds": 44})
        assert same.json()["timeout"] == 44

    async def test_role_of_older_clients_is_ignored(self, admin: AdminServer) -> None:
        assert "role" not in await admin.add("a", role="percentage")
        assert (await admin.patch("endpoints/1", {"role": 5})).status_code == 422

    async def test_a_patch_leaves_the_rest(self, admin: AdminServer) -> None:
        before = await admin.add(**EVERY_FIELD)
        admin.wall_clock.now += 60
        after = (await admin.patch("endpoints/1", {"token_quota_percent": 50})).json()
        assert after == {**before, "token_quota_percent": 50, "updated_at": "2027-01-15T08:01:00.000Z"}

    async def test_nulls_leave_everything_but_prices(self, admin: AdminServer) -> None:
        before = await admin.add(**EVERY_FIELD, api_key=KEY)
        after = (await admin.patch("endpoints/1", dict.fromkeys((*EVERY_FIELD, "api_key", "role")))).json()
        prices = {"price_per_million_input": None, "price_per_million_output": None}
        assert after == {**before, **prices}
        assert admin.pool.states[1].endpoint.api_key == KEY

    async def test_an_empty_key_removes_the_key(self, admin: AdminServer) -> None:
        await admin.add("a", api_key=KEY)
        after = (await admin.patch("endpoints/1", {"api_key": ""})).json()
        assert (after["has_api_key"], after["api_key_preview"]) == (False, "")
        assert admin.pool.states[1].endpoint.api_key == ""

    async def test_a_wire_is_traffic(self, admin: AdminServer) -> None:
        await admin.add("a")
        connected = (await admin.patch("endpoints/1", {"connected": True})).json()
        assert (connected["eligible"], connected["reason"], connected["reason_text"]) == (True, None, None)
        lease = admin.pool.acquire(RouteRequest(None), admin.clock.now)
        cut = (await admin.patch("endpoints/1", {"connected": False})).json()
        assert (cut["eligible"], cut["reason"], cut["inflight"]) == (False, "not connected", 1)
        lease.release(Outcome.SUCCESS, admin.clock.now)

    async def test_nothing_changed_makes_no_revision(self, admin: AdminServer) -> None:
        await admin.add("a")
        for body in ({}, {"name": "a"}, {"pos_x": 1, "pos_y": 2}):
            answer = await admin.patch("endpoints/1", body)
            assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
        assert (await admin.get("endpoints/1"))["pos_x"] == 1

    async def test_deleting_forgets_the_endpoint(self, admin: AdminServer) -> None:
        await admin.add("a", connected=True, api_key=KEY)
        admin.serve(1)
        answer = await admin.client.delete("endpoints/1")
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
        assert admin.traffic.by_endpoint == {}
        assert (await admin.add("b"))["id"] == 2

    async def test_deleting_closes_idle_connections(self, admin: AdminServer) -> None:
        async with FakeServer() as backend:
            await admin.add("a", base_url=backend.base_url)
            record = admin.pool.states[1].endpoint
            response = await admin.connections.open(record, b"/models", b"", b"", method=b"GET")
            while await response.read():
                pass
            response.close()
            assert repr(admin.connections) == "<Connections: 1 open, 1 idle>"
            await admin.client.delete("endpoints/1")
            assert "0 idle" in repr(admin.connections)

    @pytest.mark.parametrize("eid", ["2", "0", "999999999999999"])
    async def test_unknown_ones_are_not_found(self, admin: AdminServer, eid: str) -> None:
        await admin.add("a")
        answers = [
            await admin.client.get(f"endpoints/{eid}"),
            await admin.patch(f"endpoints/{eid}", {"name": "x"}),
            await admin.client.delete(f"endpoints/{eid}"),
            await admin.client.post(f"endpoints/{eid}/test"),
        ]
        assert {(each.status_code, each.json()["detail"]) for each in answers} == {(404, "endpoint not found")}

    async def test_a_name_is_given_once(self, admin: AdminServer) -> None:
        await admin.add("a")
        await admin.add("b")
        again = await admin.client.post("endpoints", json={"name": "a", "base_url": "http://x.test"})
        renamed = await admin.patch("endpoints/2", {"name": "a"})
        assert (again.status_code, renamed.status_code) == (409, 409)
        assert again.json() == renamed.json() == {"detail": "the name 'a' is taken"}


class TestSeveral:
    async def test_they_are_created_in_order_as_one_revision(self, admin: AdminServer) -> None:
        wanted = [{"name": f"gpu-{number}", "base_url": "http://x.test"} for number in range(5)]
        answer = await admin.client.post("endpoints", json=wanted)
        assert [each["name"] for each in answer.json()] == [each["name"] for each in wanted]
        assert answer.headers["etag"] == '"1"'

    async def test_they_are_changed_as_one_revision_even_where_names_are_swapped(self, admin: AdminServer) -> None:
        await admin.add("a")
        await admin.add("b")
        answer = await admin.patch(
            "endpoints", [{"id": 2, "fields": {"name": "a", "weight": 2}}, {"id": 1, "fields": {"name": "b"}}]
        )
        assert [(each["id"], each["name"], each["weight"]) for each in answer.json()] == [(2, "a", 2), (1, "b", 1)]
        assert answer.headers["etag"] == '"3"'

    async def test_they_are_deleted_as_one_revision(self, admin: AdminServer) -> None:
        for name in "abc":
            await admin.add(name)
        answer = await admin.client.request("DELETE", "endpoints", json=[1, 3])
        assert (answer.json(), answer.headers["etag"]) == ({"ok": True}, '"4"')
        assert [each["name"] for each in await admin.get("endpoints")] == ["b"]

    @pytest.mark.parametrize(
        ("method", "body", "status"),
        [
            ("POST", [{"name": "new", "base_url": "http://x.test"}, {"name": "a", "base_url": "http://x.test"}], 409),
            ("POST", [{"name": "new", "base_url": "http://x.test"}, {"name": "other", "base_url": "x"}], 422),
            ("PATCH", [{"id": 1, "fields": {"weight": 5}}, {"id": 9, "fields": {"weight": 5}}], 404),
            ("PATCH", [{"id": 1, "fields": {"weight": 5}}, {"id": 2, "fields": {"weight": -5}}], 422),
            ("PATCH", [{"id": 1, "fields": {"weight": 5}}, {"id": 2, "fields": {"name": "a"}}], 409),
            ("PATCH", [{"id": 1, "fields": {"weight": 5}}, {"id": 1, "fields": {"weight": 6}}], 422),
            ("DELETE", [1, 9], 404),
            ("DELETE", [1, 1], 422),
            ("DELETE", [1, "2"], 422),
            ("DELETE", [], 422),
            ("DELETE", {"id": 1}, 422),
        ],
    )
    async def test_all_or_nothing(self, admin: AdminServer, method: str, body: Json, status: int) -> None:
        await admin.add("a")
        await admin.add("b")
        before = await admin.get("state")
        answer = await admin.client.request(method, "endpoints", json=body)
        assert answer.status_code == status
        assert await admin.get("state") == before

    async def test_some_are_created_and_others_changed_as_one_revision(self, admin: AdminServer) -> None:
        await admin.add("a", token_quota_percent=100)
        body = {
            "create": [{"name": "b", "base_url": "http://b.test", "token_quota_percent": 40}],
            "update": [{"id": 1, "fields": {"token_quota_percent": 60}}],
        }
        answer = await admin.client.post("batch", json=body, headers={"If-Match": '"1"'})
        assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
        told = answer.json()
        assert [(each["id"], each["token_quota_percent"]) for each in told["created"]] == [(2, 40)]
        assert [(each["id"], each["token_quota_percent"]) for each in told["updated"]] == [(1, 60)]
        again = await admin.client.post("batch", json=body, headers={"If-Match": '"1"'})
        assert (again.status_code, again.json()["revision"]) == (409, 2)

    @pytest.mark.parametrize(
        ("body", "status", "loc"),
        [
            ({}, 422, ["body"]),
            ({"create": []}, 422, ["body", "create"]),
            ({"update": [{"id": 1, "fields": {"weight": -1}}]}, 422, ["body", "update", 0, "fields", "weight"]),
            ({"create": [{"name": "a", "base_url": "http://x.test"}], "update": []}, 422, ["body", "update"]),
            ({"create": [{"name": "b", "base_url": "ftp://x.test"}]}, 422, ["body", "create", 0, "base_url"]),
            ({"create": [{"name": "b", "base_url": "http://169.254.169.254"}]}, 422, ["body", "base_url"]),
            (
                {
                    "create": [{"name": "a", "base_url": "http://x.test"}],
                    "update": [{"id": 1, "fields": {"weight": 3}}],
                },
                409,
                None,
            ),
            (
                {
                    "create": [{"name": "b", "base_url": "http://x.test"}],
                    "update": [{"id": 9, "fields": {"weight": 3}}],
                },
                404,
                None,
            ),
        ],
    )
    async def test_a_batch_is_all_or_nothing(
        self, admin: AdminServer, body: Json, status: int, loc: list[Any] | None
    ) -> None:
        await admin.add("a")
        before = await admin.get("state")
        answer = await admin.client.post("batch", json=body)
        assert answer.status_code == status
        if loc is not None:
            assert answer.json()["detail"][0]["loc"] == loc
        assert await admin.get("state") == before

    async def test_the_unknown_one_is_named(self, admin: AdminServer) -> None:
        await admin.add("a")
        answer = await admin.patch("endpoints", [{"id": 1, "fields": {}}, {"id": 9, "fields": {}}])
        assert answer.json() == {"detail": "there is no endpoint 9"}

    async def test_problems_are_told_by_place(self, admin: AdminServer) -> None:
        answer = await admin.client.post(
            "endpoints", json=[{"name": "a", "base_url": "http://x.test"}, {"name": "b", "base_url": "ftp://x.test"}]
        )
        assert [each["loc"] for each in answer.json()["detail"]] == [["body", 1, "base_url"]]


class TestConflicts:
    @pytest.mark.parametrize("header", ["1", '"1"', "*", ' "1" '])
    async def test_a_matching_revision_goes_through(self, admin: AdminServer, header: str) -> None:
        await admin.add("a")
        answer = await admin.patch("endpoints/1", {"weight": 2}, if_match=header)
        assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')

    @pytest.mark.parametrize("header", ["", "one", "-1", '"1', 'W/"1"', "1, 2", "1.0", "9" * 40, "²"])
    async def test_a_malformed_revision_is_refused(self, admin: AdminServer, header: str) -> None:
        await admin.add("a")
        headers = {"if-match": header.encode()}
        answer = await admin.client.patch("endpoints/1", json={"weight": 2}, headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 400
        assert "If-Match" in answer.json()["detail"]
        assert (await admin.get("endpoints/1"))["weight"] == 1

    async def test_a_conflict_tells_the_state_and_what_changed(self, admin: AdminServer) -> None:
        await admin.add("a", api_key=KEY)
        seen = (await admin.get("state"))["revision"]
        await admin.patch("endpoints/1", {"token_quota_percent": 40, "api_key": OTHER_KEY})
        await admin.patch("routing", {"routing_mode": "priority"})
        await admin.add("b")
        answer = await admin.patch("endpoints/1", {"token_quota_percent": 70}, if_match=str(seen))
        assert answer.status_code == 409
        assert answer.headers["etag"] == '"4"'
        body = answer.json()
        assert (body["revision"], body["state"]) == (4, await admin.get("state"))
        assert body["changed"] == {
            "routing_mode": {"before": "percentage", "after": "priority"},
            "endpoints.1.token_quota_percent": {"before": 0, "after": 40},
            "endpoints.1.api_key": {"before": "***", "after": "***"},
            "endpoints.2": {"before": None, "after": "b"},
        }

    async def test_every_change_can_be_conditional(self, admin: AdminServer) -> None:
        await admin.add("a")
        old = {"if-match": "0"}
        answers = [
            await admin.client.post("endpoints", json={"name": "n", "base_url": "http://x.test"}, headers=old),
            await admin.client.patch("endpoints", json=[{"id": 1, "fields": {"weight": 3}}], headers=old),
            await admin.client.request("DELETE", "endpoints", json=[1], headers=old),
            await admin.client.patch("endpoints/1", json={"weight": 3}, headers=old),
            await admin.client.delete("endpoints/1", headers=old),
            await admin.client.patch("routing", json={"routing_mode": "cost"}, headers=old),
            await admin.client.post("revisions/1/restore", headers=old),
            await admin.client.post("revisions/1/revert", headers=old),
        ]
        assert [each.status_code for each in answers] == [409] * len(answers)
        assert all(each.json()["changed"] == {"endpoints.1": {"before": None, "after": "a"}} for each in answers)

    async def test_of_many_with_the_same_revision_one_wins(self, admin: AdminServer) -> None:
        await admin.add("a")
        answers = await asyncio.gather(
            *(admin.patch("endpoints/1", {"priority_order": number}, if_match="1") for number in range(1, 21))
        )
        assert sorted(each.status_code for each in answers) == [200] + 19 * [409]
        winner = next(each for each in answers if each.status_code == 200)
        assert winner.json()["priority_order"] == (await admin.get("endpoints/1"))["priority_order"]

    async def test_parallel_changes_of_different_endpoints_all_arrive(self, admin: AdminServer) -> None:
        for number in range(1, 21):
            await admin.add(f"gpu-{number}")
        answers = await asyncio.gather(
            *(admin.patch(f"endpoints/{number}", {"priority_order": 20 + number}) for number in range(1, 21))
        )
        assert {each.status_code for each in answers} == {200}
        assert [each["priority_order"] for each in await admin.get("endpoints")] == list(range(21, 41))
        assert (await admin.get("state"))["revision"] == 40

    async def test_changes_and_deletions_at_once_never_break(self, admin: AdminServer) -> None:
        for number in range(1, 11):
            await admin.add(f"gpu-{number}")
        answers = await asyncio.gather(
            *(admin.patch(f"endpoints/{number}", {"weight": 2}) for number in range(1, 11)),
            *(admin.client.delete(f"endpoints/{number}") for number in range(1, 11)),
        )
        assert {each.status_code for each in answers} <= {200, 404}
        assert await admin.get("endpoints") == []


async def test_a_store_that_fails_changes_nothing(admin: AdminServer, tmp_path: Path) -> None:
    await admin.add("a")
    before = await admin.get("state")
    sql(tmp_path / "lb.db", "CREATE TRIGGER full BEFORE INSERT ON revisions BEGIN SELECT RAISE(ABORT, 'full'); END")
    answers = [
        await admin.patch("endpoints/1", {"weight": 2}),
        await admin.client.delete("endpoints/1"),
        await admin.client.post("endpoints", json={"name": "b", "base_url": "http://x.test"}),
        await admin.patch("routing", {"routing_mode": "cost"}),
    ]
    assert [each.status_code for each in answers] == [503] * 4
    assert all(isinstance(each.json()["detail"], str) for each in answers)
    assert await admin.get("state") == before
    sql(tmp_path / "lb.db", "DROP TRIGGER full")
    assert (await admin.patch("endpoints/1", {"weight": 2})).status_code == 200
