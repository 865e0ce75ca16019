from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from balancer.core.endpoints import Outcome, Provenance, Usage
from balancer.store import MinuteUsage, UsageBatch
from tests.admin_parts import KEY, OTHER_KEY, AdminServer, admin_server
from tests.running_balancer import RunningBalancer


@pytest.fixture
async def admin(template: Path, tmp_path: Path) -> AsyncIterator[AdminServer]:
    async with admin_server(template, tmp_path) as server:
        await server.add("a", connected=True)
        await server.add("b", connected=True)
        yield server


class TestRequests:
    async def test_an_empty_log(self, admin: AdminServer) -> None:
        assert await admin.get("requests") == {"finished": 0, "requests": []}

    async def test_a_request_with_all_that_is_known(self, admin: AdminServer) -> None:
        admin.serve(1, usage=Usage(10, 20, Provenance.PARTIAL))
        assert (await admin.get("requests"))["requests"] == [
            {
                "number": 1,
                "at": "2027-01-15T08:00:00.000Z",
                "request_id": "req-1",
                "client": "anonymous",
                "operation": "chat",
                "model": "llama",
                "upstream_model": None,
                "endpoint_id": 1,
                "endpoint": "a",
                "attempts": [
                    {
                        "endpoint_id": 1,
                        "endpoint": "a",
                        "seconds": 0.5,
                        "outcome": "success",
                        "result": "ok",
                        "panic": False,
                        "passed_over": {},
                    }
                ],
                "streamed": False,
                "status": 200,
                "first_byte_seconds": 0.25,
                "total_seconds": 0.5,
                "overhead_seconds": 0.0002,
                "prompt_tokens": 10,
                "completion_tokens": 20,
                "provenance": "partial",
                "error": "",
            }
        ]

    @pytest.mark.parametrize(
        ("query", "numbers"),
        [
            ({}, [6, 5, 4, 3, 2, 1]),
            ({"limit": 2}, [6, 5]),
            ({"limit": 2, "before": 5}, [4, 3]),
            ({"endpoint": 2}, [5, 4]),
            ({"endpoint": 9}, []),
            ({"status": "502"}, [4, 1]),
            ({"status": "5xx"}, [4, 1]),
            ({"status": "2xx", "endpoint": 1}, [6, 3, 2]),
            ({"status": "200", "limit": 1, "before": 6}, [5]),
            ({"model": "qwen"}, [6]),
        ],
    )
    async def test_they_can_be_narrowed(self, admin: AdminServer, query: dict[str, Any], numbers: list[int]) -> None:
        failed, ok = Outcome.FAILED, Outcome.SUCCESS
        for endpoint, outcome, model in ((1, failed, "llama"), (1, ok, "llama"), (1, ok, "llama")):
            admin.serve(endpoint, outcome, model=model)
        for endpoint, outcome, model in ((2, failed, "llama"), (2, ok, "llama"), (1, ok, "qwen")):
            admin.serve(endpoint, outcome, model=model)
        found = await admin.get("requests", **query)
        assert [each["number"] for each in found["requests"]] == numbers
        assert found["finished"] == 6


class TestSeries:
    async def test_seconds_of_all_and_of_one(self, admin: AdminServer) -> None:
        admin.serve(1, usage=Usage(10, 20))
        admin.serve(2, Outcome.FAILED)
        admin.clock.now += 2
        admin.wall_clock.now += 2
        both = await admin.get("series", seconds=3)
        assert (both["endpoint"], both["step_seconds"]) == (None, 1)
        assert both["at"] == [1_799_999_999, 1_800_000_000, 1_800_000_001]
        assert (both["requests"], both["failures"]) == ([0, 2, 0], [0, 1, 0])
        assert (both["prompt_tokens"], both["completion_tokens"]) == ([0, 10, 0], [0, 20, 0])
        assert both["ttfb_seconds"] == [None, 0.25, None]
        one = await admin.get("series", seconds=3, endpoint=1)
        assert (one["endpoint"], one["requests"]) == (1, [0, 1, 0])

    async def test_fifteen_minutes_by_default_and_an_idle_endpoint(self, admin: AdminServer) -> None:
        series = await admin.get("series", endpoint=1)
        assert len(series["at"]) == len(series["requests"]) == 900
        assert set(series["requests"]) == {0}
        assert admin.traffic.by_endpoint == {}

    async def test_an_unknown_endpoint(self, admin: AdminServer) -> None:
        assert (await admin.client.get("series?endpoint=9")).status_code == 404

    async def test_minutes_come_from_the_store(self, admin: AdminServer) -> None:
        now = 1_800_000_000
        rows = [
            MinuteUsage(now - 60, 1, 2, 1, 10, 20, 2, 300.0),
            MinuteUsage(now - 60, 2, 1, 0, 1, 2, 1, 600.0),
            MinuteUsage(now, 1, 5, 0, 50, 60, 0, 0.0),
            MinuteUsage(now - 300, 1, 9, 9, 9, 9),
            MinuteUsage(now + 60, 1, 9, 9, 9, 9),
        ]
        await admin.usage_store.write(UsageBatch(minutes={(row.minute, row.endpoint_id): row for row in rows}))
        both = await admin.get("series", minutes=3)
        assert both["at"] == [now - 120, now - 60, now]
        assert (both["requests"], both["failures"]) == ([0, 3, 5], [0, 1, 0])
        assert (both["prompt_tokens"], both["completion_tokens"]) == ([0, 11, 50], [0, 22, 60])
        assert both["latency_ms"] == [None, 300.0, None]
        one = await admin.get("series", minutes=3, endpoint=2)
        assert (one["requests"], one["latency_ms"]) == ([0, 1, 0], [None, 600.0, None])

    @pytest.mark.parametrize("minutes", [1, 59, 1440, 1441, 10_000, 43_200])
    async def test_long_ranges_have_longer_steps(self, admin: AdminServer, minutes: int) -> None:
        series = await admin.get("series", minutes=minutes)
        step = series["step_seconds"]
        assert step % 60 == 0
        assert len(series["at"]) == len(series["latency_ms"]) <= 1440
        assert {later - earlier for earlier, later in zip(series["at"], series["at"][1:], strict=False)} <= {step}
        assert series["at"][0] % step == 0
        assert series["at"][-1] <= 1_800_000_000 < series["at"][-1] + step
        assert minutes * 60 <= len(series["at"]) * step < minutes * 60 + step


