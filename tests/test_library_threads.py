"""The synchronous face: many threads, closing, interrupts, forks, garbage, and the end of the process."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from balancer import Attempt, BalancingStrategy, Endpoint, LoadBalancer
from tests.library_parts import DEADLINE_SECONDS, MESSAGES, QUIET, Backends, endpoint, until
from tests.raw_server import stays_silent

ROOT = Path(__file__).parent.parent
THREADS, CALLS = 32, 200


def balancer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "balancer"]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def test_many_threads_with_one_endpoint_failing() -> None:
    attempts: Counter[tuple[str, str]] = Counter()
    with Backends() as backends:
        fakes = [backends.fake(name=name) for name in ("a", "b", "bad")]
        fakes[2].behaviour = fakes[2].behaviour.changed({"fault": "status", "fault_status": 500})
        LoadBalancer([endpoint(fakes[0])], **QUIET).close()  # the first event loop opens a pipe for the whole process
        before = open_files()
        balancer = LoadBalancer(
            [endpoint(each) for each in fakes],
            on_attempt=lambda attempt: attempts.update([(attempt.endpoint, attempt.outcome)]),
            **QUIET,
        )

        def call_often(_: int) -> Counter[str | None]:
            results = (balancer.chat(MESSAGES, model="fake-model") for _ in range(CALLS))
            return Counter(result["endpoint"] for result in results if result["success"])

        with ThreadPoolExecutor(THREADS) as pool:
            served = sum(pool.map(call_often, range(THREADS)), Counter[str | None]())
        stats = balancer.get_stats()
        balancer.close()
        until(lambda: all(each.stats.connections == 0 for each in fakes))
        until(lambda: open_files() <= before)
        received = {each.behaviour.name: each.stats.requests["/v1/chat/completions"] for each in fakes}
    total = THREADS * CALLS
    assert served.total() == total and set(served) == {"a", "b"}
    assert abs(served["a"] - served["b"]) < total / 10
    by_name = {each["name"]: each for each in stats["endpoints"]}
    assert {name: each["total_success"] for name, each in by_name.items()} == {**served, "bad": 0}
    assert {name: each["total_requests"] for name, each in by_name.items()} == received
    assert {name: each["active_connections"] for name, each in by_name.items()} == dict.fromkeys(by_name, 0)
    assert stats["total_requests"] == total + by_name["bad"]["total_failures"]
    assert 3 <= by_name["bad"]["total_failures"] < THREADS * 4
    assert (stats["healthy_endpoints"], by_name["bad"]["is_healthy"]) == (2, False)
    assert attempts.total() == stats["total_requests"] and attempts["bad", "success"] == 0
    assert balancer_threads() == []


def test_the_calls_of_the_synchronous_face() -> None:
    with Backends() as backends:
        one, two = backends.fake(name="one"), backends.fake(name="two")
        with LoadBalancer([endpoint(one)], BalancingStrategy.WEIGHTED, **QUIET) as balancer:
            assert repr(balancer) == "<LoadBalancer: <EndpointPool weighted: 1 endpoints, 1 eligible, 0 inflight>>"
            assert balancer.chat(messages=MESSAGES)["endpoint"] == "one"
            assert len(balancer.embed(["a", "b"])["embeddings"]) == 2
            assert balancer.models() == ["fake-model"]
            balancer.add_endpoint(endpoint(two))
            assert balancer.remove_endpoint(one.base_url) and not balancer.remove_endpoint(one.base_url)
            assert balancer.chat(MESSAGES)["endpoint"] == "two"
        with pytest.raises(RuntimeError, match="the balancer is closed"):
            balancer.chat(MESSAGES)
        balancer.close()
        assert balancer.get_stats()["total_success"] == 1


def test_inside_a_running_event_loop_as_in_a_notebook() -> None:
    with Backends() as backends:
        one = backends.fake()

        async def cell() -> dict[str, Any]:
            with LoadBalancer([endpoint(one)], **QUIET) as balancer:
                return dict(balancer.chat(MESSAGES))

        assert asyncio.run(cell())["success"]


def test_closing_wakes_those_who_wait() -> None:
    with Backends() as backends:
        silent = backends.raw(stays_silent)
        balancer = LoadBalancer([Endpoint(silent.url, name="silent", max_connections=2)], **QUIET)
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(balancer.chat, MESSAGES, model="m") for _ in range(4)]
            until(lambda: silent.running == 2)
            began_at = time.monotonic()
            balancer.close()
            for call in calls:
                try:
                    assert not call.result(DEADLINE_SECONDS)["success"]
                except RuntimeError as error:  # it was not even at an endpoint
                    assert "closed" in str(error)
            assert time.monotonic() - began_at < DEADLINE_SECONDS
        assert balancer_threads() == []


def test_calls_from_on_attempt_are_refused_rather_than_wait_for_ever() -> None:
    told: list[str] = []

    def call_again(_: Attempt) -> None:
        try:
            balancer.chat(MESSAGES)
        except RuntimeError as error:
            told.append(str(error))

    with (
        Backends() as backends,
        LoadBalancer([endpoint(backends.fake())], on_attempt=call_again, **QUIET) as balancer,
    ):
        assert balancer.chat(MESSAGES)["success"]
    assert len(told) == 1 and "own thread" in told[0]


def test_a_dropped_balancer_ends_its_thread() -> None:
    balancer = LoadBalancer([Endpoint("http://127.0.0.1:9")], **QUIET)
    balancer.chat(MESSAGES, model="m")
    assert len(balancer_threads()) == 1
    del balancer
    gc.collect()
    until(lambda: not balancer_threads())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl+C is heard, also where the tests run in the background of a shell, which lets its jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_call_gives_its_endpoint_back() -> None:
    with Backends() as backends:
        silent = backends.raw(stays_silent)
        with LoadBalancer([Endpoint(silent.url, name="silent")], **QUIET) as balancer:

            def interrupt() -> None:
                until(lambda: silent.running == 1)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                balancer.chat(MESSAGES, model="m")
            thread.join()
            until(lambda: silent.running == 0)
            assert balancer.get_stats()["endpoints"][0]["active_connections"] == 0


def _in_a_child(balancer: LoadBalancer, answers: Any) -> None:
    try:
        balancer.chat(MESSAGES)
    except RuntimeError as error:
        answers.put(str(error))
    balancer.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_rather_than_left_waiting() -> None:
    context = multiprocessing.get_context("fork")
    with Backends() as backends, LoadBalancer([endpoint(backends.fake())], **QUIET) as balancer:
        answers = context.Queue()
        child = context.Process(target=_in_a_child, args=(balancer, answers))
        child.start()
        assert "another process" in answers.get(timeout=10)
        child.join(10)
        assert child.exitcode == 0
        assert balancer.chat(MESSAGES)["success"]


SCRIPT = """
import sys, threading
from balancer import Endpoint, LoadBalancer
silent, fake, what = sys.argv[1:]
messages = [{"role": "user", "content": "hello"}]
balancer = LoadBalancer([Endpoint(fake, name="fake")])
assert balancer.chat(messages)["success"]
other = LoadBalancer([Endpoint(silent, name="silent")])
if what == "in use":
    threading.Thread(target=other.chat, args=(messages,), kwargs={"model": "m"}, daemon=True).start()
    stream = balancer.chat(messages, stream=True)
    next(stream)
elif what == "closed":
    balancer.close(); other.close()
elif what == "failed":
    sys.exit(3)
print("done")
"""


@pytest.mark.parametrize("what", ["idle", "in use", "closed", "failed"])
def test_the_end_of_the_process_is_quick_and_quiet(what: str) -> None:
    with Backends() as backends:
        fake, silent = backends.fake(tpot_seconds=0.5), backends.raw(stays_silent)
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT, silent.url, fake.base_url, what]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, env=environ, check=False)
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == ((3, "") if what == "failed" else (0, "done\n"))
