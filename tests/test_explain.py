"""Explain: what it says is what then happens, and saying it changes nothing; over the pool and over the admin API."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from balancer.core.endpoints import Endpoint, Outcome, RouteRequest, Usage
from balancer.core.errors import NoEndpoint
from balancer.core.nodes import node_of
from balancer.core.pool import EndpointPool
from balancer.core.strategies import STRATEGIES
from balancer.wire.headers import visible
from tests.admin_parts import AdminServer, Json, admin_server
from tests.fakes import FakeServer
from tests.running import CHAT_PATH, chat_body
from tests.running_balancer import RunningBalancer
from tests.test_pool_walk import IDS, REQUESTS, PoolWalk


def everything(pool: EndpointPool) -> Any:
    """All that a pool knows, in order, down to the chance it will have; as text, since it holds no values."""

    def told(thing: Any, depth: int = 0) -> Any:
        if isinstance(thing, Random):
            return thing.getstate()
        if isinstance(thing, dict):
            return [(told(key, depth + 1), told(value, depth + 1)) for key, value in thing.items()]
        names = getattr(type(thing), "__slots__", None) or getattr(thing, "__dict__", None)
        if type(thing).__module__.startswith("balancer.core") and names and depth < 12:
            return [(name, told(getattr(thing, name), depth + 1)) for name in names]
        return repr(thing)

    return {name: told(value) for name, value in vars(pool).items() if not callable(value)}


class ExplainedWalk(PoolWalk):
    """The random walk over the pool, where every decision is explained before it is made."""

    @rule(request=REQUESTS, tried=st.sets(IDS, max_size=3), may_panic=st.booleans(), key=st.none() | st.integers(0, 5))
    def explain_and_acquire(self, request: RouteRequest, tried: set[int], may_panic: bool, key: int | None) -> None:
        request = request._replace(affinity=key)
        pool, now = self.pool, self.now
        before = everything(pool)
        explained = pool.explain(request, now, tried, may_panic=may_panic)
        again = pool.explain(request, now, tried, may_panic=may_panic)
        assert everything(pool) == before
        assert (explained.candidates, explained.endpoint) == (again.candidates, again.endpoint)
        try:
            lease = pool.acquire(request, now, tried, may_panic=may_panic)
        except NoEndpoint as refusal:
            assert explained.endpoint is None
            assert str(explained.refusal) == str(refusal) and type(explained.refusal) is type(refusal)
            return
        assert explained.refusal is None
        assert (explained.endpoint, explained.panic) == (lease.endpoint, lease.panic)
        chosen = next(each for each in explained.candidates if each.state.endpoint is lease.endpoint)
        compared = [each.score for each in explained.candidates if each.score is not None]
        assert chosen.eligible is not lease.panic
        assert key is not None or lease.panic or chosen.score == min(compared)
        self.hold(lease)

    @rule(request=REQUESTS, tried=st.sets(IDS, max_size=3))
    def explain(self, request: RouteRequest, tried: set[int]) -> None:
        """Between other steps, which then find everything as if nobody had asked."""
        self.pool.explain(request, self.now, tried)


TestExplainedWalk = ExplainedWalk.TestCase
TestExplainedWalk.settings = settings(max_examples=80, stateful_step_count=40)


def endpoint(eid: int, **fields: Any) -> Endpoint:
    return Endpoint(eid, f"e{eid}", f"http://host-{eid}", **{"connected": True, **fields})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_foretold_even_chance(strategy: str) -> None:
    pool = EndpointPool(strategy=strategy, rng=Random(1))
    pool.apply([endpoint(eid, token_quota_percent=20.0 * eid, priority_order=7 - eid) for eid in range(1, 5)])
    for k in range(50):
        request = RouteRequest("m", affinity=k if k % 2 else None)
        before = everything(pool)
        foretold = pool.explain(request, float(k)).endpoint
        assert everything(pool) == before
        lease = pool.acquire(request, float(k))
        assert lease.endpoint is foretold
        lease.release(Outcome.SUCCESS, float(k), Usage(10, 10 * k))


def test_why_an_eligible_one_is_not_compared() -> None:
    pool = EndpointPool()
    pool.apply([endpoint(1, token_quota_percent=60.0), endpoint(2), endpoint(3, token_quota_percent=40.0)])
    for _ in range(3):
        lease = pool.acquire(RouteRequest("m", pinned_to=3), 0.0)
        lease.release(Outcome.NEUTRAL, 0.0, declined=True)
    told = {each.state.endpoint.id: each for each in pool.explain(RouteRequest("m"), 1.0).candidates}
    assert all(each.eligible for each in told.values())
    assert (told[1].reason_text, told[1].score) == (None, 0.0)
    assert (told[2].score, told[2].share) == (None, 0.0) and "reserve" in (told[2].reason_text or "")
    assert told[3].score is None and "refused this model lately" in (told[3].reason_text or "")


def test_a_model_nobody_asked_for_before_is_not_remembered() -> None:
    pool = EndpointPool()
    pool.apply([endpoint(1, token_quota_percent=60.0), endpoint(2, token_quota_percent=40.0)])
    before = copy.deepcopy(everything(pool))
    for k in range(2000):
        assert pool.explain(RouteRequest(f"model-{k}"), 0.0).endpoint is not None
    assert everything(pool) == before


# -- over the admin API ------------------------------------------------------------------------------------------------


@pytest.fixture
async def admin(template: Path, tmp_path: Path) -> AsyncIterator[AdminServer]:
    async with admin_server(template, tmp_path) as server:
        await server.add("a", connected=True, models=["llama", "qwen"], token_quota_percent=60)
        await server.add("b", connected=True, models=["llama"], token_quota_percent=40, max_concurrent=1)
        await server.add("c", models=["other"])
        yield server


async def explain(admin: AdminServer, **body: Any) -> Json:
    answer = await admin.client.post("explain", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_who_would_serve_and_why(admin: AdminServer) -> None:
    told = await explain(admin, model="llama", size_bytes=400)
    assert {key: told[key] for key in told if key != "candidates"} == {
        "would": "serve",
        "status": 200,
        "endpoint": {"id": 1, "name": "a"},
        "panic": False,
        "model": {"asked": "llama", "resolved": "llama"},
        "operation": "chat",
        "strategy": "percentage",
        "affinity": "off",
        "refusal": None,
        "retry": None,
    }
    assert told["candidates"][0] == {
        "id": 1,
        "name": "a",
        "eligible": True,
        "reason": None,
        "reason_text": None,
        "wait_seconds": None,
        "score": 0.0,
        "share": 60.0,
        "virtual_time": 0.0,
        "affinity_preferred": False,
    }
    assert [(each["name"], each["reason"]) for each in told["candidates"][1:]] == [("b", None), ("c", "not connected")]


async def test_it_follows_what_happens_and_makes_nothing_happen(admin: AdminServer) -> None:
    before = everything(admin.pool)
    assert (await explain(admin, model="llama"))["endpoint"]["name"] == "a"
    assert everything(admin.pool) == before
    admin.pool.acquire(RouteRequest("llama", 400), admin.clock.now).release(
        Outcome.SUCCESS, admin.clock.now, Usage(100, 1000)
    )
    told = await explain(admin, model="llama")
    assert told["endpoint"]["name"] == "b"
    assert [each["virtual_time"] for each in told["candidates"]] == [pytest.approx(1100 / 60), 0.0, None]
    assert (await explain(admin, model="llama", tried=[2]))["endpoint"]["name"] == "a"


async def test_auto_stands_for_a_model(admin: AdminServer) -> None:
    told = await explain(admin, model="auto")
    assert told["model"] == {"asked": "auto", "resolved": "llama"}
    assert (await explain(admin))["model"] == {"asked": None, "resolved": "llama"}
    assert (await explain(admin, model="default", pin="b"))["model"]["resolved"] == "llama"


@pytest.mark.parametrize(
    "pin",
    [{"pin": 2}, {"pin": "2"}, {"pin": "b"}, {"pin": "%62"}, {"node": "b.test:80"}, {"node": "B.test", "pin": "b"}],
)
async def test_a_pin_is_served_there(admin: AdminServer, pin: Json) -> None:
    told = await explain(admin, model="llama", **pin)
    assert told["endpoint"] == {"id": 2, "name": "b"}
    assert [each["reason"] for each in told["candidates"]][::2] == ["another endpoint was asked for"] * 2


async def test_a_name_as_our_answers_spell_it(admin: AdminServer) -> None:
    name = "Büro 50% #2" + "ü" * 100
    await admin.add(name, base_url="http://d.test/v1", connected=True)
    told = await explain(admin, model="llama", pin=visible(name).decode())
    assert told["endpoint"] == {"id": 4, "name": name}


async def test_of_those_that_share_a_node_whoever_may(admin: AdminServer) -> None:
    await admin.add("a2", base_url="http://a.test/v1", connected=True)
    admin.serve(1)
    assert (await explain(admin, model="llama", node="a.test"))["endpoint"]["name"] == "a2"
    admin.pool.states[4].healthy = False
    assert (await explain(admin, model="llama", node="a.test"))["endpoint"]["name"] == "a"
    admin.pool.states[1].healthy = False
    told = await explain(admin, model="llama", node="a.test")
    assert told["status"] == 404
    assert "a: unhealthy" in told["refusal"]["message"] and "a2: unhealthy" in told["refusal"]["message"]


@pytest.mark.parametrize(
    ("pin", "words"),
    [
        ({"pin": "c"}, "c: not connected"),
        ({"pin": "nobody"}, "not known"),
        ({"pin": 99}, "not known"),
        ({"node": "c.test"}, "c: not connected"),
        ({"node": "b.test:81"}, "not known"),
        ({"node": "b.test", "pin": "a"}, "not known"),
    ],
)
async def test_or_nowhere(admin: AdminServer, pin: Json, words: str) -> None:
    told = await explain(admin, model="llama", **pin)
    assert (told["would"], told["status"], told["endpoint"]) == ("refuse", 404, None)
    assert told["refusal"]["code"] == "endpoint_not_eligible" and words in told["refusal"]["message"]
    assert not any(each["eligible"] for each in told["candidates"])


async def test_what_stands_against_a_pin_is_told_also_where_the_model_is_open(admin: AdminServer) -> None:
    admin.pool.states[2].healthy = False
    told = await explain(admin, model="auto", pin="b")
    assert (told["status"], told["candidates"][1]["reason"]) == (404, "unhealthy")


async def test_refusals_are_what_the_client_would_get(admin: AdminServer) -> None:
    told = await explain(admin, model="lama")
    assert (told["status"], told["refusal"]["code"], told["refusal"]["retry_after"]) == (404, "model_not_found", None)
    assert "'llama'" in told["refusal"]["message"]
    admin.pool.states[1].limit = 1
    leases = [admin.pool.acquire(RouteRequest("llama", pinned_to=eid), admin.clock.now) for eid in (1, 2)]
    told = await explain(admin, model="llama")
    assert (told["would"], told["status"], told["refusal"]["retry_after"]) == ("refuse", 429, 1)
    assert told["candidates"][1]["reason_text"] == "full: 1 in flight"
    for lease in leases:
        lease.release(Outcome.NEUTRAL, admin.clock.now)


async def test_what_is_refused_before_it_is_routed(admin: AdminServer) -> None:
    told = await explain(admin, model="llama", size_bytes=10_001)
    assert (told["would"], told["status"], told["refusal"]["code"]) == ("refuse", 413, "body_too_large")
    assert (await explain(admin, model="llama", size_bytes=10_000))["would"] == "serve"
    admin.draining = True
    told = await explain(admin, model="llama", pin="nobody")
    assert (told["would"], told["status"], told["refusal"]["code"]) == ("refuse", 503, "shutting_down")
    assert told["endpoint"] is None and told["candidates"][0]["eligible"]
    assert (await explain(admin, model="llama", tried=[1]))["would"] == "serve", "what is under way goes on"


async def test_a_conversation_goes_on_where_it_is_kept(admin: AdminServer) -> None:
    admin.stored_responses.note(b'{"id": "resp-1"}', 2)
    goes_on = {"model": "llama", "operation": "responses", "previous_response_id": "resp-1"}
    assert (await explain(admin, **goes_on))["endpoint"]["name"] == "b"
    told = await explain(admin, **goes_on, node="a.test")
    assert told["status"] == 404 and "kept at another endpoint" in told["refusal"]["message"]
    told = await explain(admin, **{**goes_on, "previous_response_id": "resp-2"})
    assert (told["would"], told["status"]) == ("refuse", 400)
    assert told["refusal"]["code"] == "previous_response_not_found"
    # Elsewhere the field means nothing.
    assert (await explain(admin, model="llama", previous_response_id="resp-2"))["would"] == "serve"


# -- after failures ----------------------------------------------------------------------------------------------------


async def test_what_has_failed_is_sent_elsewhere_as_long_as_it_may(admin: AdminServer) -> None:
    told = await explain(admin, model="llama", tried=[1])
    assert (told["would"], told["endpoint"]["name"]) == ("serve", "b")
    assert told["retry"] == {"allowed": True, "reason": None}
    for body, reason in (
        ({"tried": [1, 2]}, "no other endpoint may take it"),
        ({"tried": [1], "pin": "a"}, "it is bound to one endpoint"),
        ({"tried": [11, 12, 13]}, "at most 3 endpoints are tried"),
    ):
        told = await explain(admin, model="llama", **body)
        assert (told["would"], told["status"], told["endpoint"], told["refusal"]) == ("give_up", None, None, None)
        assert told["retry"] == {"allowed": False, "reason": reason}


async def test_a_pin_that_fell_ill_since_is_not_what_stops_it(admin: AdminServer) -> None:
    admin.pool.states[1].healthy = False
    assert (await explain(admin, model="llama", pin="a", tried=[1]))["would"] == "give_up"
    assert (await explain(admin, model="llama", pin="nobody", tried=[1]))["would"] == "refuse"


async def test_the_retry_budget_stops_a_first_retry_but_no_second(admin: AdminServer) -> None:
    budget = admin.dispatcher.budget
    while budget.try_retry():
        pass
    refused = budget.refused_total
    told = await explain(admin, model="llama", tried=[1])
    assert told["would"] == "give_up"
    assert told["retry"]["reason"] == "the retry budget is spent: 3 retries are under way, of 3 at most"
    assert (await explain(admin, model="llama", tried=[1, 3]))["endpoint"]["name"] == "b"
    assert budget.refused_total == refused


async def test_need_is_called_by_its_name(admin: AdminServer) -> None:
    for state in admin.pool.states.values():
        state.healthy = False
    told = await explain(admin, model="qwen")
    assert (told["would"], told["endpoint"]["name"], told["panic"]) == ("serve", "a", True)
    assert told["candidates"][0]["reason"] == "unhealthy"
    # Who asks for an endpoint by name gets no such favour.
    assert (await explain(admin, model="qwen", pin="a"))["status"] == 404


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "nonsense"},
        {"size_bytes": -1},
        {"tried": ["a"]},
        {"pin": 0},
        {"pin": ""},
        {"node": ""},
        {"previous_response_id": 1},
        {"model": "x" * 257},
        {"session": 1},
        {"messages": []},
    ],
)
async def test_what_cannot_be_explained(admin: AdminServer, body: Json) -> None:
    answer = await admin.client.post("explain", json=body)
    assert answer.status_code == 422
    assert (await admin.anybody.post("explain", json={})).status_code == 401


# -- over real sockets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("explained", "query", "header"),
    [
        ({}, "", ""),
        ({"model": "auto"}, "", ""),
        ({"model": "fake-modell"}, "", ""),
        ({"model": "fake-model", "pin": "Büro 2"}, "", "B%C3%BCro 2"),
        ({"model": "auto", "pin": 2}, "", "2"),
        ({"model": "fake-model", "pin": "down"}, "", "down"),
        ({"model": "fake-model", "node": "{second}"}, "?node={second}", ""),
        ({"model": "fake-model", "node": "{second}", "pin": "1"}, "?node={second}", "1"),
        ({"model": "fake-model", "node": "nowhere:1"}, "?node=nowhere:1", ""),
        ({"model": "fake-model", "size_bytes": 20_000}, "", ""),
    ],
)
async def test_what_is_explained_is_what_a_client_gets(
    explained: Json, query: str, header: str, tmp_path: Path
) -> None:
    async with FakeServer() as one, FakeServer() as two, RunningBalancer(tmp_path, max_body_bytes=10_000) as balancer:
        for name, fake in (("one", one), ("Büro 2", two), ("down", one)):
            await balancer.add(name, fake, models=["fake-model"])
        balancer.balancer.pool.states[3].healthy = False
        second = node_of(two.base_url)
        asked = {key: second if value == "{second}" else value for key, value in explained.items()}
        told = await balancer.admin("POST", "/explain", asked)
        body = chat_body(model=asked.get("model"), padding="x" * asked.get("size_bytes", 0))
        path = CHAT_PATH + query.format(second=second)
        answer = await balancer.client.post(path, content=body, headers={"x-lb-endpoint": header} if header else {})
        assert told["status"] == answer.status_code
        if told["refusal"] is None:
            assert visible(told["endpoint"]["name"]).decode() == answer.headers["x-lb-endpoint"]
            assert told["model"]["resolved"] == answer.headers["x-selected-model"]
        else:
            error = answer.json()["error"]
            assert (told["refusal"]["code"], told["refusal"]["message"]) == (error["code"], error["message"])
