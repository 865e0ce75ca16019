"""The nine promises of ai_load_test, each from end to end: real sockets, real database, fake backends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer, events_of
from tests.running import eventually
from tests.running_balancer import ADMIN, RunningBalancer

KEY = "sk-secret-provider-key-1234"


async def test_admin_needs_its_token(tmp_path: Path) -> None:
    async with RunningBalancer(tmp_path) as balancer:
        client = balancer.client
        for headers in ({}, {"x-admin-token": "wrong"}, {"authorization": "Bearer wrong"}):
            refused = await client.get("/admin/api/state", headers=headers)
            assert refused.status_code == 401
            assert refused.json() == {"detail": "admin authorization failed"}
        for headers in (ADMIN, {"authorization": f"Bearer {ADMIN['x-admin-token']}"}):
            assert (await client.get("/admin/api/state", headers=headers)).status_code == 200


async def test_endpoints_are_created_changed_deleted_and_keys_masked(tmp_path: Path) -> None:
    async with FakeServer() as fake, RunningBalancer(tmp_path) as balancer:
        identifier = await balancer.add("gpu-1", fake, api_key=KEY, connected=False)
        record = await balancer.endpoint("gpu-1")
        assert (record["api_key_preview"], record["has_api_key"]) == ("sk-s...1234", True)
        assert record["connected"] is False

        changed = await balancer.admin("PATCH", f"/endpoints/{identifier}", {"token_quota_percent": 40})
        assert changed["token_quota_percent"] == 40
        assert changed["name"] == "gpu-1"

        taken = await balancer.client.post(
            "/admin/api/endpoints", json={"name": "gpu-1", "base_url": "http://x/v1"}, headers=ADMIN
        )
        assert taken.status_code == 409
        assert KEY not in (await balancer.client.get("/admin/api/state", headers=ADMIN)).text

        assert await balancer.admin("DELETE", f"/endpoints/{identifier}") == {"ok": True}
        assert (await balancer.state())["endpoints"] == []
        gone = await balancer.client.patch(f"/admin/api/endpoints/{identifier}", json={"name": "x"}, headers=ADMIN)
        assert (gone.status_code, gone.json()) == (404, {"detail": "endpoint not found"})


async def test_percentage_splits_tokens_by_quota(tmp_path: Path) -> None:
    long, short = Behaviour(completion_tokens=90, prompt_tokens=10), Behaviour(completion_tokens=15, prompt_tokens=5)
    async with FakeServer(long) as a, FakeServer(short) as b, RunningBalancer(tmp_path) as balancer:
        await balancer.add("a", a, token_quota_percent=75)
        await balancer.add("b", b, token_quota_percent=25)
        for _ in range(20):
            await asyncio.gather(*(balancer.chat(max_tokens=100) for _ in range(8)))
        served = {
            e["name"]: e["prompt_tokens_total"] + e["completion_tokens_total"]
            for e in (await balancer.state())["endpoints"]
        }
        assert 100 * served["a"] / sum(served.values()) == pytest.approx(75, abs=2)
        assert served["b"] == 20 * b.stats.requests["/v1/chat/completions"]


async def test_priority_overflows_to_the_next(tmp_path: Path) -> None:
    slow = Behaviour(ttft_seconds=0.3)
    async with FakeServer(slow) as first, FakeServer(slow) as second, RunningBalancer(tmp_path) as balancer:
        await balancer.admin("PATCH", "/routing", {"routing_mode": "priority"})
        await balancer.add("second", second, priority_order=2, max_concurrent=2)
        await balancer.add("first", first, priority_order=1, max_concurrent=3)
        answers = await asyncio.gather(*(balancer.chat() for _ in range(6)))
        served = sorted(answer.headers.get("x-lb-endpoint", "refused") for answer in answers)
        assert served == ["first"] * 3 + ["refused"] + ["second"] * 2
        refused = next(answer for answer in answers if "x-lb-endpoint" not in answer.headers)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert (first.stats.max_inflight, second.stats.max_inflight) == (3, 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_is_counted_and_survives_as_rates(tmp_path: Path, stream: bool) -> None:
    async with (
        FakeServer(Behaviour(prompt_tokens=11, completion_tokens=7)) as fake,
        RunningBalancer(tmp_path, client_tokens=("client-token-1",)) as balancer,
    ):
        await balancer.add("gpu-1", fake)
        assert (await balancer.chat()).status_code == 401
        for _ in range(3):
            assert (await balancer.chat(token="client-token-1", stream=stream)).status_code == 200
        state = await balancer.state()
        record = state["endpoints"][0]
        assert (record["prompt_tokens_total"], record["completion_tokens_total"]) == (33, 21)
        assert (record["total_requests"], record["total_success"]) == (3, 3)
        assert state["stats"]["tokens_per_second"] == pytest.approx(54 / 60, abs=0.1)
        health = (await balancer.client.get("/health")).json()
        assert health["tokens_per_second"] == state["stats"]["tokens_per_second"]
        log = await balancer.admin("GET", "/requests")
        assert {row["provenance"] for row in log["requests"] if row["status"] == 200} == {"reported"}


async def test_failures_fail_over_and_cool_down(tmp_path: Path) -> None:
    broken = Behaviour(fault="status", fault_status=502)
    async with FakeServer(broken) as bad, FakeServer() as good, RunningBalancer(tmp_path, fail_threshold=2) as balancer:
        await balancer.admin("PATCH", "/routing", {"routing_mode": "priority"})
        await balancer.add("bad", bad, priority_order=1)
        await balancer.add("good", good, priority_order=2)
        for attempts in ("2", "2", "1"):
            answer = await balancer.chat()
            assert (answer.status_code, answer.headers["x-lb-endpoint"]) == (200, "good")
            assert answer.headers["x-attempts"] == attempts
        record = await balancer.endpoint("bad")
        assert record["consecutive_failures"] == 2
        assert 0 < record["cooldown_remaining_s"] <= 20
        assert record["reason"] == "cooling down"
        assert bad.stats.requests["/v1/chat/completions"] == 2


async def test_streams_pass_through_as_they_come(tmp_path: Path) -> None:
    paced = Behaviour(ttft_seconds=0.02, tpot_seconds=0.05, completion_tokens=30)
    async with FakeServer(paced) as fake, RunningBalancer(tmp_path) as balancer:
        await balancer.add("gpu-1", fake)
        body = {"model": "fake-model", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        pieces = []
        async with balancer.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for piece in answer.aiter_raw():
                pieces.append(piece)
                if len(pieces) == 1:
                    assert (await balancer.endpoint("gpu-1"))["inflight"] == 1
        assert len(pieces) > 4, "the stream came in one piece"
        events = events_of(b"".join(pieces).decode())
        assert events[-1] == "[DONE]"
        assert all(event["choices"] for event in events[:-1]), "usage was not asked for"
        assert (await balancer.endpoint("gpu-1"))["completion_tokens_total"] == 30


async def test_configuration_and_totals_survive_a_restart(tmp_path: Path) -> None:
    async with FakeServer(Behaviour(prompt_tokens=3, completion_tokens=4)) as fake:
        async with RunningBalancer(tmp_path) as balancer:
            await balancer.admin("PATCH", "/routing", {"routing_mode": "least_loaded"})
            await balancer.add("gpu-1", fake, api_key=KEY, token_quota_percent=60, tags=["h100"])
            await balancer.admin("PATCH", "/incoming-pos", {"x": 12, "y": 34})
            token = (await balancer.admin("POST", "/tokens", {"name": "team"}))["token"]
            await balancer.chat(token=token)
            before = await balancer.state()
        async with RunningBalancer(tmp_path) as balancer:
            after = await balancer.state()
            assert after["routing_mode"] == "least_loaded"
            assert after["incoming_pos"] == {"x": 12, "y": 34}
            assert after["revision"] == before["revision"]
            for key in (
                "name",
                "base_url",
                "api_key_preview",
                "connected",
                "token_quota_percent",
                "tags",
                "created_at",
            ):
                assert after["endpoints"][0][key] == before["endpoints"][0][key]
            assert after["endpoints"][0]["total_requests"] == 1
            assert after["endpoints"][0]["completion_tokens_total"] == 4
            assert after["client_tokens"][0]["prompt_tokens_total"] == 3
            assert (await balancer.chat(token=token)).status_code == 200
            assert fake.stats.last_headers["authorization"] == f"Bearer {KEY}"
            assert (await balancer.chat(token="wrong")).status_code == 401


async def test_models_of_all_connected_endpoints_are_merged(tmp_path: Path) -> None:
    first, second = Behaviour(models=("alpha", "org/shared")), Behaviour(models=("beta", "org/shared"))
    async with (
        FakeServer(first) as a,
        FakeServer(second) as b,
        FakeServer(Behaviour(models=("hidden",))) as c,
        RunningBalancer(tmp_path) as balancer,
    ):
        empty = await balancer.client.get("/v1/models")
        assert empty.status_code == 503
        await balancer.add("a", a)
        await balancer.add("b", b)
        await balancer.add("c", c, connected=False)
        for path in ("/v1/models", "/v1/any-pool/models"):
            listed = (await balancer.client.get(path)).json()
            assert [model["id"] for model in listed["data"]] == ["alpha", "beta", "org/shared"]
        assert (await balancer.client.get("/v1/models/org/shared")).json()["id"] == "org/shared"
        missing = await balancer.client.get("/v1/models/hidden")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        await b.close()
        await eventually(lambda: not b.stats.inflight)
