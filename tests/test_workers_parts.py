"""The parts that several workers are made of, without processes: table, shared states, queues, replay, messages."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.auth import ClientToken, ClientTokens
from balancer.core.breaker import Breaker, BreakerState
from balancer.core.endpoints import Endpoint, Outcome, Provenance, RouteRequest, Usage
from balancer.core.errors import AllBusy
from balancer.core.pool import EndpointPool
from balancer.core.retries import RetryBudget
from balancer.dispatch.queue import AdmissionQueue
from balancer.proxy.reception import Reception
from balancer.traffic import AttemptRecord, RequestRecord, Traffic
from balancer.wire.stored_responses import StoredResponses
from balancer.workers.agreement import Agreement
from balancer.workers.figures import WholeBudget, WholeCounts, WorkersCollector, publish_budget, publish_clients
from balancer.workers.messages import endpoint_of, endpoint_row, pack, token_of, token_row, unpack
from balancer.workers.numbers import WorkerNumbers
from balancer.workers.outbox import Outbox
from balancer.workers.replay import Replay
from balancer.workers.seam import Message
from balancer.workers.shared_pool import SharedPool
from balancer.workers.table import MOST_ENDPOINTS, Field, Phase, Table

ANY = RouteRequest(None)
REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table.create(3)
    yield made
    os.close(made.fileno)


def pool_of(table: Table, worker: int, *endpoints: Endpoint, **options: Any) -> EndpointPool:
    pool = SharedPool(WorkerNumbers(table, worker), **options)
    pool.apply(endpoints or [Endpoint(1, "one", "http://one/v1", connected=True, max_concurrent=2)])
    return pool


# -- the table ---------------------------------------------------------------------------------------------------------


def test_numbers_are_seen_by_all_who_hold_the_descriptor(table: Table) -> None:
    other = Table(table.fileno, 3)
    table.inflight(7)[1] = 5
    table.of_all(Field.PHASE)[0] = Phase.SERVING
    assert list(other.inflight(7)) == [0, 5, 0]
    assert other.alive == 1
    assert list(other.inflight(8)) == [0, 0, 0]


def test_what_a_dead_worker_held_is_free_again(table: Table) -> None:
    dead, alive = WorkerNumbers(table, 1), WorkerNumbers(table, 2)
    for numbers in (dead, alive):
        numbers.endpoint(900).publish(4)
        numbers.publish(Field.PHASE, Phase.SERVING)
        numbers.publish_waiting(2)
    table.of_all(Field.RESTARTS)[1] = 3
    table.clear(1)
    assert list(table.inflight(900)) == [0, 0, 4]
    assert (table.alive, alive.waiting_elsewhere()) == (1, 0)
    assert table.of_all(Field.RESTARTS)[1] == 3, "what is known of its predecessors stays"


def test_ids_beyond_the_table_have_a_place_too(table: Table) -> None:
    WorkerNumbers(table, 0).endpoint(MOST_ENDPOINTS + 5).publish(1)
    table.clear(0)
    assert not any(table.inflight(5))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(-5, 5)), max_size=60))
def test_in_flight_is_the_sum_whoever_changes_it(changes: list[tuple[int, int, int]]) -> None:
    table = Table.create(3)
    try:
        endpoints = [Endpoint(number, f"e{number}", "http://e/v1", connected=True) for number in range(1, 5)]
        pools = [pool_of(table, worker, *endpoints) for worker in range(3)]
        expected = dict.fromkeys(range(1, 5), 0)
        for worker, endpoint, change in changes:
            pools[worker].states[endpoint].inflight += change
            expected[endpoint] += change
        for pool in pools:
            assert {eid: state.inflight for eid, state in pool.states.items()} == expected
    finally:
        os.close(table.fileno)


# -- caps and strategies -----------------------------------------------------------------------------------------------


def test_a_cap_counts_what_all_have_in_flight(table: Table) -> None:
    one, other = pool_of(table, 0), pool_of(table, 1)
    leases = [one.acquire(ANY, 0.0), other.acquire(ANY, 0.0)]
    for pool in (one, other):
        with pytest.raises(AllBusy, match="2 in flight"):
            pool.acquire(ANY, 0.0)
    leases[1].release(Outcome.SUCCESS, 1.0)
    one.acquire(ANY, 1.0).release(Outcome.SUCCESS, 1.0)
    leases[0].release(Outcome.SUCCESS, 1.0)
    assert not any(table.inflight(1))


def test_whom_others_filled_since_the_last_look_is_not_chosen(table: Table) -> None:
    endpoints = [
        Endpoint(number, f"e{number}", "http://e/v1", connected=True, max_concurrent=1, priority_order=number)
        for number in (1, 2, 3)
    ]
    one, other = (pool_of(table, worker, *endpoints, strategy="priority") for worker in (0, 1))
    picked = [pool.acquire(ANY, 0.0).endpoint.id for pool in (one, other, one)]
    assert picked == [1, 2, 3]
    for pool in (one, other):
        with pytest.raises(AllBusy):
            pool.acquire(ANY, 0.0)
    assert [sum(table.inflight(number)) for number in (1, 2, 3)] == [1, 1, 1]


def test_least_loaded_sees_the_load_of_all(table: Table) -> None:
    endpoints = [Endpoint(number, f"e{number}", "http://e/v1", connected=True) for number in (1, 2)]
    one, other = (pool_of(table, worker, *endpoints, strategy="least_loaded") for worker in (0, 1))
    picked = [one.acquire(ANY, 0.0).endpoint.id, other.acquire(ANY, 0.0).endpoint.id]
    assert sorted(picked) == [1, 2]


async def test_a_waiting_request_notices_room_made_elsewhere(table: Table) -> None:
    one, other = pool_of(table, 0), pool_of(table, 1)
    leases = [other.acquire(ANY, 0.0), other.acquire(ANY, 0.0)]
    queue = AdmissionQueue(one, 1, 30.0, time.monotonic, WorkerNumbers(table, 0))
    waiting = asyncio.create_task(queue.admit(ANY))
    while not queue.depth:
        await asyncio.sleep(0)
    assert WorkerNumbers(table, 2).waiting_elsewhere() == 1
    with pytest.raises(AllBusy):
        await AdmissionQueue(other, 1, 30.0, time.monotonic, WorkerNumbers(table, 2)).admit(ANY)
    leases[0].release(Outcome.SUCCESS, 1.0)
    lease = await asyncio.wait_for(waiting, 10)
    assert WorkerNumbers(table, 2).waiting_elsewhere() == 0
    lease.release(Outcome.SUCCESS, 2.0)


async def test_room_is_not_kept_by_who_makes_it_while_others_wait(table: Table) -> None:
    numbers = [WorkerNumbers(table, worker) for worker in (0, 1)]
    endpoint = Endpoint(1, "one", "http://one/v1", connected=True, max_concurrent=1)
    pools = [pool_of(table, worker, endpoint) for worker in (0, 1)]
    queues = [AdmissionQueue(pool, 100, 30.0, time.monotonic, own) for pool, own in zip(pools, numbers, strict=True)]
    first = pools[0].acquire(ANY, 0.0)
    served: list[int] = []

    async def one(worker: int) -> None:
        lease = await queues[worker].admit(ANY)
        served.append(worker)
        lease.release(Outcome.SUCCESS, time.monotonic())

    tasks = [asyncio.create_task(one(worker)) for worker in (0, 1) for _ in range(20)]
    while sum(queue.depth for queue in queues) < 40:
        await asyncio.sleep(0)
    first.release(Outcome.SUCCESS, 0.0)
    await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert {0, 1} == set(served[:20]), "both get some from the beginning"


# -- what is told ------------------------------------------------------------------------------------------------------


class Ear:
    """A channel that remembers."""

    def __init__(self) -> None:
        self.told: list[Message] = []

    def tell(self, message: Message) -> None:
        self.told.append(unpack(pack(message)[4:]))


def agreed(now: float) -> tuple[EndpointPool, StoredResponses, Agreement, Ear]:
    pool, stored, ear = EndpointPool(fail_threshold=2, cooldown_seconds=20.0), StoredResponses(), Ear()
    pool.apply([Endpoint(number, f"e{number}", f"http://e{number}/v1", connected=True) for number in (1, 2)])
    return pool, stored, Agreement(pool, stored, ear, lambda: now), ear


def fail(pool: EndpointPool, now: float, **given: Any) -> None:
    lease = pool.acquire(RouteRequest(None, pinned_to=1), now)
    lease.release(given.pop("outcome", Outcome.FAILED), now, error="broke", **given)


def test_a_cooldown_is_the_same_in_all_and_ends_in_all() -> None:
    one, _, _, ear = agreed(100.0)
    other, _, heard, other_ear = agreed(100.0)
    for _ in range(2):
        fail(one, 100.0)
    for message in ear.told:
        assert heard.hear(message)
    state = other.states[1]
    assert (state.breaker.state, state.breaker.open_until, state.last_error) == (BreakerState.OPEN, 120.0, "broke")
    assert other_ear.told == [], "what was heard is not told again"
    ear.told.clear()
    test = one.acquire(RouteRequest(None, pinned_to=1), 121.0)
    for message in ear.told:
        heard.hear(message)
    assert not state.breaker.admits(101.9), "one test at a time"
    ear.told.clear()
    test.committed(122.0)
    for message in ear.told:
        heard.hear(message)
    assert state.breaker.state is BreakerState.CLOSED and state.breaker.failures == 0
    test.release(Outcome.SUCCESS, 123.0)


def test_a_failed_test_makes_the_cooldown_longer_in_all() -> None:
    one, _, _, ear = agreed(100.0)
    other, _, heard, _ = agreed(100.0)
    fail(one, 100.0), fail(one, 100.0), fail(one, 121.0)
    for message in ear.told:
        heard.hear(message)
    assert other.states[1].breaker.open_until == one.states[1].breaker.open_until == 161.0
    assert other.states[1].breaker.next_seconds == 40.0


def test_throttling_and_refused_credentials_are_told() -> None:
    one, _, _, ear = agreed(100.0)
    other, _, heard, _ = agreed(100.0)
    first, second = (one.acquire(RouteRequest(None, pinned_to=1), 100.0) for _ in range(2))
    first.release(Outcome.REJECTED, 100.0, retry_after_seconds=7.0)
    second.release(Outcome.FAILED, 100.0, credentials=True)
    for message in ear.told:
        heard.hear(message)
    state = other.states[1]
    assert (state.throttled_until, state.credentials_refused) == (107.0, True)
    assert state.breaker.state is BreakerState.CLOSED, "one strike of another is no cooldown here"


def test_a_newcomer_hears_all_troubles_and_conversations() -> None:
    one, stored, told, _ = agreed(100.0)
    fail(one, 100.0), fail(one, 100.0)
    stored.keep("resp_1", 2)
    other, kept, heard, _ = agreed(100.0)
    for message in told.everything():
        assert heard.hear(unpack(pack(message)[4:]))
    assert other.states[1].breaker.state is BreakerState.OPEN
    assert kept.keeper("resp_1") == 2


def test_what_is_told_of_another_backend_does_not_count() -> None:
    one, _, _, ear = agreed(100.0)
    other, _, heard, _ = agreed(100.0)
    other.apply([Endpoint(1, "e1", "http://new/v1", connected=True)])
    fail(one, 100.0), fail(one, 100.0)
    for message in ear.told:
        heard.hear(message)
    assert other.states[1].breaker.state is BreakerState.CLOSED


@settings(max_examples=40)
@given(st.text(), st.text(), st.integers(0, 2**53), st.lists(st.text(max_size=5), max_size=3))
def test_endpoints_and_tokens_survive_the_way(name: str, key: str, number: int, models: list[str]) -> None:
    endpoint = Endpoint(number, name, "http://e/v1", key, models=tuple(models), model_aliases={name: key})
    assert endpoint_of(unpack(pack(["configuration", endpoint_row(endpoint)])[4:])[1]) == endpoint
    digest, token = token_of(unpack(pack(token_row(b"\x00\xff", ClientToken(number, name)))[4:]))
    assert (digest, token.id, token.name) == (b"\x00\xff", number, name)


# -- replay ------------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(), max_size=8)  # halves of surrogate pairs included
usages = st.none() | st.builds(Usage, st.integers(0, 9), st.integers(0, 9), st.sampled_from(list(Provenance)))
attempts = st.builds(
    AttemptRecord,
    st.integers(1, 3),  # the third is not there any more
    texts,
    st.floats(0, 9),
    st.sampled_from([outcome.value for outcome in Outcome]),
    texts,
    st.booleans(),
    st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
)
records = st.builds(
    RequestRecord,
    number=st.just(1),
    at=st.floats(1e9, 2e9),
    request_id=texts,
    client=st.just("env-1"),
    operation=st.sampled_from(["chat", "embeddings"]),
    model=st.none() | texts,
    upstream_model=st.none() | texts,
    endpoint_id=st.none() | st.integers(1, 2),
    endpoint=st.none() | texts,
    attempts=st.lists(attempts, max_size=3),
    streamed=st.booleans(),
    status=st.sampled_from([200, 429, 499, 502]),
    first_byte_seconds=st.none() | st.floats(0, 9),
    total_seconds=st.floats(0, 9),
    overhead_seconds=st.none() | st.floats(0, 1),
    usage=usages,
    error=st.sampled_from(["", "broke"]),
)


@settings(max_examples=60)
@given(st.lists(st.tuples(records, st.integers(0, 5)), max_size=5))
def test_what_is_replayed_is_counted_as_if_it_had_happened_here(given: list[tuple[RequestRecord, int]]) -> None:
    here, there = _Counted(), _Counted()
    replay = Replay(there.pool, there.traffic, there.tokens)
    outbox = Outbox(lambda: None)
    for place, (record, live) in enumerate(given):
        for counting in (here.traffic, outbox):
            counting.completion_passed(1, 50.0, live)
        numbered = record._replace(number=place + 1)
        for count, client in ((here.traffic, here.client), (outbox, there.client)):
            count.request_finished(numbered, client, 50.0, error_class="", counted_tokens=live)
        here.count(record)
    while (message := outbox.take(50.0)) is not None:
        _, now, passed, finished = unpack(pack(message)[4:])
        for endpoint_id, tokens in passed:
            replay.passed(endpoint_id, tokens, now)
        for row in finished:
            replay.finished(row)
    assert there.told() == here.told()


class _Counted:
    """All that a request is counted in."""

    def __init__(self) -> None:
        self.pool = EndpointPool()
        self.pool.apply([Endpoint(number, f"e{number}", "http://e/v1", connected=True) for number in (1, 2)])
        self.now = 0.0
        self.traffic = Traffic(lambda: 1e9)
        self.tokens = ClientTokens(["token"])
        self.client = next(iter(self.tokens))

    def count(self, record: RequestRecord) -> None:
        """What leases count."""
        for place, attempt in enumerate(record.attempts):
            if attempt.endpoint_id in self.pool.states:
                self.now += 1000.0  # no cooldown is that long
                lease = self.pool.acquire(RouteRequest(None, pinned_to=attempt.endpoint_id), self.now)
                usage = record.usage if place == len(record.attempts) - 1 else None
                lease.release(Outcome(attempt.outcome), self.now + attempt.seconds, usage)

    def told(self) -> list[Any]:
        traffic, client = self.traffic, self.client
        names = ("total_requests", "total_success", "total_failures", "prompt_tokens_total", "completion_tokens_total")
        states = [[getattr(state, name) for name in names] for state in self.pool.states.values()]
        points = [list(traffic.total.points(52.0)), *(list(each.points(52.0)) for each in traffic.by_endpoint.values())]
        counts = (traffic.requests, traffic.errors, traffic.attempts, traffic.panics, traffic.failovers, traffic.tokens)
        histograms = [each.counts for each in (traffic.first_byte, traffic.duration, traffic.overhead)]
        used = (client.requests, client.prompt_tokens, client.completion_tokens, client.last_used_at)
        return [states, points, counts, histograms, used, list(traffic.log), sorted(traffic.minutes)]


def test_a_revoked_client_is_still_charged_for_what_it_used() -> None:
    counted = _Counted()
    token = ClientToken(7, "app")
    counted.tokens.replace([(b"digest" * 6, token)], rows_exist=True)
    replay, outbox = Replay(counted.pool, counted.traffic, counted.tokens), Outbox(lambda: None)
    record = RequestRecord(
        *(1, 1e9, "r", "app", "chat", None, None, None, None, [], False, 200, None, 0.1, None, Usage(1, 2), "")
    )
    for _ in range(2):
        outbox.request_finished(record, token, 1.0, error_class="", counted_tokens=0)
        message = outbox.take(1.0)
        assert message is not None
        replay.finished(unpack(pack(message)[4:])[3][0])
        counted.tokens.revoke(7)
    assert (token.requests, token.completion_tokens) == (2, 4)


def test_what_is_told_late_does_not_undo_the_minute_that_is_stored() -> None:
    counted = _Counted()
    replay, outbox = Replay(counted.pool, counted.traffic, counted.tokens), Outbox(lambda: None)
    counted.traffic.earliest_minute = 1_000_000_080
    record = RequestRecord(
        *(1, 1_000_000_079.9, "r", "env-1", "chat", None, None, 1, "e1", []),
        *(False, 200, None, 0.1, None, Usage(1, 2), ""),
    )
    outbox.request_finished(record, counted.client, 1.0, error_class="", counted_tokens=0)
    message = outbox.take(1.0)
    assert message is not None
    replay.finished(unpack(pack(message)[4:])[3][0])
    assert [minute for minute, _ in counted.traffic.minutes] == [1_000_000_080]


def test_without_a_lead_the_newest_are_kept_and_the_loss_is_known() -> None:
    filled: list[None] = []
    outbox = Outbox(lambda: filled.append(None), most_kept=3)
    client = ClientToken(None, "env-1")
    for number in range(5):
        record = RequestRecord(number, *([None] * 16))  # type: ignore[arg-type]
        outbox.request_finished(record, client, 0.0, error_class="", counted_tokens=0)
    assert (outbox.finished, outbox.lost, len(filled)) == (5, 2, 1)
    message = outbox.take(0.0)
    assert message is not None
    assert [row[0].number for row in message[3]] == [2, 3, 4]
    assert outbox.take(0.0) is None


# -- figures -----------------------------------------------------------------------------------------------------------


def test_budgets_are_added_up(table: Table) -> None:
    own, others = RetryBudget(20.0), RetryBudget(20.0)
    own.active_requests, others.active_requests = 10, 100
    assert own.try_retry() and others.try_retry()
    publish_budget(others, WorkerNumbers(table, 1))
    whole = WholeBudget(own, WorkerNumbers(table, 0))
    assert (whole.active_requests, whole.active_retries, whole.limit, whole.refused_total) == (110, 2, 23, 0)


def test_connections_of_clients_are_added_up(table: Table) -> None:
    own, others = Reception(), Reception()
    own.refused["client"], others.refused["client"], others.given_up["body"] = 2, 3, 4
    publish_clients(others, WorkerNumbers(table, 1))
    lead = WorkerNumbers(table, 0)
    assert dict(WholeCounts(own.refused, "refused", lead)) == {"total": 0, "client": 5}
    assert dict(WholeCounts(own.given_up, "given_up", lead)) == {"head": 0, "body": 4}


def test_metrics_of_workers(table: Table) -> None:
    WorkerNumbers(table, 2).publish(Field.PHASE, Phase.SERVING)
    table.of_all(Field.RESTARTS)[1] = 4
    samples = {
        (s.name, *s.labels.values()): s.value for each in WorkersCollector(table).collect() for s in each.samples
    }
    assert samples["lb_workers",] == 1
    assert samples["lb_worker_restarts_total", "1"] == 4


# -- the breaker -------------------------------------------------------------------------------------------------------


def test_a_breaker_follows_but_never_opens_for_less() -> None:
    breaker = Breaker(3, 20.0)
    breaker.follow(3, 50.0, 20.0)
    breaker.follow(3, 40.0, 20.0)
    assert (breaker.state, breaker.open_until) == (BreakerState.OPEN, 50.0)
    breaker.hold(60.0)
    assert not breaker.admits(59.0) and breaker.admits(60.0)
    late = Breaker(3, 20.0)
    ticket = late.issue(0.0)
    late.follow(3, 50.0, 20.0)
    late.failed(ticket, 1.0)
    assert late.open_until == 50.0, "what was under way says nothing new"


# -- the supervisor ----------------------------------------------------------------------------------------------------

_WORKER = """
import json, os, pathlib, signal, socket, sys
place = json.loads(sys.argv[1])
control = socket.socket(fileno=place["control"])
if pathlib.Path("dies").exists():
    sys.exit(3)
