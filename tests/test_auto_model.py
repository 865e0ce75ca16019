"""Requests that leave the model open, and names that nobody serves: the rules alone, then over real sockets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.endpoints import Endpoint, Outcome, RouteRequest
from balancer.core.errors import ModelNotFound
from balancer.core.model_names import AutoModel, nearest
from balancer.core.pool import EndpointPool
from load_tester.fake_behaviour import Behaviour
from tests.fakes import BODIES, FakeServer, events_of
from tests.running import CHAT_PATH, RunningGateway, eventually, wired
from tests.running_balancer import RunningBalancer

REAL = Behaviour(models=("real",))

# -- the rules ---------------------------------------------------------------------------------------------------------


def endpoint(number: int, *models: str, **fields: Any) -> Endpoint:
    made = Endpoint(number, f"endpoint-{number}", f"http://node-{number}:80/v1", connected=True, models=models)
    return replace(made, **fields)


def pool_of(*endpoints: Endpoint, **discovered: set[str]) -> EndpointPool:
    """`discovered` by "e" and the endpoint's id."""
    pool = EndpointPool(fail_threshold=1)
    pool.apply(endpoints)
    for name, models in discovered.items():
        pool.states[int(name.removeprefix("e"))].discovered_models = frozenset(models)
    pool.candidates_changed()
    return pool


def choose(pool: EndpointPool, auto: AutoModel | None = None, asked: str | None = "auto", **options: Any) -> str | None:
    return (auto or AutoModel()).choose(pool, asked, 0.0, **options)


def take_out(pool: EndpointPool, number: int) -> None:
    """One failure is enough to send it into its cooldown."""
    pool.acquire(RouteRequest(None, pinned_to=number), 0.0).release(Outcome.FAILED, 0.0)


@pytest.mark.parametrize("name", [None, "auto", "default", "AUTO", "Default", " auto ", "my-own"])
def test_what_leaves_the_model_open(name: str | None) -> None:
    assert AutoModel(("auto", "default", "My-Own")).is_asked(name)


@pytest.mark.parametrize("name", ["", "autos", "gpt-4", "au to", "автo"])
def test_what_does_not(name: str) -> None:
    assert not AutoModel().is_asked(name)


def test_the_first_of_the_first_endpoint_lists_as_they_stand_discovered_ones_by_name() -> None:
    assert choose(pool_of(endpoint(1, "z", "a"), endpoint(2, "b"))) == "z"
    assert choose(pool_of(endpoint(1), endpoint(2, "b"), e1={"z", "a"})) == "a"
    assert choose(pool_of(endpoint(1, model_aliases={"a": "x"}), endpoint(2, "b"))) == "a"
    assert choose(pool_of(endpoint(1, "own", model_aliases={"a": "own"}))) == "own"


def test_preferred_ones_come_first_in_their_order() -> None:
    pool = pool_of(endpoint(1, "a", "b"), endpoint(2, "c"))
    assert choose(pool, AutoModel(preferred=("x", "c", "b"))) == "c"
    assert choose(pool, AutoModel(preferred=("b", "c"))) == "b"
    assert choose(pool, AutoModel(preferred=("x",))) == "a"
    assert choose(pool, AutoModel(preferred=("auto", "b"))) == "b"


def test_a_preferred_model_may_be_listed_under_another_spelling() -> None:
    pool = pool_of(endpoint(1), e1={"big:latest", "small:latest"})
    assert choose(pool, AutoModel(preferred=("small",))) == "small"


def test_only_what_somebody_could_take_now_counts() -> None:
    pool = pool_of(endpoint(1, "a"), endpoint(2, "b"), endpoint(3, "c"))
    auto = AutoModel(preferred=("a", "c"))
    take_out(pool, 1)
    assert choose(pool, auto) == "c"
    take_out(pool, 3)
    assert choose(pool, auto) == "b"
    take_out(pool, 2)
    assert choose(pool, auto) == "a", "when nothing is available the same order holds among all"


def test_a_full_endpoint_is_not_available_either() -> None:
    pool = pool_of(endpoint(1, "a", max_concurrent=1), endpoint(2, "b"))
    lease = pool.acquire(RouteRequest("a"), 0.0)
    assert choose(pool) == "b"
    lease.release(Outcome.SUCCESS, 0.0)
    assert choose(pool) == "a"


