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
from balancer.core.pool import EndpointPool
from balancer.core.strategies import STRATEGIES
from tests.admin_parts import AdminServer, Json, admin_server
from tests.store_parts import make_database
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
TestExplainedWalk.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


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


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("template") / "lb.db")


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
    assert (await explain(admin, model="llama", tried=[1, 2]))["would"] == "refuse"


async def test_auto_stands_for_a_model(admin: AdminServer) -> None:
    told = await explain(admin, model="auto")
    assert told["model"] == {"asked": "auto", "resolved": "llama"}
    assert (await explain(admin))["model"] == {"asked": None, "resolved": "llama"}
    assert (await explain(admin, model="default", pin="b"))["model"]["resolved"] == "llama"


@pytest.mark.parametrize("pin", [2, "2", "b"])
async def test_a_pin_is_served_there(admin: AdminServer, pin: int | str) -> None:
    told = await explain(admin, model="llama", pin=pin)
    assert told["endpoint"] == {"id": 2, "name": "b"}
    assert [each["reason"] for each in told["candidates"]][::2] == ["another endpoint was asked for"] * 2


@pytest.mark.parametrize(("pin", "words"), [("c", "c: not connected"), ("nobody", "not known"), (99, "not known")])
async def test_or_nowhere(admin: AdminServer, pin: int | str, words: str) -> None:
    told = await explain(admin, model="llama", pin=pin)
    assert (told["would"], told["status"], told["endpoint"]) == ("refuse", 404, None)
    assert told["refusal"]["code"] == "endpoint_not_eligible" and words in told["refusal"]["message"]
    assert not any(each["eligible"] for each in told["candidates"])


async def test_refusals_are_what_the_client_would_get(admin: AdminServer) -> None:
    told = await explain(admin, model="lama")
    assert (told["status"], told["refusal"]["code"], told["refusal"]["retry_after"]) == (404, "model_not_found", None)
    assert "'llama'" in told["refusal"]["message"]
    lease = admin.pool.acquire(RouteRequest("llama", pinned_to=2), admin.clock.now)
    told = await explain(admin, model="llama", tried=[1])
    assert (told["would"], told["status"], told["refusal"]["retry_after"]) == ("refuse", 429, 1)
    assert told["candidates"][1]["reason_text"] == "full: 1 in flight"
    lease.release(Outcome.NEUTRAL, admin.clock.now)


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
        {"model": "x" * 257},
        {"session": 1},
        {"messages": []},
    ],
)
async def test_what_cannot_be_explained(admin: AdminServer, body: Json) -> None:
    answer = await admin.client.post("explain", json=body)
    assert answer.status_code == 422
    assert (await admin.anybody.post("explain", json={})).status_code == 401