pathlib.Path("worker-%d" % place["number"]).write_text(str(os.getpid()))
control.send(b"r")
control.recv(1)
pathlib.Path("stopped-%d" % place["number"]).touch()
"""


class Supervised:
    """A supervisor of two tiny workers."""

    def __init__(self, directory: Path, table: Table) -> None:
        self.directory = directory
        (directory / "meet").mkdir()
        plan = {
            "workers": 2,
            "command": [sys.executable, "-c", _WORKER],
            "pause_seconds": 0.001,
            "sockets": [[], []],
            "admin_sockets": [],
            "links": table.fileno,
            "pages": table.fileno,
            "table": table.fileno,
            "directory": str(directory / "meet"),
            "url": "http://here",
            "drain_seconds": 1,
            "log_level": "INFO",
            "log_format": "text",
        }
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "balancer.workers.supervisor", json.dumps(plan)],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                pass_fds=[table.fileno],
                stderr=log,
            )

    def wait_until_complete(self) -> None:
        """Returns when both workers serve."""
        deadline = time.monotonic() + 60
        while "listening on" not in self._log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def pid(self, worker: int, besides: int = 0) -> int:
        """The process of a worker, as soon as there is one besides that."""
        deadline = time.monotonic() + 60
        while True:
            with suppress(FileNotFoundError, ValueError):
                if (found := int((self.directory / f"worker-{worker}").read_text())) != besides:
                    return found
            assert time.monotonic() < deadline, f"worker {worker} did not come"
            time.sleep(0.005)

    def ended(self) -> tuple[int, str]:
        """Exit code and what was logged."""
        return self.process.wait(60), self._log.read_text()


@pytest.fixture
def supervised(tmp_path: Path, table: Table) -> Iterator[Supervised]:
    running = Supervised(tmp_path, Table(table.fileno, 2))
    yield running
    running.process.kill()
    running.process.wait()


def test_a_dead_worker_is_replaced_and_all_stop_at_the_signal(supervised: Supervised, table: Table) -> None:
    seen = Table(table.fileno, 2)
    supervised.wait_until_complete()
    first = supervised.pid(1)
    seen.inflight(3)[1] = 9
    seen.of_all(Field.HIGHEST)[1] = 3
    os.kill(first, 9)
    supervised.pid(1, besides=first)
    assert list(seen.inflight(3)) == [0, 0]
    assert list(seen.of_all(Field.RESTARTS)) == [0, 1]
    supervised.process.terminate()
    code, logged = supervised.ended()
    assert code == 0, logged
    assert f"worker 1 (pid {first}) ended by SIGKILL" in logged and "listening on http://here with 2" in logged
    assert not (supervised.directory / "meet").exists()


def test_a_worker_that_dies_again_and_again_ends_the_whole(supervised: Supervised) -> None:
    supervised.wait_until_complete()
    first = supervised.pid(0)
    (supervised.directory / "dies").touch()
    os.kill(first, 9)
    code, logged = supervised.ended()
    assert code == 1 and "died 5 times in a row before it could serve: giving up" in logged
    assert (supervised.directory / "stopped-1").exists(), "the other could finish what it did"


def test_workers_that_cannot_start_are_not_tried_again(tmp_path: Path, table: Table) -> None:
    (tmp_path / "dies").touch()
    code, logged = Supervised(tmp_path, Table(table.fileno, 2)).ended()
    assert code == 1 and "could not start: giving up" in logged and "replaced" not in logged
