"""Many requests at once, of every kind and with every kind of trouble: nothing leaks, nobody gets another's answer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import httpx

from load_tester.fake_behaviour import Behaviour
from load_tester.fake_bodies import answer_text
from tests.fakes import FakeServer, events_of
from tests.running import RunningGateway, content_of, eventually, wired

REQUESTS = 200
FAULTS: list[dict[str, Any]] = [
    {},
    {"ttft_seconds": 0.005, "tpot_seconds": 0.0005},
    {"fault": "status", "fault_status": 500, "fault_probability": 0.4},
    {"fault": "status", "fault_status": 429, "retry_after_ms": "20", "fault_probability": 0.2},
    {"fault": "cut", "fault_after": 3, "fault_probability": 0.4},
    {"fault": "reset", "fault_probability": 0.4},
    {"fault": "error_in_200", "fault_probability": 0.4},
    {"fault": "stall_headers", "fault_probability": 0.1},
    {"usage_style": "reject_include_usage"},
]


class Client:
    """One client, who can tell his own answer by its length, its request id and the name of its model."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.tokens = number + 1
        self.request_id = f"client-{number}"
        self.model = rng.choice(("fake-model", f"alias-{number % 3}"))
        self.stream = rng.random() < 0.6
        self.leaves_after = rng.uniform(0, 0.15) if rng.random() < 0.25 else None
        self.seen = "nothing"

    async def run(self, client: httpx.AsyncClient) -> None:
        """Ask, and check whatever comes."""
        body = {"model": self.model, "messages": [{}], "max_tokens": self.tokens, "stream": self.stream}
        asking = client.post("/v1/chat/completions", json=body, headers={"x-request-id": self.request_id})
        try:
            response = await asyncio.wait_for(asking, self.leaves_after)
        except TimeoutError:
            self.seen = "left"
            return
        assert response.headers["x-request-id"] == self.request_id
        if response.status_code != 200:
            assert response.status_code in (429, 500, 502, 503, 504)
            assert response.json()["error"]["message"]
            self.seen = "refused"
        elif self.stream:
            self._check_stream(response)
        else:
            answer = response.json()
            if "error" not in answer:  # a whole answer that is an error passes: its endpoint said 200
                assert answer["model"] == self.model
                assert answer["choices"][0]["message"]["content"] == answer_text(self.tokens)
                assert answer["usage"]["completion_tokens"] == self.tokens
            self.seen = "whole"

    def _check_stream(self, response: httpx.Response) -> None:
        *chunks, last = events_of(response.text)
        assert {chunk["model"] for chunk in chunks} == {self.model}
        assert len({chunk["id"] for chunk in chunks}) == 1
        text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
        if last == "[DONE]":
            assert text == answer_text(self.tokens)
            self.seen = "streamed"
        else:
            assert set(last) == {"error"}
            assert answer_text(self.tokens).startswith(text)
            self.seen = "broken"


async def test_mixed_traffic_in_trouble() -> None:
    rng = random.Random(200)
    async with AsyncExitStack() as stack:
        behaviours = [Behaviour(name=f"fake-{number}", prompt_tokens=5, **fault) for number, fault in enumerate(FAULTS)]
        fakes = [await stack.enter_async_context(FakeServer(behaviour)) for behaviour in behaviours]
        aliases = {f"alias-{number}": "fake-model" for number in range(3)}
        endpoints = wired(*fakes, timeout=0.5, max_concurrent=15, token_quota_percent=10, model_aliases=aliases)
        options: dict[str, Any] = {
            "strategy": "percentage",
            "queue_size": 60,
            "queue_timeout_seconds": 2,
            "max_retries": 3,
        }
        async with RunningGateway(endpoints, cooldown_seconds=0.05, **options) as gateway:
            clients = [Client(number, rng) for number in range(REQUESTS)]
            await asyncio.gather(*(each.run(gateway.client) for each in clients))
            await gateway.settled()
            for fake in fakes:
                await fake.wait_for(lambda stats: not stats.inflight)
            check_books(gateway, clients)


def check_books(gateway: RunningGateway, clients: list[Client]) -> None:
    log = list(gateway.traffic.log)
    assert len(log) == gateway.traffic.finished
    # Who left before his request was read is not in the log; all others are, once.
    assert len(log) <= len(clients)
    assert max(Counter(record.request_id for record in log).values()) == 1
    seen = Counter(client.seen for client in clients)
    assert seen["whole"] > 20
    assert seen["streamed"] > 20
    by_id = {record.request_id: record for record in log}
    for client in clients:
        if client.seen in ("whole", "streamed"):
            record = by_id[client.request_id]
            assert (record.status, record.model, record.attempts[-1].outcome) == (200, client.model, "success")
    attempts = Counter((attempt.endpoint_id, attempt.outcome) for record in log for attempt in record.attempts)
    for number, state in gateway.pool.states.items():
        # A lease handed to a client who left the queue at that moment is given back unused: no attempt was made.
        assert state.total_requests >= sum(count for (eid, _), count in attempts.items() if eid == number)
        assert state.total_success == attempts[number, "success"]
        assert state.total_failures == attempts[number, "failed"] + attempts[number, "rejected"]
    used = sum(record.usage.completion_tokens for record in log if record.usage is not None)
    assert sum(state.completion_tokens_total for state in gateway.pool.states.values()) == used
    for record in log:
        tried = [attempt.endpoint_id for attempt in record.attempts]
        assert len(tried) == len(set(tried)) <= 4


async def test_many_streams_at_once_from_one_endpoint() -> None:
    async with FakeServer(Behaviour(tpot_seconds=0.001)) as fake, RunningGateway(wired(fake)) as gateway:

        async def ask(tokens: int) -> None:
            response = await gateway.chat(stream=True, max_tokens=tokens)
            assert content_of(response.text) == answer_text(tokens)

        await asyncio.gather(*(ask(tokens) for tokens in range(1, 61)))
        await gateway.settled()
        assert gateway.state().total_success == 60
        assert gateway.state().completion_tokens_total == fake.stats.completion_tokens == 60 * 61 / 2


async def test_a_long_stream_counts_against_its_share_while_it_runs() -> None:
    """Two equal shares; one endpoint is at work on a long answer, so that the other is owed what comes meanwhile."""
    stream = Behaviour(name="one", completion_tokens=20_000, tpot_seconds=0.0001, chunks_per_write=100)
    async with FakeServer(stream) as one, FakeServer(Behaviour(name="two")) as two:
        endpoints = wired(one, two, token_quota_percent=50)
        async with RunningGateway(endpoints, strategy="percentage") as gateway:
            running = gateway.leaving(stream=True)
            await eventually(lambda: gateway.inflight)
            assert gateway.state(1).inflight == 1
            passed = gateway.traffic.series(1)
            now = gateway.gateway.clock
            await eventually(lambda: 60 * passed.rates(now()).tokens_per_second > 3000, "a good part of the answer")
            for _ in range(6):
                assert (await gateway.chat(max_tokens=300)).headers["x-lb-endpoint"] == "two"
            running.cancel()