def test_endpoints_that_are_not_in_service_do_not_count() -> None:
    pool = pool_of(endpoint(1, "a", connected=False), endpoint(2, "b", enabled=False), endpoint(3, "c"))
    auto = AutoModel()
    assert choose(pool, auto) == "c"
    pool.apply([endpoint(1, "a"), endpoint(3, "c")])
    assert choose(pool, auto) == "a", "a change of the configuration is seen"
    pool.apply([endpoint(1), endpoint(3, "c")])
    assert choose(pool, auto) == "c"
    pool.states[1].discovered_models = frozenset({"found"})
    pool.candidates_changed()
    assert choose(pool, auto) == "found", "and so is what was discovered"


def test_intersection_first() -> None:
    pool = pool_of(endpoint(1, "only-1", "both", "also"), endpoint(2, "also", "both"), endpoint(3))
    auto = AutoModel(intersection_first=True)
    assert choose(pool) == "only-1"
    assert choose(pool, auto) == "both", "of those that all with a known list serve"
    preferring = AutoModel(preferred=("only-1", "also"), intersection_first=True)
    assert choose(pool, preferring) == "also", "what all serve comes before what is preferred"
    assert choose(pool_of(endpoint(1, "a"), endpoint(2, "b")), auto) == "a", "nothing in common: as without"


def test_intersection_first_takes_what_is_available_before_what_all_serve() -> None:
    pool = pool_of(endpoint(1, "a", "both", max_concurrent=1), endpoint(2, "both", max_concurrent=1), endpoint(3, "c"))
    for number in (1, 2):
        pool.acquire(RouteRequest(None, pinned_to=number), 0.0)
    assert choose(pool, AutoModel(intersection_first=True)) == "c"


def test_where_no_list_is_known() -> None:
    pool = pool_of(endpoint(1))
    assert choose(pool, asked=None) is None, "an endpoint may know what to do"
    with pytest.raises(ModelNotFound):
        choose(pool, asked="auto")
    preferring = AutoModel(preferred=("auto", "p", "q"))
    assert [choose(pool, preferring, asked) for asked in ("auto", None)] == ["p", "p"]


def test_where_all_lists_are_known_to_be_empty() -> None:
    pool = pool_of(endpoint(1), e1=set())
    for asked in ("auto", None):
        with pytest.raises(ModelNotFound):
            choose(pool, AutoModel(preferred=("p",)), asked)


def test_where_nothing_is_connected_the_refusal_is_left_to_the_pool() -> None:
    assert choose(pool_of(endpoint(1, "a", connected=False)), asked="auto") == "auto"
    assert choose(pool_of(), asked=None) is None


def test_of_those_that_one_endpoint_serves() -> None:
    pool = pool_of(endpoint(1, "a"), endpoint(2, "b", "c"), endpoint(3))
    assert choose(pool, pinned_to=2) == "b"
    assert choose(pool, AutoModel(preferred=("a", "c")), pinned_to=2) == "c"
    assert choose(pool, asked=None, pinned_to=3) is None
    take_out(pool, 2)
    assert choose(pool, pinned_to=2) == "b"


def test_a_sentinel_that_an_operator_gave_a_meaning_keeps_it() -> None:
    assert choose(pool_of(endpoint(1, "a", model_aliases={"default": "a"})), asked="default") == "default"
    assert choose(pool_of(endpoint(1, "a", "auto")), asked="auto") == "auto"
    assert choose(pool_of(endpoint(1), e1={"auto", "zeta"}), asked="auto") == "zeta", "what merely lists it does not"
    pool = pool_of(endpoint(1, "a", model_aliases={"default": "a"}), endpoint(2, "b"))
    assert choose(pool, asked="default", pinned_to=2) == "b", "it means that there and nowhere else"
    assert choose(pool, asked="default", pinned_to=1) == "default"
    assert choose(pool, asked="auto") == "a"


MODELS = st.lists(st.sampled_from("abcdef"), max_size=4, unique=True)


@given(
    lists=st.lists(st.tuples(MODELS, st.booleans()), min_size=1, max_size=5),
    preferred=MODELS,
    intersection_first=st.booleans(),
)
def test_the_choice_is_always_the_best_that_can_be_had(
    lists: list[tuple[list[str], bool]], preferred: list[str], intersection_first: bool
) -> None:
    pool = pool_of(*(endpoint(number, *models) for number, (models, _) in enumerate(lists, 1)))
    for number, (_, works) in enumerate(lists, 1):
        if not works:
            take_out(pool, number)
    known = [models for models, _ in lists if models]
    chosen = choose(pool, AutoModel(preferred=preferred, intersection_first=intersection_first), None)
    if not known:
        assert chosen == (preferred[0] if preferred else None)
        return
    available = {name for models, works in lists if works for name in models}
    in_order = [name for models in known for name in models]
    pick_from = [name for name in in_order if name in available] or in_order
    if intersection_first:
        pick_from = [name for name in pick_from if all(name in models for models in known)] or pick_from
    assert chosen == next((name for name in preferred if name in pick_from), pick_from[0])


