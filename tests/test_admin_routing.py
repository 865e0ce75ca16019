from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from balancer.auth import token_digest
from balancer.core.endpoints import Outcome, Provenance, RouteRequest, Usage
from balancer.core.strategies import ALIASES, STRATEGIES
from tests.admin_parts import KEY, OTHER_KEY, AdminServer, admin_server


@pytest.fixture
async def admin(template: Path, tmp_path: Path) -> AsyncIterator[AdminServer]:
    async with admin_server(template, tmp_path) as server:
        yield server
        await server.check_consistent()


class TestState:
    async def test_an_empty_balancer(self, admin: AdminServer) -> None:
        answer = await admin.client.get("state")
        assert answer.headers["etag"] == '"0"'
        assert answer.json() == {
            "revision": 0,
            "version": "1.2.3",
            "routing_mode": "percentage",
            "endpoints": [],
            "incoming_pos": {"x": 80, "y": 300},
            "stats": {
                "tokens_per_second": 0,
                "requests_per_second": 0,
                "ttfb_median_seconds": None,
                "total_inflight": 0,
                "inflight_per_endpoint": {},
            },
            "client_tokens": [],
            "environment_tokens": [],
            "open_to_all": True,
            "retry_budget": {"limit": 3, "active_retries": 0, "active_requests": 0, "refused_total": 0},
            "queue": {"depth": 0, "size": 0},
            "overhead_median_seconds": None,
        }

    async def test_numbers_of_endpoints_that_served(self, admin: AdminServer) -> None:
        await admin.add("a", connected=True)
        await admin.add("b", connected=True)
        for _ in range(3):
            admin.serve(1, usage=Usage(100, 200))
        admin.serve(2, usage=Usage(50, 50))
        admin.serve(2, Outcome.FAILED, error="connection refused")
        admin.clock.now += 1
        state = await admin.get("state")
        first, second = state["endpoints"]
        assert (first["prompt_tokens_total"], first["completion_tokens_total"]) == (300, 600)
        assert (first["total_requests"], first["total_success"], first["total_failures"]) == (3, 3, 0)
        assert (first["tokens_per_second"], first["requests_per_second"]) == (15.0, 0.05)
        assert (first["share_percent"], second["share_percent"]) == (90.0, 10.0)
        assert (first["total_share_percent"], second["total_share_percent"]) == (90.0, 10.0)
        assert (first["ttfb_seconds"], first["avg_latency_ms"]) == (0.25, 500.0)
        assert (second["total_failures"], second["consecutive_failures"]) == (1, 1)
        assert (second["last_error"], second["eligible"]) == ("connection refused", True)
        assert state["stats"]["tokens_per_second"] == 16.7
        assert state["stats"]["requests_per_second"] == 0.1
        assert state["stats"]["ttfb_median_seconds"] == 0.25
        assert state["overhead_median_seconds"] == 0.00025

    async def test_the_median_is_of_the_last_minute(self, admin: AdminServer) -> None:
        await admin.add("a", connected=True)
        for _ in range(3):
            admin.serve(1, Outcome.FAILED, error="reset")  # without a first byte
        for seconds in (0.5, 0.1, 0.9):
            admin.traffic.log.append(admin.serve(1)._replace(first_byte_seconds=seconds))
        admin.wall_clock.now += 60
        assert (await admin.get("state"))["stats"]["ttfb_median_seconds"] == 0.25
        admin.wall_clock.now += 1
        assert (await admin.get("state"))["stats"]["ttfb_median_seconds"] is None

    async def test_shares_of_the_last_minute_are_not_those_of_a_lifetime(self, admin: AdminServer) -> None:
        await admin.add("a", connected=True)
        await admin.add("b", connected=True)
        admin.serve(1, usage=Usage(0, 1000))
        admin.clock.now += 120
        idle = (await admin.get("state"))["endpoints"]
        assert [each["share_percent"] for each in idle] == [None, None]
        admin.serve(2, usage=Usage(0, 1000))
        shares = [(e["share_percent"], e["total_share_percent"]) for e in (await admin.get("state"))["endpoints"]]
        assert shares == [(0.0, 50.0), (100.0, 50.0)]

    async def test_what_is_in_flight(self, admin: AdminServer) -> None:
        await admin.add("a", connected=True, max_concurrent=1)
        lease = admin.pool.acquire(RouteRequest(None), admin.clock.now)
        state = await admin.get("state")
        assert state["stats"]["total_inflight"] == 1
        assert state["stats"]["inflight_per_endpoint"] == {"1": 1}
        endpoint = state["endpoints"][0]
        assert (endpoint["inflight"], endpoint["reason"], endpoint["reason_text"]) == (1, "full", "full: 1 in flight")
        assert endpoint["wait_seconds"] == 1.0
        lease.release(Outcome.NEUTRAL, admin.clock.now)
        assert (await admin.get("state"))["endpoints"][0]["eligible"] is True

    async def test_a_cooldown_is_visible_and_ends(self, admin: AdminServer) -> None:
        await admin.add("a", connected=True)
        for _ in range(2):
            admin.serve(1, Outcome.FAILED, error="connection refused")
        admin.clock.now += 5
        admin.wall_clock.now += 5
        endpoint = await admin.get("endpoints/1")
        assert (endpoint["eligible"], endpoint["breaker"], endpoint["reason"]) == (False, "open", "cooling down")
        assert "connection refused" in endpoint["reason_text"]
        assert 14 < endpoint["cooldown_remaining_s"] <= 15.5
        assert endpoint["wait_seconds"] == endpoint["cooldown_remaining_s"]
        assert endpoint["cooldown_until"].startswith("2027-01-15T08:00:20.")
        admin.clock.now += 16
        after = await admin.get("endpoints/1")
        assert (after["eligible"], after["cooldown_until"], after["cooldown_remaining_s"]) == (True, None, 0)

    async def test_throttling_is_a_cooldown_too(self, admin: AdminServer) -> None:
        await admin.add("a", connected=True)
        lease = admin.pool.acquire(RouteRequest(None), admin.clock.now)
        lease.release(Outcome.REJECTED, admin.clock.now, error="429", retry_after_seconds=7)
        endpoint = await admin.get("endpoints/1")
        assert (endpoint["reason"], endpoint["breaker"]) == ("throttled", "closed")
        assert endpoint["cooldown_remaining_s"] == 7

    async def test_tokens_from_the_environment_stand_apart(self, template: Path, tmp_path: Path) -> None:
        async with admin_server(template, tmp_path, env_tokens=("from-the-environment",)) as admin:
            await admin.client.post("tokens", json={"name": "laptop"})
            state = await admin.get("state")
            assert [each["name"] for each in state["client_tokens"]] == ["laptop"]
            assert [(each["id"], each["name"]) for each in state["environment_tokens"]] == [(None, "env-1")]

    async def test_absurd_numbers_do_not_take_the_state_away(self, admin: AdminServer) -> None:
        await admin.add("a", connected=True)
        admin.serve(1, usage=Usage(2**70, 5), error="half a pair: \ud800")
        endpoint = (await admin.get("state"))["endpoints"][0]
        assert endpoint["prompt_tokens_total"] == 2**70
        assert endpoint["last_error"] == "half a pair: ?"
        assert (await admin.get("requests"))["requests"][0]["prompt_tokens"] == 2**70
        admin.pool.states[1].reset_totals()


