"""Calls of a balancer in a script: what they return, where they go, and what is counted. HTTP problems never raise."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from balancer import AsyncLoadBalancer, Attempt, BalancingStrategy, Endpoint
from load_tester.fake_behaviour import Behaviour
from load_tester.fake_bodies import answer_text
from tests.fakes import FakeServer
from tests.library_parts import MESSAGES, QUIET, endpoint, served_by
from tests.raw_server import RawRequest, RawServer, answer, eventually, says, stays_silent

TEXT = answer_text(6)
MODELS = answer(b'{"object":"list","data":[{"id":"first"},{"id":"second"}]}')


def fake(name: str = "gpu-1", **behaviour: Any) -> FakeServer:
    return FakeServer(Behaviour(**{"name": name, "completion_tokens": 6, **behaviour}))


def completion(message: dict[str, Any]) -> bytes:
    return answer(json.dumps({"choices": [{"message": message}]}).encode(), b"Content-Type: application/json")


def sent(request: RawRequest) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(request.body)
    return decoded


# -- results -----------------------------------------------------------------------------------------------------------


async def test_a_good_answer() -> None:
    async with fake() as one, AsyncLoadBalancer([endpoint(one)], **QUIET) as balancer:
        result = await balancer.chat(MESSAGES)
        seconds = result.pop("response_time")
        assert 0 < seconds < 5
        usage = result.pop("usage")
        assert usage["completion_tokens"] == 6
        assert result == {"success": True, "content": TEXT, "tool_calls": [], "error": "", "endpoint": "gpu-1"}


async def test_what_is_sent() -> None:
    seen: list[RawRequest] = []
    async with RawServer(says(completion({"content": "hi"}), seen=seen)) as raw:
        made = Endpoint(raw.url, "sk-1", name="raw", max_tokens=99, temperature=0.25)
        async with AsyncLoadBalancer([made], **QUIET) as balancer:
            await balancer.chat(MESSAGES, model="m")
            await balancer.chat(MESSAGES, [{"name": "add"}], 0, 7, model="m")
            balancer.add_endpoint(Endpoint(raw.url, name="plain", max_tokens=None, temperature=None))
            await balancer.chat(MESSAGES, model="m")
    first, second, third = map(sent, seen)
    assert first == {"model": "m", "messages": MESSAGES, "max_tokens": 99, "temperature": 0.25}
    tool = {"type": "function", "function": {"name": "add"}}
    assert second == {
        "model": "m",
        "messages": MESSAGES,
        "max_tokens": 7,
        "temperature": 0,
        "tools": [tool],
        "tool_choice": "auto",
    }
    assert third == {"model": "m", "messages": MESSAGES}
    assert seen[0].lines[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert b"authorization: Bearer sk-1" in seen[0].lines
    assert not any(line.startswith(b"authorization") for line in seen[2].lines)


async def test_calls_of_tools_are_decoded() -> None:
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}},
        {"id": "c3", "type": "function", "function": {"name": "bad", "arguments": "{oops"}},
    ]
    async with (
        RawServer(says(completion({"content": None, "tool_calls": calls}))) as raw,
        AsyncLoadBalancer([Endpoint(raw.url)], **QUIET) as balancer,
    ):
        result = await balancer.chat(MESSAGES, [{"type": "function", "function": {"name": "add"}}], model="m")
    assert result["content"] == ""
    assert result["tool_calls"] == [
        {"id": "c1", "name": "add", "arguments": {"a": 1}},
        {"id": "c2", "name": "now", "arguments": {}},
        {"id": "c3", "name": "bad", "arguments": "{oops"},
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "not JSON"),
        (b"[]", "no object"),
        (b"{}", "no chat completion"),
        (b'{"choices":[]}', "no chat completion"),
        (b'{"choices":[{"message":1}]}', "no chat completion"),
        (b'{"choices":{"message":{}}}', "no chat completion"),
    ],
)
async def test_an_answer_that_is_none(body: bytes, words: str) -> None:
    async with (
        RawServer(says(answer(body))) as raw,
        AsyncLoadBalancer([Endpoint(raw.url, name="odd")], **QUIET) as balancer,
    ):
        result = await balancer.chat(MESSAGES, model="m")
        assert (result["success"], result["endpoint"]) == (False, "odd")
        assert words in result["error"] and "'odd'" in result["error"]
        assert balancer.get_stats()["total_failures"] == 1


async def test_odd_parts_of_an_answer_do_no_harm() -> None:
    body = {"choices": [{"message": {"content": ["x"], "tool_calls": [1, {"function": 2}]}}, 3], "usage": 4}
    async with (
        RawServer(says(answer(json.dumps(body).encode()))) as raw,
        AsyncLoadBalancer([Endpoint(raw.url)], **QUIET) as balancer,
    ):
        result = await balancer.chat(MESSAGES, model="m")
    assert result["success"] and (result["content"], result["usage"]) == ("", {})
    assert result["tool_calls"] == [{"id": "", "name": "", "arguments": None}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"messages": "hello"}, "messages must be a list"),
        ({"messages": [{"role": object()}]}, "cannot be written as JSON"),
        ({"messages": MESSAGES, "model": 5}, "'model' must be a string"),
        ({"messages": MESSAGES, "tools": ["add"]}, "tools must be a list of function schemas"),
    ],
)
async def test_what_cannot_be_sent(arguments: dict[str, Any], words: str) -> None:
    async with AsyncLoadBalancer([Endpoint("http://127.0.0.1:9")], **QUIET) as balancer:
        with pytest.raises(ValueError, match=words):
            await balancer.chat(**arguments)


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_failover_and_its_counts() -> None:
    attempts: list[Attempt] = []
    async with fake("bad", fault="status", fault_status=503) as bad, fake("good") as good:
        async with AsyncLoadBalancer([endpoint(bad), endpoint(good)], on_attempt=attempts.append, **QUIET) as balancer:
            result = await balancer.chat(MESSAGES, model="fake-model")
            assert (result["success"], result["endpoint"]) == (True, "good")
            stats = balancer.get_stats()
        assert [(each.endpoint, each.outcome, each.reason) for each in attempts] == [
            ("bad", "failed", "answered 503"),
            ("good", "success", "answered 200"),
        ]
        assert all(0 < each.seconds < 5 for each in attempts)
    assert (stats["total_requests"], stats["total_success"], stats["total_failures"]) == (2, 1, 1)
    assert stats["success_rate"] == "50.00%"
    first, second = stats["endpoints"]
    assert (first["total_failures"], first["last_error"], first["success_rate"]) == (1, "answered 503", "0.00%")
    assert (second["total_success"], second["last_error"], second["success_rate"]) == (1, None, "100.00%")
    assert first["last_response_time"] is None and second["last_response_time"] == attempts[1].seconds


async def test_all_fail() -> None:
    async with (
        fake("one", fault="status", fault_status=500) as one,
        fake("two", fault="reset") as two,
        AsyncLoadBalancer([endpoint(one), endpoint(two)], **QUIET) as balancer,
    ):
        result = await balancer.chat(MESSAGES, model="fake-model")
    assert result == {
        "success": False,
        "content": "",
        "tool_calls": [],
        "error": result["error"],
        "usage": {},
        "endpoint": None,
    }
    assert result["error"].startswith("all endpoints failed; last error: endpoint 'two': ")


async def test_without_fallback_the_first_failure_is_the_result() -> None:
    async with fake("one", fault="status", fault_status=500) as one, fake("two") as two:
        async with AsyncLoadBalancer([endpoint(one), endpoint(two)], fallback_on_failure=False, **QUIET) as balancer:
            result = await balancer.chat(MESSAGES, model="fake-model")
            assert (result["success"], result["endpoint"]) == (False, "one")
            assert result["error"].startswith("endpoint 'one': answered 500: ")
        assert two.stats.total_requests == 0


@pytest.mark.parametrize("retry_count", [0, 1, 2, 5])
async def test_each_endpoint_is_tried_once_and_no_more_than_retry_count_further_ones(retry_count: int) -> None:
    failing = {"fault": "status", "fault_status": 500}
    async with fake("a", **failing) as a, fake("b", **failing) as b, fake("c", **failing) as c:
        fakes = (a, b, c)
        async with AsyncLoadBalancer(map(endpoint, fakes), retry_count=retry_count, **QUIET) as balancer:
            assert not (await balancer.chat(MESSAGES, model="fake-model"))["success"]
        counts = [each.stats.total_requests for each in fakes]
        assert sum(counts) == min(retry_count + 1, 3) and max(counts) == 1


async def test_a_request_that_is_wrong_itself_is_not_tried_elsewhere() -> None:
    async with fake("one", fault="status", fault_status=400) as one, fake("two") as two:
        async with AsyncLoadBalancer([endpoint(one), endpoint(two)], **QUIET) as balancer:
            result = await balancer.chat(MESSAGES, model="fake-model")
            assert (result["success"], result["endpoint"]) == (False, "one")
            assert result["error"].startswith("endpoint 'one': answered 400: ")
            assert balancer.get_stats()["healthy_endpoints"] == 2
        assert two.stats.total_requests == 0


async def test_nobody_is_there() -> None:
    async with fake() as gone:
        made = endpoint(gone)
    async with AsyncLoadBalancer([made], **QUIET) as balancer:
        result = await balancer.chat(MESSAGES, model="fake-model")
        assert not result["success"] and "'gpu-1'" in result["error"]
        assert balancer.remove_endpoint(made.url)
        result = await balancer.chat(MESSAGES, model="fake-model")
        assert result["error"] == "no endpoint can take the request: none is configured"


async def test_silence_is_a_failure_after_the_timeout() -> None:
    async with RawServer(stays_silent) as silent, fake() as good:
        endpoints = [Endpoint(silent.url, name="silent", timeout=0.1), endpoint(good)]
        async with AsyncLoadBalancer(endpoints, **QUIET) as balancer:
            assert (await balancer.chat(MESSAGES, model="fake-model"))["endpoint"] == "gpu-1"
            assert balancer.get_stats()["endpoints"][0]["last_error"] == "silent for 0.1 s before answering"
        async with AsyncLoadBalancer([Endpoint(silent.url)], timeout=0.1, **QUIET) as balancer:
            assert "silent for 0.1 s" in (await balancer.chat(MESSAGES, model="fake-model"))["error"]


async def test_what_on_attempt_raises_is_logged_and_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Attempt) -> None:
        raise RuntimeError("mine")

    async with fake() as one, AsyncLoadBalancer([endpoint(one)], on_attempt=fail, **QUIET) as balancer:
        assert (await balancer.chat(MESSAGES))["success"]
    assert "on_attempt failed" in caplog.text


async def test_a_key_is_in_no_result_and_no_statistics() -> None:
    async with fake(api_key="sk-right") as one:
        made = endpoint(one, api_key="sk-secret")
        async with AsyncLoadBalancer([made], **QUIET) as balancer:
            result = await balancer.chat(MESSAGES, model="fake-model")
            assert "refused its credentials" in result["error"]
            assert "secret" not in f"{result}{balancer.get_stats()}{balancer!r}"


# -- where calls go ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (BalancingStrategy.ROUND_ROBIN, {"a": 6, "b": 6}),
        (BalancingStrategy.WEIGHTED, {"a": 8, "b": 4}),
        (BalancingStrategy.LEAST_CONNECTIONS, {"a": 12}),
        (BalancingStrategy.PRIORITY, {"b": 12}),
        (BalancingStrategy.COST, {"b": 12}),
        ("failover", {"b": 12}),
        ("WEIGHTED", {"a": 8, "b": 4}),
    ],
)
async def test_strategies(strategy: str, expected: dict[str, int]) -> None:
    prices = {"price_per_million_input": 1, "price_per_million_output": 1}
    async with fake("a") as a, fake("b") as b:
        endpoints = [endpoint(a, weight=2, **prices), endpoint(b, priority_order=1, price_per_million_input=0.5)]
        async with AsyncLoadBalancer(endpoints, strategy, **QUIET) as balancer:
            assert await served_by(balancer, 12) == expected
            assert balancer.get_stats()["strategy"] == BalancingStrategy(strategy).value


async def test_percentage_and_random() -> None:
    async with fake("a") as a, fake("b") as b:
        endpoints = [endpoint(a, token_quota_percent=75), endpoint(b, token_quota_percent=25)]
        async with AsyncLoadBalancer(endpoints, "percentage", **QUIET) as balancer:
            assert await served_by(balancer, 12) == {"a": 9, "b": 3}
        async with AsyncLoadBalancer(endpoints, "random", **QUIET) as balancer:
            assert len(await served_by(balancer, 40)) == 2


async def test_max_connections_is_kept_and_the_rest_waits() -> None:
    async with (
        fake(ttft_seconds=0.02) as one,
        AsyncLoadBalancer([endpoint(one, max_connections=2)], **QUIET) as balancer,
    ):
        results = await asyncio.gather(*(balancer.chat(MESSAGES, model="fake-model") for _ in range(10)))
        assert all(result["success"] for result in results)
        assert one.stats.max_inflight == 2


async def test_a_script_may_begin_a_thousand_at_once() -> None:
    async with fake() as one, AsyncLoadBalancer([endpoint(one, max_connections=20)], **QUIET) as balancer:
        calls = [balancer.chat(MESSAGES, model="fake-model") for _ in range(1000)]
        async with asyncio.timeout(20):  # what waits must not cost those that run
            results = await asyncio.gather(*calls)
        assert all(result["success"] for result in results)
        assert one.stats.connections == 20
        assert balancer.get_stats()["endpoints"][0]["total_success"] == 1000


async def test_who_waits_in_vain_is_told_why() -> None:
    async with RawServer(stays_silent) as silent:
        endpoints = [Endpoint(silent.url, name="slow", max_connections=1, timeout=30)]
        async with AsyncLoadBalancer(endpoints, max_wait_seconds=0.1, **QUIET) as balancer:
            first = asyncio.create_task(balancer.chat(MESSAGES, model="m"))
            await eventually(lambda: balancer.get_stats()["endpoints"][0]["active_connections"])
            result = await balancer.chat(MESSAGES, model="m")
            assert result["error"] == "no endpoint can take the request: slow: full: 1 in flight"
            assert result["endpoint"] is None
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            stats = balancer.get_stats()["endpoints"][0]
            assert (stats["active_connections"], stats["total_failures"]) == (0, 0)


async def test_endpoints_come_and_go() -> None:
    async with fake("a") as a, fake("b") as b, AsyncLoadBalancer([endpoint(a)], **QUIET) as balancer:
        assert await served_by(balancer, 2) == {"a": 2}
        balancer.add_endpoint(endpoint(b))
        assert await served_by(balancer, 2) == {"b": 1, "a": 1}
        assert balancer.remove_endpoint(a.base_url.removesuffix("/v1") + "/")
        assert not balancer.remove_endpoint(a.base_url) and not balancer.remove_endpoint("gpu1")
        assert await served_by(balancer, 2) == {"b": 2}
        assert balancer.get_stats()["total_requests"] == 3
        with pytest.raises(ValueError, match="endpoint must be an Endpoint"):
            balancer.add_endpoint("http://gpu3:8000")  # type: ignore[arg-type]


# -- models ------------------------------------------------------------------------------------------------------------


async def test_without_a_model_each_endpoint_gets_its_own_first_one_and_is_asked_once() -> None:
    seen: list[RawRequest] = []
    script = says(MODELS, *[completion({"content": "hi"})], seen=seen)
    async with RawServer(says(MODELS), script) as raw, fake("b", models=("b-model",)) as b:
        async with AsyncLoadBalancer([Endpoint(raw.url, name="raw"), endpoint(b)], **QUIET) as balancer:
            results = [await balancer.chat(MESSAGES) for _ in range(4)]
            assert [result["endpoint"] for result in results] == ["raw", "b"] * 2
        assert json.loads(b.stats.last_body)["model"] == "b-model"
        assert b.stats.requests == {"/v1/models": 1, "/v1/chat/completions": 2}
    assert raw.connections == 2  # one to ask for models, one for chats
    assert [sent(each)["model"] for each in seen[1:]] == ["first"]


async def test_an_endpoint_that_tells_no_models_is_passed_over() -> None:
    async with (
        fake("mute", fault="status", fault_status=500, fault_scope="get") as mute,
        fake("good") as good,
        AsyncLoadBalancer([endpoint(mute), endpoint(good)], **QUIET) as balancer,
    ):
        assert (await balancer.chat(MESSAGES))["endpoint"] == "good"
        stats = balancer.get_stats()["endpoints"][0]
        assert stats["last_error"] == "does not tell which models it serves (answered 500 to GET /models); name one"


async def test_an_endpoint_that_cannot_be_reached_says_so_rather_than_ask_for_a_model() -> None:
    async with AsyncLoadBalancer([Endpoint("http://127.0.0.1:9/v1", name="down")], **QUIET) as balancer:
        error = (await balancer.chat(MESSAGES))["error"]
    assert "connection refused" in error and "name one" not in error


async def test_configured_models_and_aliases() -> None:
    async with fake("a", models=()) as a, fake("b", models=("real",)) as b:
        endpoints = [endpoint(a, models=("mine",)), endpoint(b, model_aliases={"auto": "real", "nice": "real"})]
        async with AsyncLoadBalancer(endpoints, **QUIET) as balancer:
            assert (await balancer.chat(MESSAGES, model="nice"))["endpoint"] == "b"
            assert json.loads(b.stats.last_body)["model"] == "real"
            assert (await balancer.chat(MESSAGES, model="auto"))["endpoint"] == "b"
            assert await balancer.models() == ["mine", "real", "auto", "nice"]


async def test_a_model_that_nobody_serves() -> None:
    async with fake() as one, AsyncLoadBalancer([endpoint(one, models=("llama-3",))], **QUIET) as balancer:
        result = await balancer.chat(MESSAGES, model="lama-3")
    assert result["error"] == "no endpoint serves the model 'lama-3'; did you mean 'llama-3'?"


async def test_a_list_is_asked_for_again_after_a_404() -> None:
    async with fake(models=("old",)) as one, AsyncLoadBalancer([endpoint(one)], **QUIET) as balancer:
        assert (await balancer.chat(MESSAGES))["success"]
        one.behaviour = one.behaviour.changed({"models": ["new"]})
        assert not (await balancer.chat(MESSAGES))["success"]
        assert (await balancer.chat(MESSAGES))["success"]


async def test_embeddings() -> None:
    async with fake() as one, AsyncLoadBalancer([endpoint(one)], **QUIET) as balancer:
        result = await balancer.embed(["a", "b"])
        assert result["success"] and result["endpoint"] == "gpu-1" and result["usage"]["prompt_tokens"] > 0
        assert len(result["embeddings"]) == 2 and all(isinstance(x, float) for x in result["embeddings"][0])
        assert len((await balancer.embed("a", model="fake-model"))["embeddings"]) == 1
        one.behaviour = one.behaviour.changed({"fault": "status", "fault_status": 500})
        failed = await balancer.embed("a", model="fake-model")
        assert (failed["success"], failed["embeddings"], failed["endpoint"]) == (False, [], None)
    out_of_order = {"data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]}
    bodies = (answer(json.dumps(out_of_order).encode()), answer(b'{"data":[{"embedding":"AAAA"}]}'), answer(b"{}"))
    async with RawServer(says(*bodies)) as raw, AsyncLoadBalancer([Endpoint(raw.url)], **QUIET) as balancer:
        assert (await balancer.embed(["a", "b"], model="m"))["embeddings"] == [[1.0], [2.0]]
        for _ in range(2):
            assert "no embeddings" in (await balancer.embed("a", model="m"))["error"]
