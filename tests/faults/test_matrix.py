"""The matrix of faults: each of the catalogue, for an answer in one piece and for a stream, where another endpoint is
left to ask and where none is. Every cell checks what the client gets and everything that was counted.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from balancer.core.endpoints import Provenance
from balancer.metrics import BalancerCollector, render
from tests.faults.__main__ import table
from tests.faults.answers import Said, closing, completion, stream
from tests.faults.catalogue import FAULTS, End, Fault
from tests.raw_server import RawServer, dechunked
from tests.running import RunningGateway, chat_body, eventually, raw_client, wired

SILENCE_SECONDS = 0.3
GOOD_ANSWER, GOOD_EVENTS = completion("from the good one"), stream("from the ", "good one")
FAULTY, GOOD, REFUSING = "faulty", "good", "refusing"


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault, streamed or not, at an endpoint after which another is left or not."""

    fault: Fault
    streamed: bool
    last: bool

    @property
    def end(self) -> End:
        """What must come of it."""
        return self.fault.stream if self.streamed else self.fault.whole

    @property
    def said(self) -> Said:
        """What the faulty endpoint would say if all went well."""
        return self.fault.events if self.streamed else self.fault.body

    @property
    def number(self) -> int:
        """Which attempt meets the fault."""
        return 2 if self.last else 1

    @property
    def mended(self) -> bool:
        """Whether another endpoint answers in its place."""
        return self.end.elsewhere and not self.last

    @property
    def outcomes(self) -> list[str]:
        """Those of all attempts."""
        return ["failed"] * self.last + [self.end.outcome] + ["success"] * self.mended

    @property
    def status(self) -> int:
        """What the client is answered."""
        return 200 if self.mended else self.end.status

    def __str__(self) -> str:
        return f"{self.fault.name}, {'streamed' if self.streamed else 'whole'}, {'last' if self.last else 'first'}"


CELLS = [Cell(*each) for each in itertools.product(FAULTS, (False, True), (False, True))]