class TestConnectionTest:
    async def test_a_saved_endpoint(self, admin: AdminServer) -> None:
        await admin.patch("endpoints/1", {"api_key": KEY})
        answer = await admin.client.post("endpoints/1/test")
        found = answer.json()
        assert (found["ok"], found["verdict"], found["status"], found["models"]) == (True, "ok", 200, ["llama", "qwen"])
        assert "2 models" in found["reason"] and found["latency_ms"] >= 0
        assert str(admin.asked[0].url) == "http://a.test/v1/models"
        assert admin.asked[0].headers["authorization"] == f"Bearer {KEY}"

    async def test_an_unsaved_one(self, admin: AdminServer) -> None:
        body = {"base_url": "HTTP://new.test", "api_key": OTHER_KEY, "name": "new", "timeout": 30, "models": ["x"]}
        assert (await admin.client.post("test", json=body)).json()["ok"] is True
        assert str(admin.asked[0].url) == "http://new.test/v1/models"
        assert admin.asked[0].headers["authorization"] == f"Bearer {OTHER_KEY}"
        assert [each["name"] for each in await admin.get("endpoints")] == ["a", "b"]

    async def test_a_form_reuses_the_stored_key_unless_it_has_one(self, admin: AdminServer) -> None:
        await admin.patch("endpoints/1", {"api_key": KEY})
        for body in ({"id": 1}, {"id": 1, "base_url": "http://moved.test"}, {"id": 1, "api_key": None}):
            await admin.client.post("test", json=body)
        await admin.client.post("test", json={"id": 1, "api_key": OTHER_KEY})
        await admin.client.post("test", json={"id": 1, "api_key": ""})
        await admin.client.post("test", json={"base_url": "http://a.test"})
        keys = [each.headers.get("authorization") for each in admin.asked]
        assert keys == [f"Bearer {KEY}"] * 3 + [f"Bearer {OTHER_KEY}", None, None]
        assert [each.url.host for each in admin.asked[:3]] == ["a.test", "moved.test", "a.test"]

    async def test_an_unknown_id(self, admin: AdminServer) -> None:
        assert (await admin.client.post("test", json={"id": 9})).status_code == 404
        assert admin.asked == []

    @pytest.mark.parametrize(
        ("models_answer", "verdict"),
        [
            (httpx.Response(401, text=f"bad key {KEY}"), "credentials"),
            (httpx.Response(404), "no_models_route"),
            (httpx.Response(200, html="<p>hello</p>"), "not_openai"),
            (httpx.Response(302, headers={"location": "https://a.test"}), "redirect"),
            (httpx.Response(500), "error"),
        ],
    )
    async def test_trouble_is_an_answer_in_words(
        self, admin: AdminServer, models_answer: httpx.Response, verdict: str
    ) -> None:
        admin.models_answer = models_answer
        found = (await admin.client.post("endpoints/1/test")).json()
        assert (found["ok"], found["verdict"], found["status"]) == (False, verdict, models_answer.status_code)
        assert found["reason"] and found["models"] == []
        assert (await admin.get("endpoints/1"))["eligible"] is True


async def test_settings_are_shown_as_they_were_handed_in(tmp_path: Path) -> None:
    async with RunningBalancer(tmp_path, max_retries=5, client_tokens=("a-client-token",)) as balancer:
        shown = {each["name"]: each for each in await balancer.admin("GET", "/settings")}
        assert (shown["LB_MAX_RETRIES"]["value"], shown["LB_MAX_RETRIES"]["default"]) == ("5", "2")
        assert shown["LB_CLIENT_TOKENS"]["value"] == "***"
        assert (await balancer.client.get("/admin/api/settings")).status_code == 401