def test_nearest_names() -> None:
    known = frozenset({"gpt-4o", "gpt-4o-mini", "gpt-4.1", "meta-llama/Llama-3-8B-Instruct", "qwen2"})
    assert nearest("gpt4o", known) == ("gpt-4o", "gpt-4.1", "gpt-4o-mini")
    assert nearest("LLAMA-3-8b-instruct", known) == ("meta-llama/Llama-3-8B-Instruct",)
    assert nearest("QWEN", known) == ("qwen2",)
    assert nearest("entirely different", known) == ()
    assert nearest("", known) == nearest("gpt", frozenset()) == ()


@given(st.text(max_size=300), st.frozensets(st.text(min_size=1, max_size=300), max_size=60))
def test_nearest_names_of_anything_are_at_most_three_known_ones(name: str, known: frozenset[str]) -> None:
    near = nearest(name, known)
    assert len(near) <= 3
    assert set(near) <= known


# -- over real sockets -------------------------------------------------------------------------------------------------


def error_of(response: httpx.Response) -> dict[str, Any]:
    return dict(response.json()["error"])


def sent_to(fake: FakeServer) -> Any:
    return json.loads(fake.stats.last_body)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["auto", " Default ", "", None])
async def test_the_chosen_model_goes_upstream_and_stands_in_the_answer(model: str | None, stream: bool) -> None:
    async with (
        FakeServer(Behaviour(models=("real",))) as fake,
        RunningGateway(wired(fake, models=("real",))) as gateway,
    ):
        response = await gateway.chat(model=model, stream=stream)
        assert response.status_code == 200
        assert response.headers["x-selected-model"] == "real"
        answered = events_of(response.text)[:-1] if stream else [response.json()]
        assert {each["model"] for each in answered} == {"real"}
        assert sent_to(fake)["model"] == "real"
        record = gateway.last
        assert (record.model, record.upstream_model) == (model or None, "real")


async def test_nothing_else_of_the_body_changes() -> None:
    async with FakeServer(Behaviour(models=())) as fake, RunningGateway(wired(fake, models=("r",))) as gateway:
        for given_body, sent_body in (
            (b'{ "x":1.0, "model" : "auto", "messages":[] }', b'{ "x":1.0, "model" : "r", "messages":[] }'),
            (b'{"messages":[] }', b'{"model":"r","messages":[] }'),
            (b'{"model":null,"messages":[]}', b'{"model":"r","messages":[]}'),
        ):
            await gateway.client.post(CHAT_PATH, content=given_body)
            assert fake.stats.last_body == sent_body


@pytest.mark.parametrize("path", list(BODIES))
async def test_every_operation_alike(path: str) -> None:
    async with (
        FakeServer(Behaviour(models=("real",))) as fake,
        RunningGateway(wired(fake, models=("real",))) as gateway,
    ):
        for extra in ({}, {"model": "auto"}):
            body = {name: value for name, value in BODIES[path].items() if name != "model"} | extra
            response = await gateway.client.post(f"/v1/{path}", json=body)
            assert (response.status_code, response.headers["x-selected-model"]) == (200, "real")
            assert sent_to(fake)["model"] == "real"


async def test_an_endpoint_that_calls_the_chosen_model_otherwise() -> None:
    async with FakeServer(Behaviour(models=("real",))) as fake:
        aliased = wired(fake, model_aliases={"nice-name": "real"})
        async with RunningGateway(aliased) as gateway:
            response = await gateway.chat(model="auto")
            assert response.headers["x-selected-model"] == response.json()["model"] == sent_to(fake)["model"] == "real"


async def test_failover_stays_with_the_chosen_model() -> None:
    async with (
        FakeServer(Behaviour(name="bad", fault="status")) as bad,
        FakeServer(Behaviour(name="other", models=("other",))) as other,
        FakeServer(Behaviour(name="good", models=("shared",))) as good,
    ):
        first, second, third = wired(bad, other, good)
        endpoints = [replace(e, models=(m,)) for e, m in ((first, "shared"), (second, "other"), (third, "shared"))]
        async with RunningGateway(endpoints) as gateway:
            response = await gateway.chat(model="auto")
            assert (response.status_code, response.headers["x-lb-endpoint"]) == (200, "good")
            assert response.headers["x-selected-model"] == "shared"
            assert other.stats.total_requests == 0