class TestRouting:
    @pytest.mark.parametrize("name", [*STRATEGIES, *ALIASES, "ROUND_ROBIN", "Least-Conn", " priority "])
    async def test_every_name_of_every_mode(self, admin: AdminServer, name: str) -> None:
        canonical = ALIASES.get(name.strip().lower().replace("-", "_"), name.strip().lower().replace("-", "_"))
        answer = await admin.patch("routing", {"routing_mode": name})
        assert (answer.status_code, answer.json()) == (200, {"routing_mode": canonical})
        assert (await admin.get("state"))["routing_mode"] == admin.pool.strategy.name == canonical

    async def test_the_mode_survives_a_restart(self, template: Path, tmp_path: Path) -> None:
        async with admin_server(template, tmp_path) as admin:
            await admin.patch("routing", {"routing_mode": "priority"})
        async with admin_server(template, tmp_path) as admin:
            assert (await admin.get("state"))["routing_mode"] == admin.pool.strategy.name == "priority"


class TestCanvas:
    async def test_the_incoming_node_moves_by_either_axis(self, admin: AdminServer) -> None:
        assert (await admin.patch("incoming-pos", {"x": 5})).json() == {"ok": True}
        assert (await admin.patch("incoming-pos", {"y": 6.5, "x": None})).json() == {"ok": True}
        assert (await admin.get("state"))["incoming_pos"] == {"x": 5, "y": 6.5}

    async def test_everything_moves_at_once_without_a_revision(self, admin: AdminServer) -> None:
        await admin.add("a")
        await admin.add("b")
        await admin.client.post("tokens", json={"name": "laptop"})
        layout = {
            "endpoints": {"1": {"x": 1, "y": 2}, "2": {"x": 3, "y": 4}},
            "tokens": {"1": {"x": -5, "y": -6}},
            "incoming": {"x": 0, "y": 0},
        }
        answer = await admin.client.patch("layout", json=layout, headers={"if-match": "0"})
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
        state = await admin.get("state")
        assert state["revision"] == 2
        assert [(each["pos_x"], each["pos_y"]) for each in state["endpoints"]] == [(1, 2), (3, 4)]
        assert [(each["pos_x"], each["pos_y"]) for each in state["client_tokens"]] == [(-5, -6)]
        assert state["incoming_pos"] == {"x": 0, "y": 0}

    @pytest.mark.parametrize("unknown", [{"endpoints": {"9": {"x": 1, "y": 1}}}, {"tokens": {"9": {"x": 1, "y": 1}}}])
    async def test_all_or_nothing(self, admin: AdminServer, unknown: dict[str, dict[str, object]]) -> None:
        await admin.add("a")
        before = await admin.get("state")
        answer = await admin.patch(
            "layout", {"endpoints": {"1": {"x": 7, "y": 7}}, "incoming": {"x": 7, "y": 7}, **unknown}
        )
        assert answer.status_code == 404
        assert answer.json()["detail"].endswith(" 9")
        assert await admin.get("state") == before

    async def test_places_survive_a_restart_and_a_change(self, template: Path, tmp_path: Path) -> None:
        async with admin_server(template, tmp_path) as admin:
            await admin.add("a")
            await admin.patch("layout", {"endpoints": {"1": {"x": 1, "y": 2}}, "incoming": {"x": 3, "y": 4}})
            assert (await admin.patch("endpoints/1", {"weight": 2})).json()["pos_x"] == 1
        async with admin_server(template, tmp_path) as admin:
            assert (await admin.get("endpoints/1"))["pos_y"] == 2
            assert (await admin.get("state"))["incoming_pos"] == {"x": 3, "y": 4}