@dataclass(frozen=True, slots=True)
class Given:
    """What a client got."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_cell(cell: Cell) -> None:
    refuses = closing(lambda said: said.sized(status=b"502 Refused"))(completion("no"))
    good = closing(lambda said: said.sized())(GOOD_EVENTS if cell.streamed else GOOD_ANSWER)
    async with RawServer(cell.fault.make(cell.said)) as faulty, RawServer(good) as other, RawServer(refuses) as first:
        beside = (REFUSING, first.url) if cell.last else (GOOD, other.url)
        pairs = [(FAULTY, faulty.url), beside]
        endpoints = wired(*(url for _, url in (reversed(pairs) if cell.last else pairs)), include_usage=False)
        names = [name for name, _ in (reversed(pairs) if cell.last else pairs)]
        endpoints = [replace(each, name=name) for each, name in zip(endpoints, names, strict=True)]
        if cell.end.silent:
            endpoints[cell.number - 1] = replace(endpoints[cell.number - 1], timeout=SILENCE_SECONDS)
        async with RunningGateway(endpoints) as gateway:
            given = await ask(gateway, cell)
            await gateway.settled()
            check_given(cell, given)
            check_record(cell, gateway)
            check_endpoints(cell, gateway)
            check_metrics(cell, gateway)
            await check_nothing_left(gateway, faulty)


async def ask(gateway: RunningGateway, cell: Cell) -> Given:
    """One request; everything until the balancer closes, which a broken answer must make it do by itself."""
    async with raw_client(gateway.url) as client:
        lines = () if cell.end.broken else (b"connection: close",)
        client.post(chat_body(stream=True) if cell.streamed else chat_body(), *lines)
        status, headers = await client.head()
        body = await client.rest()
    return Given(status, headers, body)


def check_given(cell: Cell, given: Given) -> None:
    """Status, envelope, and that nothing of an answer that was given up is in what another endpoint answered."""
    assert given.status == cell.status
    attempts = len(cell.outcomes)
    assert given.headers[b"x-attempts"] == b"%d" % attempts
    assert b"link" not in given.headers, "an interim answer's"
    assert given.headers[b"x-failover-count"] == b"%d" % (attempts - 1)
    if cell.end.broken:
        check_broken(cell, given)
    elif cell.mended:
        assert body_of(given) == (GOOD_EVENTS if cell.streamed else GOOD_ANSWER).whole
        assert given.headers[b"x-lb-endpoint"] == GOOD.encode()
    elif cell.end.code is None:
        assert body_of(given) == cell.said.whole
        assert given.headers[b"x-lb-endpoint"] == FAULTY.encode()
    else:
        check_envelope(cell, json.loads(given.body))


def body_of(given: Given) -> bytes:
    """The body without its chunks."""
    return dechunked(given.body) if b"transfer-encoding" in given.headers else given.body


def check_envelope(cell: Cell, body: Any) -> None:
    """The error of an answer that nobody could give."""
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("server_error", None, cell.end.code)
    assert f"endpoint '{FAULTY}'" in error["message"]
    assert "127.0.0.1" not in error["message"]


def check_broken(cell: Cell, given: Given) -> None:
    """A stream ends in an error event and without [DONE]; anything else ends without its end."""
    if cell.streamed:
        body = dechunked(given.body)
        assert body.startswith(cell.said.begun)
        assert b"[DONE]" not in body
        last = body.removesuffix(b"\n\n").rpartition(b"\n\n")[2]
        error = json.loads(last.removeprefix(b"data: "))
        assert set(error) == {"error"}
        assert f"endpoint '{FAULTY}'" in error["error"]["message"]
    elif b"content-length" in given.headers:
        assert len(given.body) < int(given.headers[b"content-length"])
    else:
        assert not given.body.endswith(b"0\r\n\r\n")


def check_record(cell: Cell, gateway: RunningGateway) -> None:
    """One record, with every attempt."""
    assert len(gateway.traffic.log) == 1
    record = gateway.last
    assert record.status == cell.status
    assert record.streamed == cell.streamed
    assert [attempt.outcome for attempt in record.attempts] == cell.outcomes
    assert [attempt.endpoint for attempt in record.attempts][cell.number - 1] == FAULTY
    attempt = record.attempts[cell.number - 1]
    assert attempt.result
    assert bool(record.error) == (cell.end.broken or (not cell.mended and cell.end.code is not None))
    if cell.mended:
        assert record.usage is not None and record.usage.provenance is Provenance.REPORTED
    elif cell.end.broken:
        assert record.usage is not None and record.usage.provenance is Provenance.PARTIAL
    elif cell.status >= 300:
        assert record.usage is None
    elif cell.fault.provenance is not None:
        assert record.usage is not None and record.usage.provenance is cell.fault.provenance
        assert record.usage.prompt_tokens >= 0 and record.usage.completion_tokens >= 0


def check_endpoints(cell: Cell, gateway: RunningGateway) -> None:
    """What stands in the state of each endpoint."""
    faulty = gateway.state(cell.number)
    blamed, good = int(cell.end.blamed), int(cell.end.outcome == "success")
    assert (faulty.total_requests, faulty.total_failures, faulty.total_success) == (1, blamed, good)
    assert faulty.breaker.failures == int(cell.end.outcome == "failed")
    assert bool(faulty.last_error) == bool(blamed)
    other = gateway.state(3 - cell.number)
    if cell.last:
        assert (other.total_requests, other.total_failures) == (1, 1)
    else:
        assert (other.total_requests, other.total_failures, other.total_success) == (cell.mended, 0, cell.mended)
    usage = gateway.last.usage
    counted = sum(state.completion_tokens_total for state in gateway.pool.states.values())
    assert counted == (usage.completion_tokens if usage else 0)


def check_metrics(cell: Cell, gateway: RunningGateway) -> None:
    """The same in /metrics, and nothing under way."""
    found = metrics(gateway)
    assert found["lb_requests_total", "chat", str(cell.status)] == 1
    names = [each.endpoint for each in gateway.last.attempts]
    expected = dict.fromkeys(zip(names, cell.outcomes, strict=True), 1.0)
    attempts = {key[1:]: value for key, value in found.items() if key[0] == "lb_attempts_total"}
    assert attempts == expected
    errors = {key[1]: value for key, value in found.items() if key[0] == "lb_errors_total"}
    troubled = not cell.mended and cell.end.error_class
    assert errors == ({cell.end.error_class: 1.0} if troubled else {})
    for name in ("lb_inflight", "lb_queue_depth", "lb_retries_active"):
        assert found[(name,)] == 0
    assert {value for key, value in found.items() if key[0] == "lb_endpoint_inflight"} == {0.0}


def metrics(gateway: RunningGateway) -> dict[tuple[str, ...], float]:
    """What /metrics would say: name and label values to number."""
    dispatcher = gateway.dispatcher
    collector = BalancerCollector(
        gateway.pool, gateway.traffic, dispatcher.budget, lambda: dispatcher.queue.depth, dispatcher.clock, "0"
    )
    families = text_string_to_metric_families(render(collector).decode())
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


async def check_nothing_left(gateway: RunningGateway, faulty: RawServer) -> None:
    """No connection but idle ones, and none to an endpoint that failed."""
    await eventually(lambda: not faulty.running, "end of the connection to the faulty endpoint")
    await eventually(lambda: repr(gateway.connections) == "<Connections: 0 open, 0 idle>", "end of all connections")
    assert faulty.connections == 1


def test_the_matrix_is_documented() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names))
    page = (Path(__file__).parents[2] / "docs/reliability.md").read_text()
    assert table() in page, "python -m tests.faults prints what belongs there"
    assert f"{len(FAULTS)} ways" in page
    assert f"{len(CELLS)} cells" in page