async def test_nothing_known_and_nothing_named() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        missed: list[tuple[str | None, int | None]] = []
        gateway.dispatcher.on_model_miss = lambda model, endpoint_id: missed.append((model, endpoint_id))
        refused = await gateway.chat(model="auto")
        assert refused.status_code == 404
        assert error_of(refused)["code"] == "model_not_found"
        assert "no models available for auto selection" in error_of(refused)["message"]
        assert fake.stats.total_requests == 0
        assert missed == [(None, None)]
        passed = await gateway.chat(model=None)
        assert "x-selected-model" not in passed.headers
        assert sent_to(fake)["model"] is None


async def test_a_preferred_model_is_taken_on_trust_where_no_list_is_known() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake)) as gateway:
        gateway.gateway.auto = AutoModel(preferred=("fake-model",))
        assert (await gateway.chat(model="auto")).headers["x-selected-model"] == "fake-model"


async def test_nothing_connected_is_told_as_ever() -> None:
    async with RunningGateway([]) as gateway:
        for model in ("auto", None):
            refused = await gateway.chat(model=model)
            assert (refused.status_code, error_of(refused)["code"]) == (503, "no_endpoint_available")


async def test_the_endpoint_that_lists_the_model_gets_it_and_nobody_elses_is_asked_for() -> None:
    async with FakeServer(Behaviour(models=("a",))) as one, FakeServer(Behaviour(models=("b",))) as two:
        first, second = wired(one, two)
        async with RunningGateway([replace(first, models=("a",)), second]) as gateway:
            gateway.state(2).discovered_models = frozenset({"b"})
            gateway.pool.candidates_changed()
            for model, fake, other in (("a", one, two), ("b", two, one)):
                before = other.stats.total_requests
                assert (await gateway.chat(model=model)).status_code == 200
                assert sent_to(fake)["model"] == model
                assert other.stats.total_requests == before


async def test_a_model_that_nobody_serves() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake, models=("llama-3", "qwen"))) as gateway:
        missed: list[tuple[str | None, int | None]] = []
        gateway.dispatcher.on_model_miss = lambda model, endpoint_id: missed.append((model, endpoint_id))
        refused = await gateway.chat(model="lama-3")
        error = error_of(refused)
        assert (refused.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert "'lama-3'" in error["message"] and "Did you mean 'llama-3'?" in error["message"]
        assert "Did you mean" not in error_of(await gateway.chat(model="zzz"))["message"]
        assert missed == [("lama-3", None), ("zzz", None)]
        assert fake.stats.total_requests == 0


async def test_an_endpoint_that_answers_404_is_told_of_as_a_miss() -> None:
    async with (
        FakeServer(Behaviour(models=("other",))) as lacks,
        FakeServer() as has,
        RunningGateway(wired(lacks, has)) as gateway,
    ):
        missed: list[tuple[str | None, int | None]] = []
        gateway.dispatcher.on_model_miss = lambda model, endpoint_id: missed.append((model, endpoint_id))
        response = await gateway.chat()
        assert (response.status_code, response.headers["x-attempts"]) == (200, "2")
        assert missed == [("fake-model", 1)]


async def test_a_model_that_a_backend_has_got_meanwhile_is_found_by_those_who_miss_it(tmp_path: Path) -> None:
    async with (
        FakeServer(Behaviour(models=("old",))) as fake,
        RunningBalancer(tmp_path, health_interval_seconds=3600.0) as balancer,
    ):
        await balancer.add("gpu-1", fake)
        await balancer.admin("POST", "/endpoints/1/probe")
        fake.behaviour = Behaviour(models=("old", "new"))
        assert (await balancer.chat(model="new")).status_code == 404
        known = balancer.balancer.pool.states[1]
        await eventually(lambda: "new" in (known.known_models() or ()))
        assert (await balancer.chat(model="new")).status_code == 200


async def test_a_model_that_a_backend_has_lost_is_found_missing_by_its_404(tmp_path: Path) -> None:
    async with (
        FakeServer(Behaviour(models=("lost", "kept"))) as fake,
        RunningBalancer(tmp_path, health_interval_seconds=3600.0) as balancer,
    ):
        await balancer.add("gpu-1", fake)
        await balancer.admin("POST", "/endpoints/1/probe")
        fake.behaviour = Behaviour(models=("kept",))
        assert (await balancer.chat(model="lost")).headers["x-lb-endpoint"] == "gpu-1"
        known = balancer.balancer.pool.states[1]
        await eventually(lambda: known.known_models() == frozenset({"kept"}))
        assert "x-lb-endpoint" not in (await balancer.chat(model="lost")).headers
        assert (await balancer.chat(model="auto")).headers["x-selected-model"] == "kept"
