"""Every row of the verdict table against real sockets: what the client gets, what the endpoints are blamed for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import formatdate
from typing import Any, NamedTuple

import httpx
import pytest

from balancer.core.endpoints import Outcome
from load_tester.fake_behaviour import Behaviour
from load_tester.fake_faults import FAULT_MESSAGE
from tests.fakes import FakeServer
from tests.raw_server import RawServer, answer, read_request, says
from tests.running import RunningGateway, content_of, wired

FAILED, REJECTED, NEUTRAL = Outcome.FAILED, Outcome.REJECTED, Outcome.NEUTRAL
# Long enough for a busy machine to answer within, short enough to wait for.
SILENCE_SECONDS = 0.4


class Row(NamedTuple):
    """One way to go wrong. `status` and `code`: what the client sees when nobody else is left; `code` None: verbatim.

    `fault`: the behaviour of the endpoint, or another base URL. `streams`: which kinds of request it concerns.
    """

    outcome: Outcome
    status: int
    code: str | None
    fault: dict[str, Any] | str
    words: str = ""
    elsewhere: bool = True
    streams: tuple[bool, ...] = (False, True)


def status(number: int, outcome: Outcome, **fields: Any) -> Row:
    """An endpoint that answers `number`, which the client sees in the end as it is."""
    fault = {"fault": "status", "fault_status": number, **fields.pop("fault", {})}
    return Row(outcome, number, None, fault, **{"words": str(number), **fields})


def credentials(number: int, **fault: Any) -> Row:
    """An endpoint that refuses its key; nobody but the operator can do anything about that."""
    fault = {"fault": "status", "fault_status": number, **fault}
    return Row(FAILED, 502, "upstream_error", fault, f"refused its credentials ({number})")


ROWS = {
    "refused": Row(FAILED, 502, "upstream_error", {"fault": "refuse", "refuse_seconds": 60}, "connection refused"),
    "dns": Row(FAILED, 502, "upstream_error", "http://nosuch.invalid/v1", "name"),
    "tls": Row(FAILED, 502, "upstream_error", "https://{plain}/v1", "TLS"),
    "reset": Row(FAILED, 502, "upstream_error", {"fault": "reset"}, "before answering"),
    "not http": Row(FAILED, 502, "upstream_error", {"fault": "malformed"}, "not a valid HTTP answer"),
    "status 999": Row(FAILED, 502, "upstream_error", "{status 999}", "999"),
    "silent": Row(FAILED, 504, "upstream_timeout", {"fault": "stall_headers"}, "silent for"),
    "500": status(500, FAILED),
    "502": status(502, FAILED),
    "503": status(503, FAILED),
    "529": status(529, FAILED),
    "429": status(429, REJECTED),
    "401": credentials(401),
    "402": credentials(402),
    "403": credentials(403),
    "insufficient quota": credentials(429, fault_code="insufficient_quota"),
    "redirect": Row(FAILED, 502, "upstream_error", {"fault": "redirect"}, "check its base_url"),
    "404": status(404, NEUTRAL),
    "408": status(408, NEUTRAL),
    "425": status(425, NEUTRAL),
    "400": status(400, NEUTRAL, elsewhere=False),
    "409": status(409, NEUTRAL, elsewhere=False),
    "413": status(413, NEUTRAL, elsewhere=False),
    "422": status(422, NEUTRAL, elsewhere=False),
    "error in 200": Row(
        FAILED, 502, "upstream_error", {"fault": "error_in_200"}, "begins with an error (server_error)", streams=(True,)
    ),
    "empty stream": Row(FAILED, 502, "upstream_error", {"fault": "empty_stream"}, "empty", streams=(True,)),
    "done at once": Row(FAILED, 502, "upstream_error", "{done at once}", "empty", streams=(True,)),
    "unfinished event": Row(FAILED, 502, "upstream_error", "{unfinished event}", "empty", streams=(True,)),
    "stall": Row(FAILED, 504, "upstream_timeout", {"fault": "stall_body"}, "silent for"),
    "cut": Row(FAILED, 502, "upstream_error", {"fault": "cut"}, "answer cut after"),
}
CASES = [
    pytest.param(row, stream, id=f"{name}{', stream' * stream}") for name, row in ROWS.items() for stream in row.streams
]

_STREAM_LINE = b"Content-Type: text/event-stream"
SCRIPTS = {
    "{status 999}": says(answer(b"oops", status=b"999 What")),
    "{done at once}": says(answer(b": hello\n\ndata: [DONE]\n\n", _STREAM_LINE)),
    "{unfinished event}": says(answer(b'data: {"error"', _STREAM_LINE)),
}


@asynccontextmanager
async def backend(row: Row, name: str = "faulty") -> AsyncIterator[FakeServer | str]:
    """What the row describes: a fake backend, or the base URL of something that is none."""
    if isinstance(row.fault, dict):
        async with FakeServer(Behaviour(name=name, **row.fault)) as fake:
            yield fake
    elif row.fault in SCRIPTS:
        async with RawServer(SCRIPTS[row.fault]) as server:
            yield server.url + "/v1"
    else:
        async with FakeServer() as fake:
            yield row.fault.replace("{plain}", f"127.0.0.1:{fake.port}")


def impatient(row: Row) -> dict[str, Any]:
    """Only an endpoint that stays silent gets little time: a good one may be slow on a busy machine."""
    return {"timeout": SILENCE_SECONDS} if row.status == 504 else {}


def envelope(response: httpx.Response) -> dict[str, Any]:
    """The error of an answer, which must be a whole envelope and nothing else."""
    document = response.json()
    assert list(document) == ["error"]
    error = document["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    return dict(error)


def check_blame(gateway: RunningGateway, number: int, outcome: Outcome) -> None:
    """The counters and the breaker of an endpoint that was asked once."""
    state = gateway.state(number)
    blamed = outcome in (FAILED, REJECTED)
    assert (state.total_requests, state.total_failures) == (1, int(blamed))
    assert state.total_success == (outcome is Outcome.SUCCESS)
    assert state.breaker.failures == (outcome is FAILED)
    assert bool(state.last_error) is blamed
    assert (state.throttled_until > 0) is (outcome is REJECTED)


@pytest.mark.parametrize(("row", "stream"), CASES)
async def test_a_fault_at_the_first_endpoint(row: Row, stream: bool) -> None:
    async with backend(row) as faulty, FakeServer(Behaviour(name="good", completion_tokens=3)) as good:
        first, second = wired(faulty, good)
        first = replace(first, **impatient(row))
        async with RunningGateway([first, second]) as gateway:
            response = await gateway.chat(stream=stream)

            await gateway.settled()
            record = gateway.last
            check_blame(gateway, 1, row.outcome)
            assert record.attempts[0][:2] == (1, first.name)
            assert record.attempts[0].outcome == row.outcome.value
            assert row.words in record.attempts[0].result
            if not row.elsewhere:
                assert response.status_code == row.status
                assert good.stats.total_requests == 0
                return
            assert response.status_code == 200
            assert "Tokens flow where" in (content_of(response.text) if stream else response.text)
            assert response.headers["x-attempts"] == "2"
            assert response.headers["x-failover-count"] == "1"
            assert response.headers["x-lb-endpoint"] == "good"
            assert response.headers["x-selected-model"] == "fake-model"
            assert response.headers["x-request-id"] == record.request_id
            check_blame(gateway, 2, Outcome.SUCCESS)
            blamed = int(row.outcome is not NEUTRAL)
            assert (gateway.failures(1), gateway.failures(2), gateway.failures()) == (blamed, 0, 0)
            assert [attempt.outcome for attempt in record.attempts] == [row.outcome.value, "success"]
            assert (record.status, record.endpoint, record.error) == (200, "good", "")


@pytest.mark.parametrize(("row", "stream"), CASES)
async def test_a_fault_at_the_last_endpoint(row: Row, stream: bool) -> None:
    async with backend(row) as faulty, RunningGateway(wired(faulty, **impatient(row))) as gateway:
        response = await gateway.chat(stream=stream)

        await gateway.settled()
        record, name = gateway.last, gateway.state().endpoint.name
        assert response.status_code == record.status == row.status
        assert response.headers["x-attempts"] == "1"
        assert response.headers["x-failover-count"] == "0"
        assert response.headers["x-request-id"] == record.request_id
        error = envelope(response)
        if row.code is None:
            assert error["message"] == FAULT_MESSAGE
            assert response.headers["x-fake-name"] == response.headers["x-lb-endpoint"] == "faulty"
            assert response.headers["x-selected-model"] == "fake-model"
        else:
            assert error["code"] == row.code
            assert row.words in error["message"]
            assert name in error["message"]
            assert "x-lb-endpoint" not in response.headers
        check_blame(gateway, 1, row.outcome)
        assert [(a.endpoint, a.outcome, a.panic) for a in record.attempts] == [(name, row.outcome.value, False)]
        assert record.usage is None


@pytest.mark.parametrize("number", [401, 402, 403])
async def test_credentials_refused_is_a_state_of_its_own(number: int) -> None:
    async with (
        FakeServer(Behaviour(fault="status", fault_status=number)) as fake,
        RunningGateway(wired(fake), fail_threshold=1) as gateway,
    ):
        await gateway.chat()
        assert gateway.state().credentials_refused
        refused = await gateway.chat()

        assert refused.status_code == 503
        assert "credentials refused" in envelope(refused)["message"]
        assert fake.stats.total_requests == 1, "the panic rule does not lift a refused key"


async def test_an_exhausted_account_is_recognised_in_two_packets_and_on_every_route() -> None:
    said = answer(b'{"error": {"code": "insufficient_quota"}}', status=b"429 Too Many Requests")

    async def in_two(reader: Any, writer: Any) -> None:
        await read_request(reader)
        writer.write(said[:-20])
        await asyncio.sleep(0.02)
        writer.write(said[-20:])

    async with RawServer(in_two) as server, RunningGateway(wired(server.url)) as gateway:
        response = await gateway.client.post("/v1/images/generations", json={"prompt": "a wire"})
        assert (response.status_code, envelope(response)["code"]) == (502, "upstream_error")
        assert gateway.state().credentials_refused


async def test_a_redirect_is_not_followed() -> None:
    async with FakeServer(Behaviour(fault="redirect")) as fake, RunningGateway(wired(fake)) as gateway:
        await gateway.chat()
        assert fake.stats.requests == {"/v1/chat/completions": 1}


async def test_silence_without_retry_on_timeout() -> None:
    async with FakeServer(Behaviour(fault="stall_headers")) as silent, FakeServer() as good:
        endpoints = wired(silent, good, timeout=SILENCE_SECONDS)
        async with RunningGateway(endpoints, retry_on_timeout=False) as gateway:
            response = await gateway.chat()
            assert (response.status_code, envelope(response)["code"]) == (504, "upstream_timeout")
            assert good.stats.total_requests == 0
            check_blame(gateway, 1, FAILED)


async def test_a_dead_reused_connection_costs_no_attempt() -> None:
    async def answers_once(reader: Any, writer: Any) -> None:
        await read_request(reader)
        writer.write(answer(b"{}"))
        await read_request(reader)

    async with (
        RawServer(answers_once, says(answer(b'{"fresh": true}'))) as server,
        RunningGateway(wired(server.url)) as gateway,
    ):
        assert (await gateway.chat()).json() == {}
        response = await gateway.chat()
        assert response.json() == {"fresh": True}
        assert response.headers["x-attempts"] == "1"
        assert server.connections == 2
        assert gateway.state().total_failures == 0
        assert [attempt.outcome for attempt in gateway.last.attempts] == ["success"]


async def test_only_one_strike_for_500_in_a_request() -> None:
    broken = Behaviour(fault="status")
    async with (
        FakeServer(broken) as one,
        FakeServer(broken) as two,
        FakeServer(broken) as three,
        RunningGateway(wired(one, two, three)) as gateway,
    ):
        response = await gateway.chat()
        assert (response.status_code, response.headers["x-attempts"]) == (500, "3")
        outcomes = [attempt.outcome for attempt in gateway.last.attempts]
        assert outcomes == ["failed", "neutral", "neutral"]
        assert [gateway.state(number).breaker.failures for number in (1, 2, 3)] == [1, 0, 0]


async def test_other_5xx_strike_every_endpoint() -> None:
    broken = Behaviour(fault="status", fault_status=502)
    async with (
        FakeServer(broken) as one,
        FakeServer(broken) as two,
        RunningGateway(wired(one, two)) as gateway,
    ):
        assert (await gateway.chat()).status_code == 502
        assert [gateway.state(number).breaker.failures for number in (1, 2)] == [1, 1]


# -- throttling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waits", "smallest"),
    [
        pytest.param([{"retry_after": "7"}, {"retry_after": "3"}], range(3, 4), id="seconds"),
        pytest.param([{"retry_after": "3"}, {"retry_after": "7"}], range(3, 4), id="the first is smaller"),
        pytest.param([{"retry_after_ms": "4500"}, {"retry_after": "30"}], range(5, 6), id="milliseconds"),
        pytest.param([{"retry_after": "{date}"}, {"retry_after": "90"}], range(15, 22), id="date"),
        pytest.param([{"retry_after": "20"}, {}], range(20, 21), id="only one says"),
        pytest.param([{"retry_after": "0"}, {"retry_after": "9"}], range(1, 2), id="at least a second"),
    ],
)
async def test_429_tells_the_smallest_wait_of_all_attempts(waits: list[dict[str, str]], smallest: range) -> None:
    date = formatdate(time.time() + 20, usegmt=True)
    throttled = Behaviour(fault="status", fault_status=429)
    one, two = (
        throttled.changed({"name": name, **{field: value.format(date=date) for field, value in wait.items()}})
        for name, wait in zip(("one", "two"), waits, strict=True)
    )
    async with FakeServer(one) as first, FakeServer(two) as second, RunningGateway(wired(first, second)) as gateway:
        response = await gateway.chat()
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) in smallest
        assert "retry-after-ms" not in response.headers
        assert response.headers.get_list("retry-after") == [response.headers["retry-after"]]
        assert response.headers["x-fake-name"] == "two"
        # Both are left alone now, and the next client is told at once.
        refused = await gateway.chat()
        assert (refused.status_code, envelope(refused)["code"]) == (429, "rate_limit_exceeded")
        assert first.stats.total_requests == second.stats.total_requests == 1
        assert 1 <= int(refused.headers["retry-after"]) <= smallest.stop


async def test_429_tells_when_another_endpoint_has_room() -> None:
    throttled = Behaviour(fault="status", fault_status=429, retry_after="60")
    async with FakeServer(throttled) as one, FakeServer(Behaviour(name="two", tpot_seconds=30)) as two:
        first, second = wired(one, two, max_concurrent=1)
        async with RunningGateway([second]) as gateway:
            busy = gateway.leaving()
            await two.wait_for(lambda stats: stats.inflight)
            gateway.pool.apply([first, second])
            response = await gateway.chat()
            assert response.status_code == 429
            assert response.headers["retry-after"] == "1"
            busy.cancel()


async def test_503_with_retry_after_keeps_the_endpoint_out_that_long() -> None:
    unavailable = Behaviour(fault="status", fault_status=503, retry_after="60", fault_count=1)
    async with FakeServer(unavailable) as fake, RunningGateway(wired(fake)) as gateway:
        first = await gateway.chat()
        assert (first.status_code, first.headers["retry-after"]) == (503, "60")
        refused = await gateway.chat()
        assert refused.status_code == 429
        assert 55 <= int(refused.headers["retry-after"]) <= 60
        assert fake.stats.total_requests == 1


# -- nobody -----------------------------------------------------------------------------------------------------------


async def test_no_endpoint_at_all() -> None:
    async with RunningGateway([]) as gateway:
        response = await gateway.chat()
        error = envelope(response)
        assert (response.status_code, error["code"]) == (503, "no_endpoint_available")
        assert "no endpoint is configured" in error["message"]
        assert response.headers["retry-after"]
        assert response.headers["x-attempts"] == "0"
        assert (gateway.last.status, gateway.last.endpoint, gateway.last.attempts) == (503, None, [])


async def test_nobody_connected() -> None:
    async with FakeServer(Behaviour(name="idle")) as idle, FakeServer(Behaviour(name="off")) as off:
        first, second = wired(idle, off)
        async with RunningGateway([replace(first, connected=False), replace(second, enabled=False)]) as gateway:
            response = await gateway.chat(stream=True)
            message = envelope(response)["message"]
            assert response.status_code == 503
            assert "idle: not connected" in message
            assert "off: disabled" in message
            assert int(response.headers["retry-after"]) > 0


async def test_a_model_that_nobody_serves() -> None:
    async with FakeServer() as fake, RunningGateway(wired(fake, models=("one", "two"))) as gateway:
        response = await gateway.chat(model="three")
        error = envelope(response)
        assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert "'three'" in error["message"]
        assert fake.stats.total_requests == 0


async def test_all_full() -> None:
    async with (
        FakeServer(Behaviour(tpot_seconds=30)) as fake,
        RunningGateway(wired(fake, max_concurrent=1)) as gateway,
    ):
        busy = gateway.leaving()
        await fake.wait_for(lambda stats: stats.inflight)
        response = await gateway.chat()
        assert (response.status_code, envelope(response)["type"]) == (429, "rate_limit_error")
        assert int(response.headers["retry-after"]) >= 1
        assert fake.stats.total_requests == 1
        busy.cancel()
