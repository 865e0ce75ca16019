"""Several workers as one: real processes behind one port, each asked on purpose."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.workers_parts import ADMIN, Crew, Visitor, bearer, crew_of, crowd, eventually, visitors

pytestmark = pytest.mark.timeout(180)

# How long something that is promised within a second may take on a machine that does much else.
SLACK = 10.0


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """Two workers for all tests that leave them alive."""
    settings = {
        "LB_FAIL_THRESHOLD": "2",
        "LB_QUEUE_SIZE": "100",
        "LB_MAX_RETRIES": "0",
        "LB_CLIENT_TOKENS": "known",
        "LB_TRUSTED_PROXIES": "127.0.0.1",
    }
    with crew_of(tmp_path_factory.mktemp("crew"), **settings) as running:
        yield running
        assert running.end() == 0, running.logged
        assert "Traceback" not in running.logged


@pytest.fixture
async def both(crew: Crew) -> AsyncIterator[list[Visitor]]:
    """A visitor of each worker; endpoints and counts are gone again."""
    async with visitors(crew) as found:
        for endpoint in (await found[0].state())["endpoints"]:
            await found[0].admin("DELETE", f"/endpoints/{endpoint['id']}")
        await found[0].admin("POST", "/reset-stats")
        yield found


async def chat(visitor: Visitor, **fields: Any) -> int:
    return (await visitor.chat(token="known", **fields)).status_code


async def known_to(both: list[Visitor], **fields: Any) -> None:
    """Returns when both workers serve such chats."""

    async def known() -> bool:
        return [await chat(each, **fields) for each in both] == [200, 200]

    await eventually(known, "both know the endpoints")


async def test_both_serve_and_the_state_tells_all_that_was_served(both: list[Visitor]) -> None:
    async with FakeServer(Behaviour(prompt_tokens=7, completion_tokens=5)) as fake:
        await both[0].add("one", fake)
        await known_to(both)
        assert [await chat(each, stream=number % 2 == 0) for number in range(20) for each in both] == [200] * 40
        served = fake.stats.total_requests

        async def counted() -> bool:
            one = await both[1].endpoint("one")
            return bool(one["total_requests"] == served)

        await eventually(counted, "all counted")
        state = await both[0].state()
        one = state["endpoints"][0]
        totals = [one[f"{each}_total"] for each in ("prompt_tokens", "completion_tokens")]
        assert totals == [fake.stats.prompt_tokens, fake.stats.completion_tokens]
        assert one["total_success"] == served and state["stats"]["total_inflight"] == 0
        token = state["environment_tokens"][0]
        assert token["completion_tokens_total"] == fake.stats.completion_tokens
        log = await both[1].admin("GET", f"/requests?limit={served}")
        marks = Counter(each["request_id"].rpartition("-")[0] for each in log["requests"])
        assert marks.total() == served and all(marks[each.mark] >= 20 for each in both)
        metrics = (await both[0].client.get("/metrics")).text
        assert "lb_workers 2" in metrics and 'lb_attempts_total{endpoint="one",outcome="success"}' in metrics


async def test_a_cap_holds_over_both(crew: Crew, both: list[Visitor]) -> None:
    async with FakeServer(Behaviour(ttft_seconds=0.005)) as fake, crowd(crew, 12) as guests:
        identifier = await both[0].add("one", fake)
        assert {guest.mark for guest in guests} == {each.mark for each in both}
        for cap in range(1, 5):
            model = f"with-cap-{cap}"  # whoever serves this one knows the cap
            changes = {"max_concurrent": cap, "models": ["fake-model"], "model_aliases": {model: "fake-model"}}
            await both[0].admin("PATCH", f"/endpoints/{identifier}", changes)
            await known_to(both, model=model)
            fake.stats.reset()
            answers = await asyncio.gather(*(chat(guest, model=model) for guest in guests for _ in range(3)))
            assert set(answers) == {200}, "all wait in a queue for their turn"
            assert cap <= fake.stats.max_inflight <= cap + 1
            assert fake.stats.total_requests == 36


async def test_shares_hold_over_both(crew: Crew, both: list[Visitor]) -> None:
    async with FakeServer() as first, FakeServer() as second, crowd(crew, 8) as guests:
        await both[0].admin("PATCH", "/routing", {"routing_mode": "percentage"})
        await both[0].add("a", first, token_quota_percent=60)
        await both[0].add("b", second, token_quota_percent=40)
        await known_to(both)
        for fake in (first, second):
            fake.stats.reset()
        await asyncio.gather(*(chat(guest) for guest in guests for _ in range(25)))
        served = [fake.stats.prompt_tokens + fake.stats.completion_tokens for fake in (first, second)]
        # Each worker is at most one request off for each endpoint.
        assert 0.57 < served[0] / sum(served) < 0.63


async def test_a_cooldown_opened_in_one_holds_in_both_and_ends_in_both(both: list[Visitor]) -> None:
    one, other = both
    failing = Behaviour(fault="status", fault_status=500)
    async with FakeServer(failing) as broken, FakeServer() as good:
        await one.admin("PATCH", "/routing", {"routing_mode": "priority"})
        await one.add("broken", broken, priority_order=1)
        await one.add("good", good, priority_order=2)
        while broken.stats.total_requests < 2:
            await chat(one)

        async def avoided() -> bool:
            before = broken.stats.total_requests
            return await chat(other) == 200 and broken.stats.total_requests == before

        await eventually(avoided, "the other worker avoids it", SLACK)
        assert broken.stats.total_requests <= 3, "the other did not have to find out by itself"
        assert (await one.endpoint("broken"))["reason"] == "cooling down"
        await other.admin("POST", "/reset-stats")
        broken.behaviour = Behaviour()
        served = broken.stats.total_requests
        for each in both:
            assert await chat(each) == 200
        await eventually(lambda: broken.stats.total_requests > served, "forgiven")


async def test_a_change_reaches_both_within_a_second(both: list[Visitor]) -> None:
    async with FakeServer() as fake:
        identifier = await both[0].add("one", fake, connected=False)
        for connected, status in ((True, 200), (False, 503)):
            await both[0].admin("PATCH", f"/endpoints/{identifier}", {"connected": connected})
            began = time.monotonic()
            for each in both:
                while await chat(each) != status:
                    assert time.monotonic() - began < 1.0 * SLACK


async def test_a_revoked_client_is_refused_by_both(both: list[Visitor]) -> None:
    async with FakeServer() as fake:
        await both[0].add("one", fake)
        made = await both[0].admin("POST", "/tokens", {"name": "app"})
        for wanted in (200, 401):
            for each in both:

                async def answered(visitor: Visitor = each, status: int = wanted) -> bool:
                    return (await visitor.chat(token=made["token"])).status_code == status

                await eventually(answered, f"{wanted} at {each.mark}", SLACK)
            if wanted == 200:
                before = await both[0].state()
                assert before["client_tokens"][0]["name"] == "app"
                await both[1].admin("DELETE", f"/tokens/{made['id']}")


async def test_the_rest_of_the_interface_is_served_by_both(both: list[Visitor]) -> None:
    async with FakeServer() as fake:
        await both[0].add("one", fake, models=["fake-model"])
        for each in both:
            models = await each.client.get("/v1/models", headers=bearer("known"))
            assert [model["id"] for model in models.json()["data"]] == ["fake-model"]
            assert (await each.client.get("/healthz")).status_code == 200
            assert (await each.client.get("/ready")).json()["ready"] is True
            assert (await each.client.get("/v1/nodes?x=%2F", headers=bearer("known"))).status_code == 200
            missing = await each.client.get("/v1/nothing%2Fhere")
            assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_url")
            assert (await each.client.get("/admin/api/state")).status_code == 401


async def test_who_asked_is_known_whichever_worker_was_asked(crew: Crew, both: list[Visitor]) -> None:
    forged = {"x-llm-balancer-origin": '[["192.0.2.1",1],["127.0.0.1",2],"https"]'}
    for number, each in enumerate(both):
        sent = {**ADMIN, **forged, "x-forwarded-for": f"203.0.113.{number}"}
        assert (await each.client.post("/admin/api/reset-stats", headers=sent)).status_code == 200
        await eventually(lambda seen=f"from 203.0.113.{number}: POST /reset-stats": seen in crew.logged, "audited")
    assert "192.0.2.1" not in crew.logged


async def test_events_come_through_both_and_end_when_the_reader_leaves(both: list[Visitor]) -> None:
    for each in both:
        async with each.client.stream("GET", "/admin/api/events", headers=ADMIN) as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            lines = events.aiter_lines()
            states = 0
            async for line in lines:
                states += line == "event: state"
                if states == 2:
                    break


async def test_a_conversation_goes_on_at_the_other_worker(both: list[Visitor]) -> None:
    async with FakeServer() as first, FakeServer() as second:
        for name, fake in (("a", first), ("b", second)):
            await both[0].add(name, fake)

        async def ask(visitor: Visitor, **fields: Any) -> httpx.Response:
            body = {"model": "fake-model", "input": "hello", **fields}
            return await visitor.client.post("/v1/responses", json=body, headers=bearer("known"))

        async def begun() -> httpx.Response | None:
            answer = await ask(both[0])
            return answer if answer.status_code == 200 else None

        answer = await eventually(begun, "a conversation")
        kept_by = answer.headers["x-lb-endpoint"]

        async def goes_on() -> bool:
            more = await ask(both[1], previous_response_id=answer.json()["id"])
            return more.status_code == 200 and more.headers["x-lb-endpoint"] == kept_by

        await eventually(goes_on, "the other worker knows it", SLACK)


async def test_what_is_cut_off_is_cut_off_in_both(crew: Crew, both: list[Visitor]) -> None:
    async with FakeServer(Behaviour(fault="stall_headers")) as fake:
        identifier = await both[0].add("one", fake)
        hanging = [asyncio.create_task(chat(each)) for each in both]
        await fake.wait_for(lambda stats: stats.inflight == 2)
        async with visitors(crew, 1) as (admin,):
            assert (await admin.admin("POST", f"/endpoints/{identifier}/abort"))["aborted"] == 2
        assert await asyncio.wait_for(asyncio.gather(*hanging), SLACK) == [502, 502]