class TestReset:
    async def test_totals_failures_and_cooldowns_go_and_nothing_else(self, template: Path, tmp_path: Path) -> None:
        async with admin_server(template, tmp_path) as admin:
            token = (await admin.client.post("tokens", json={"name": "laptop", "token": "a-client-token"})).json()
            client = admin.tokens.get(token["id"])
            await admin.add("a", connected=True)
            await admin.add("b", connected=True)
            admin.serve(1, usage=Usage(10, 20), client=client)
            for _ in range(2):
                admin.serve(2, Outcome.FAILED, error="refused")
            await admin.writer.flush()
            running = admin.pool.acquire(RouteRequest(None, pinned_to=1), admin.clock.now)
            epoch = admin.pool.epoch
            answer = await admin.client.post("reset-stats")
            assert (answer.status_code, answer.json()) == (200, {"ok": True})
            state = await admin.get("state")
            first, second = state["endpoints"]
            for each in (first, second):
                assert (each["total_requests"], each["total_success"], each["total_failures"]) == (0, 0, 0)
                assert (each["prompt_tokens_total"], each["completion_tokens_total"]) == (0, 0)
                assert (each["consecutive_failures"], each["cooldown_until"], each["eligible"]) == (0, None, True)
            assert state["client_tokens"][0]["total_requests"] == 0
            assert state["client_tokens"][0]["completion_tokens_total"] == 0
            assert (state["revision"], first["inflight"], admin.pool.epoch) == (2, 1, epoch)
            assert (await admin.get("requests"))["finished"] == 3
            stored = await admin.usage_store.load_totals()
            assert (stored[1].completion_tokens_total, stored[2].total_failures) == (0, 0)
            # What is still running belongs to the new period.
            running.release(Outcome.SUCCESS, admin.clock.now, Usage(1, 2))
            admin.traffic.changed_endpoints.add(1)
            await admin.writer.flush()
        async with admin_server(template, tmp_path) as admin:
            totals = [each["completion_tokens_total"] for each in await admin.get("endpoints")]
            assert totals == [2, 0]
            assert (await admin.usage_store.load_totals())[2].total_failures == 0

    async def test_who_waits_for_room_is_told(self, admin: AdminServer) -> None:
        told: list[bool] = []
        admin.pool.freed = lambda: told.append(True)
        await admin.client.post("reset-stats")
        assert told

    @pytest.mark.parametrize("trouble", ["open", "half-open", "throttled", "credentials"])
    async def test_whatever_kept_an_endpoint_out_is_forgiven(self, admin: AdminServer, trouble: str) -> None:
        await admin.add("a", connected=True)
        for _ in range(2):
            lease = admin.pool.acquire(RouteRequest(None), admin.clock.now)
            lease.release(Outcome.FAILED, admin.clock.now, error="x", credentials=trouble == "credentials")
        probe = None
        if trouble == "half-open":
            admin.clock.now += 25
            probe = admin.pool.acquire(RouteRequest(None), admin.clock.now)
        if trouble == "throttled":
            lease = admin.pool.acquire(RouteRequest(None), admin.clock.now)
            lease.release(Outcome.REJECTED, admin.clock.now, retry_after_seconds=30)
        assert (await admin.get("endpoints/1"))["eligible"] is False
        await admin.client.post("reset-stats")
        after = await admin.get("endpoints/1")
        assert (after["eligible"], after["breaker"], after["credentials_refused"]) == (True, "closed", False)
        assert (after["last_error"], after["inflight"]) == ("", int(probe is not None))
        if probe is not None:
            probe.release(Outcome.FAILED, admin.clock.now)
            assert (await admin.get("endpoints/1"))["breaker"] == "closed"


class TestRevisions:
    async def test_they_tell_who_did_what(self, admin: AdminServer) -> None:
        await admin.add("a", api_key=KEY)
        await admin.patch("endpoints/1", {"connected": True, "api_key": OTHER_KEY})
        await admin.patch("routing", {"routing_mode": "priority"})
        found = await admin.get("revisions")
        assert found["revision"] == 3
        newest, middle, oldest = found["revisions"]
        assert [each["number"] for each in found["revisions"]] == [3, 2, 1]
        assert newest["summary"] == "routing mode percentage -> priority"
        assert newest["actor"] == "admin (token) from 127.0.0.1"
        assert middle["changes"] == [
            {
                "endpoint_id": 1,
                "name": "a",
                "before": {"connected": False, "api_key": "***"},
                "after": {"connected": True, "api_key": "***"},
            }
        ]
        assert oldest["changes"][0]["before"] is None
        assert await admin.get("revisions/2") == middle

    async def test_they_come_in_pages(self, admin: AdminServer) -> None:
        for name in "abcde":
            await admin.add(name)
        page = await admin.get("revisions", limit=2)
        assert [each["number"] for each in page["revisions"]] == [5, 4]
        page = await admin.get("revisions", limit=3, before=4)
        assert [each["number"] for each in page["revisions"]] == [3, 2, 1]
        assert (await admin.get("revisions", before=1))["revisions"] == []

    @pytest.mark.parametrize("number", ["0", "2", "999999999999999"])
    async def test_unknown_ones_are_not_found(self, admin: AdminServer, number: str) -> None:
        await admin.add("a")
        assert (await admin.client.get(f"revisions/{number}")).status_code == 404
        assert (await admin.client.post(f"revisions/{number}/revert")).status_code == 404
        if number != "0":
            assert (await admin.client.post(f"revisions/{number}/restore")).status_code == 404

    async def test_a_restore_brings_a_deleted_endpoint_back_with_key_and_totals(self, admin: AdminServer) -> None:
        await admin.add("a", connected=True, api_key=KEY)
        before = (await admin.get("state"))["endpoints"]
        admin.serve(1, usage=Usage(10, 20))
        await admin.writer.flush()
        await admin.client.delete("endpoints/1")
        await admin.writer.flush()
        answer = await admin.client.post("revisions/1/restore", headers={"if-match": '"2"'})
        assert (answer.status_code, answer.headers["etag"]) == (200, '"3"')
        assert [each["name"] for each in answer.json()["endpoints"]] == ["a"]
        assert admin.pool.states[1].endpoint.api_key == KEY
        await admin.writer.flush()
        after = await admin.get("endpoints/1")
        assert (after["completion_tokens_total"], after["created_at"]) == (20, before[0]["created_at"])

    async def test_a_revert_takes_back_one_change_alone(self, admin: AdminServer) -> None:
        await admin.add("a")
        await admin.patch("endpoints/1", {"weight": 2})
        await admin.patch("endpoints/1", {"connected": True})
        answer = await admin.client.post("revisions/2/revert")
        endpoint = answer.json()["endpoints"][0]
        assert (endpoint["weight"], endpoint["connected"], answer.json()["revision"]) == (1, True, 4)

    async def test_a_revert_is_refused_where_it_has_changed_again(self, admin: AdminServer) -> None:
        await admin.add("a")
        await admin.patch("endpoints/1", {"weight": 2})
        await admin.patch("endpoints/1", {"weight": 3})
        answer = await admin.client.post("revisions/2/revert")
        assert answer.status_code == 409
        assert answer.json()["fields"] == ["endpoints.1.weight"]
        assert (await admin.get("endpoints/1"))["weight"] == 3


async def test_keys_are_in_no_answer(admin: AdminServer) -> None:
    """The harness searches every answer for keys; here every kind of answer is asked for."""
    await admin.add("a", connected=True, api_key=KEY)
    await admin.patch("endpoints/1", {"api_key": OTHER_KEY})
    await admin.client.post("tokens", json={"name": "laptop", "token": "a-client-token"})
    admin.serve(1, usage=Usage(10, 20, Provenance.PARTIAL))
    await admin.writer.flush()
    paths = {each.path for each in admin.api.operations if each.method == "GET"} - {"/events"}
    for path in sorted(paths):
        answer = await admin.client.get(path.strip("/").format(eid=1, number=2))
        assert answer.status_code == 200, answer.text
        assert "a-client-token" not in answer.text
        assert token_digest("a-client-token").hex() not in answer.text
    await admin.get("series", minutes=5)
    for refused in ({"api_key": KEY + "\n"}, {"api_key": KEY, "name": ""}, {"name": KEY * 9}, {KEY: 1, "weight": -1}):
        if KEY in refused:
            continue
        assert (await admin.patch("endpoints/1", refused)).status_code == 422
