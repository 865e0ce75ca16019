"""The engine against a fake backend: every load, every rule that ends a run, every way to fail."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from load_tester.engine.inquiries import list_models
from load_tester.engine.ledger import MOST_ROWS, RECENT, Ledger
from load_tester.engine.targets import TargetRules, pin
from load_tester.errors import BadInput, NotFound
from load_tester.measures.records import Failure
from load_tester.plan.cards import Caps, Card
from load_tester.plan.prompt_sets import parse_prompt_set
from tests.fakes import FakeServer
from tests.load_parts import answered, load, outcome, prepared
from tests.raw_server import RawServer, read_request
from tests.running import RunningGateway, eventually, wired


def fake(**behaviour: Any) -> FakeServer:
    server = FakeServer()
    server.behaviour = server.behaviour.changed(behaviour)
    return server


class TestLoads:
    async def test_closed_loop_keeps_so_many_under_way(self) -> None:
        async with fake(ttft_seconds=0.02) as backend:
            run = await load(backend, load={"kind": "closed", "concurrency": 4}, stop={"requests": 40})
            assert backend.stats.max_inflight == 4
        result = outcome(run)
        assert (result["reason"], result["totals"]["ok"], result["summary"]["in_flight_peak"]) == ("requests", 40, 4)
        assert result["summary"]["latencies"]["e2e_star"]["n"] == 0
        assert result["connections_opened"] == 4

    async def test_an_open_loop_sends_by_its_plan_whatever_the_answers_do(self) -> None:
        async with fake(ttft_seconds=0.3) as backend:
            run = await load(backend, load={"kind": "constant", "rate": 50}, stop={"requests": 25})
            assert backend.stats.max_inflight > 10
        records = sorted(run.cards[0].ledger.rows, key=lambda record: record.number)
        planned = [(record.scheduled_ns - records[0].scheduled_ns) / 1e9 for record in records]
        assert planned == pytest.approx([n / 50 for n in range(25)], abs=1e-6)
        assert all(record.sent_ns >= record.scheduled_ns for record in records)

    async def test_a_limit_makes_requests_wait_and_the_wait_is_counted(self) -> None:
        async with fake(ttft_seconds=0.05) as backend:
            limited = {"kind": "batch", "batch": 8, "delay_ms": 10_000, "max_in_flight": 2}
            run = await load(backend, load=limited, stop={"requests": 8})
            assert backend.stats.max_inflight == 2
        latencies = outcome(run)["summary"]["latencies"]
        # Four rounds of two: the last ones were due three rounds before they were sent.
        assert latencies["queue"]["max"] > 140
        assert latencies["e2e_star"]["max"] > latencies["e2e"]["max"] + 100

    async def test_the_cap_of_connections_limits_what_has_no_limit(self) -> None:
        async with fake(ttft_seconds=0.1) as backend:
            card = {"url": backend.base_url, "load": {"kind": "constant", "rate": 200}, "stop": {"seconds": 0.5}}
            run = await prepared({**card, "drain_seconds": 0}, caps=Caps(connections=3))
            await run.run()
            assert backend.stats.max_inflight == 3
        (badge,) = [badge for badge in outcome(run)["badges"] if badge["id"] == "rate_not_reached"]
        assert "limit of 3 in flight" in badge["text"]

    async def test_a_rate_that_this_machine_cannot_reach_is_told(self) -> None:
        async with fake() as backend:
            card = {"url": backend.base_url, "load": {"kind": "constant", "rate": 500_000}, "stop": {"seconds": 0.4}}
            run = await prepared({**card, "drain_seconds": 0}, caps=Caps(rate=1e6, connections=50))
            await run.run()
        result = outcome(run)
        # All that was due until it ended, tried or not.
        assert result["totals"]["planned"] == pytest.approx(500_000 * result["window"]["ended_seconds"], rel=0.1)
        assert "rate_not_reached" in {badge["id"] for badge in result["badges"]}

    async def test_all_at_once(self) -> None:
        async with fake(ttft_seconds=1.0) as backend:
            await load(backend, load={"kind": "batch", "batch": 1}, stop={"requests": 30})
            assert backend.stats.max_inflight == 30

    async def test_a_ramp_rises_and_its_rise_is_not_measured(self) -> None:
        ramp = {"kind": "ramp", "start": 1, "end": 6, "seconds": 0.5}
        async with fake(ttft_seconds=0.02) as backend:
            run = await load(backend, load=ramp, stop={"seconds": 2})
        result = outcome(run)
        assert 0.49 <= result["window"]["begun_seconds"] < 1.9
        assert result["summary"]["in_flight_peak"] == 6
        assert result["totals"]["sent"] > result["summary"]["sent"]

    async def test_stages_have_figures_of_their_own_and_an_end(self) -> None:
        stages = [{"seconds": 0.5, "end": 20}, {"seconds": 0.5, "end": 60}]
        async with fake() as backend:
            run = await load(backend, load={"kind": "stages", "stages": stages})
        result = outcome(run)
        first, second = (segment["summary"] for segment in result["segments"])
        assert result["reason"] == "stages"
        # 10 and 30 by the plan; a busy machine may move the moment between them, and that of the beginning.
        assert 0 < first["sent"] < 40 and 30 <= first["sent"] + second["sent"] <= 40
        assert result["totals"]["ok"] == 40

    async def test_poisson_is_the_same_for_the_same_seed(self) -> None:
        async def schedule(seed: int) -> list[int]:
            run = await load(backend, load={"kind": "poisson", "rate": 200}, stop={"requests": 30}, seed=seed)
            times = sorted(record.scheduled_ns for record in run.cards[0].ledger.rows)
            return [round((time - times[0]) / 1000) for time in times]

        async with fake() as backend:
            assert await schedule(1) == await schedule(1) != await schedule(2)

    async def test_a_sweep_finds_where_a_backend_saturates(self) -> None:
        # Every request in flight beyond the first slows all down by a quarter: power peaks early.
        async with fake(ttft_seconds=0.02, slowdown_per_inflight=0.25) as backend:
            sweep = {"kind": "sweep", "most": 32, "step_seconds": 0.5}
            run = await load(backend, load=sweep, slo={"ttft_p95": "10s"}, max_tokens=1)
        result = outcome(run)
        levels = [segment["level"] for segment in result["segments"]]
        assert levels[:3] == [1, 2, 4]
        assert all(segment["summary"]["ok"] for segment in result["segments"])
        assert result["sweep"]["saturated"]
        assert 2 <= result["sweep"]["suggestion"]["max_concurrent"] <= 12
        assert result["slo_met"] is True
        assert result["reason"] == "sweep"

    async def test_the_load_changes_while_it_runs(self) -> None:
        async with fake(ttft_seconds=0.01) as backend:
            run = await prepared({"url": backend.base_url, "load": {"kind": "closed", "concurrency": 1}})
            task = run.start()
            await backend.wait_for(lambda stats: stats.total_requests > 3)
            assert backend.stats.max_inflight == 1
            run.change(0, {"load": {"kind": "closed", "concurrency": 5}})
            await backend.wait_for(lambda stats: stats.max_inflight == 5)
            run.change(0, {"load": {"kind": "constant", "rate": 100}, "stop": {"requests": 1000}})
            await eventually(lambda: run.cards[0].ledger.planned > 5)
            with pytest.raises(BadInput, match="LT_MAX_CONNECTIONS"):
                run.change(0, {"load": {"kind": "closed", "concurrency": 90_000}})
            run.stop()
            await task
        result = outcome(run)
        assert [change["fields"] for change in result["changes"]] == [["load"], ["load", "stop"]]
        assert {"changed", "interrupted"} <= {badge["id"] for badge in result["badges"]}
        assert run.state == "stopped"

    async def test_stages_keep_their_figures_when_something_else_changes(self) -> None:
        stages = [{"seconds": 0.4, "end": 20}] * 3
        async with fake() as backend:
            run = await prepared({"url": backend.base_url, "load": {"kind": "stages", "stages": stages}})
            task = run.start()
            await eventually(lambda: run.cards[0].ledger.ok > 0)
            run.change(0, {"stop": {"errors": 100}})
            await asyncio.wait_for(task, 10)
        assert [segment["label"] for segment in outcome(run)["segments"]] == ["stage 1", "stage 2", "stage 3"]

    async def test_other_stages_have_figures_of_their_own_too(self) -> None:
        async with fake() as backend:
            first = {"kind": "stages", "stages": [{"seconds": 60, "end": 20}]}
            run = await prepared({"url": backend.base_url, "load": first})
            task = run.start()
            await eventually(lambda: run.cards[0].ledger.ok > 0)
            run.change(0, {"load": {"kind": "stages", "stages": [{"seconds": 0.2, "end": 30}] * 2}})
            await asyncio.wait_for(task, 10)
        assert [segment["level"] for segment in outcome(run)["segments"]] == [20, 30, 30]

    async def test_prompts_of_another_file_are_not_taken_up_under_way(self) -> None:
        sets = {name: parse_prompt_set(f'"{name}"'.encode()) for name in "ab"}
        async with fake(ttft_seconds=0.01) as backend:
            card = {"url": backend.base_url, "prompt": {"kind": "set", "set": "a"}}
            run = await prepared(card, sets=sets)
            task = run.start()
            await eventually(lambda: run.cards[0].ledger.ok > 0)
            with pytest.raises(BadInput, match=r"prompt.set: cannot be changed"):
                run.change(0, {"prompt": {"kind": "set", "set": "b"}})
            run.stop()
            await task
        assert outcome(run)["changes"] == [] and outcome(run)["card"]["prompt"]["set"] == "a"


class TestTheEnd:
    async def test_after_so_many_failures(self) -> None:
        async with fake(fault="status", fault_status=503) as backend:
            run = await load(backend, stop={"errors": 5})
        assert outcome(run)["reason"] == "errors"
        assert outcome(run)["totals"]["failed"] == 5

    async def test_after_so_many_tokens(self) -> None:
        async with fake() as backend:
            run = await load(backend, stop={"tokens": 50}, max_tokens=10)
        assert outcome(run)["reason"] == "tokens"
        assert outcome(run)["totals"]["tokens_out"] == 50

    async def test_at_the_cap_where_it_has_no_end(self) -> None:
        async with fake() as backend:
            run = await prepared({"url": backend.base_url}, caps=Caps(seconds=0.2))
            await run.run()
            assert (outcome(run)["reason"], run.state) == ("cap", "stopped")
            run = await prepared({"url": backend.base_url}, caps=Caps(tokens=100))
            await run.run()
            assert outcome(run)["reason"] == "cap"

    async def test_the_drain_waits_for_answers(self) -> None:
        async with fake(ttft_seconds=0.3) as backend:
            run = await load(backend, stop={"seconds": 0.1}, drain_seconds=5)
        result = outcome(run)
        assert result["totals"]["ok"] == 1
        assert result["summary"]["completed"] == 0  # after the window, so in no rate
        assert result["summary"]["latencies"]["e2e"]["n"] == 1  # but in the latencies

    async def test_the_drain_has_an_end(self) -> None:
        async with fake(fault="stall_headers") as backend:
            run = await load(backend, stop={"seconds": 0.1}, drain_seconds=0.1)
            await backend.wait_for(lambda stats: stats.inflight == 0)
        result = outcome(run)
        assert (result["totals"]["cancelled"], result["totals"]["failed"]) == (1, 0)
        assert "cut_off" in {badge["id"] for badge in result["badges"]}

    async def test_the_time_limit_holds_when_the_last_request_was_sent(self) -> None:
        async with fake(fault="stall_headers") as backend:
            stop = {"requests": 1, "seconds": 0.2}
            run = await asyncio.wait_for(load(backend, stop=stop, drain_seconds=1), 10)
            card = {"url": backend.base_url, "stop": {"requests": 1}, "drain_seconds": 0.1}
            capped = await prepared(card, caps=Caps(seconds=0.2))
            await asyncio.wait_for(capped.run(), 5)
        result = outcome(run)
        assert (result["reason"], result["totals"]["cancelled"]) == ("requests", 1)
        assert result["window"]["ended_seconds"] < 1.0, "its end, not that of the drain"
        assert outcome(capped)["totals"]["cancelled"] == 1

    async def test_tokens_of_answers_that_break_off_count_for_the_limit(self) -> None:
        async with fake(fault="bad_json", fault_after=10) as backend:
            run = await asyncio.wait_for(load(backend, stop={"tokens": 50, "seconds": 5}, max_tokens=10), 8)
        assert outcome(run)["reason"] == "tokens"
        assert outcome(run)["totals"]["ok"] == 0

    async def test_stopping_by_hand_and_at_once(self) -> None:
        async with fake(ttft_seconds=30) as backend:
            run = await prepared({"url": backend.base_url, "load": {"kind": "closed", "concurrency": 3}})
            task = run.start()
            await backend.wait_for(lambda stats: stats.inflight == 3)
            run.stop()
            await eventually(lambda: run.cards[0].phase == "draining")
            run.stop(abort=True)
            await asyncio.wait_for(task, 5)
            await backend.wait_for(lambda stats: stats.connections == 0)
        assert outcome(run)["totals"]["cancelled"] == 3

    async def test_one_card_of_several(self) -> None:
        async with fake(ttft_seconds=0.01) as backend:
            card = {"url": backend.base_url}
            run = await prepared(card, {**card, "stop": {"requests": 20}})
            task = run.start()
            await eventually(lambda: run.cards[0].ledger.ok > 2)
            run.stop(card=0)
            with pytest.raises(NotFound):
                run.stop(card=2)
            await asyncio.wait_for(task, 10)
        assert [card["reason"] for card in run.result()["cards"]] == ["stopped", "requests"]

    async def test_a_run_shorter_than_its_warm_up_says_so(self) -> None:
        async with fake() as backend:
            run = await load(backend, warmup_seconds=60, slo={"ttft_p95": "1s"})
        result = outcome(run)
        assert result["summary"] is None and result["slo_met"] is False
        assert "warm-up" in result["problem"]

    async def test_warm_up_is_sent_and_not_measured(self) -> None:
        async with fake(ttft_seconds=0.01) as backend:
            run = await load(backend, warmup_seconds=0.3, stop={"seconds": 0.6})
            assert backend.stats.total_requests == run.cards[0].ledger.sent
        result = outcome(run)
        assert 0 < result["summary"]["sent"] < result["totals"]["sent"]
        assert 0.29 <= result["window"]["begun_seconds"] < 0.6


def test_of_very_many_requests_the_first_and_the_latest_are_kept() -> None:
    ledger = Ledger(())
    ledger.begin(1)
    ledger.open_window(1)
    for number in range(MOST_ROWS + 2 * RECENT):
        ledger.note_sent(number + 2)
        ledger.note_done(answered(number, sent_ns=number + 2, ended_ns=number + 3))
    numbers = [record.number for record in ledger.kept]
    assert numbers == [*range(MOST_ROWS), *range(MOST_ROWS + RECENT, MOST_ROWS + 2 * RECENT)]


def test_a_stage_waits_for_the_answers_to_what_was_sent_in_it() -> None:
    ledger = Ledger(())
    ledger.begin(1)
    ledger.open_window(1)
    for number in range(3):  # one request in each stage, none answered before the last one
        ledger.open_segment(f"stage {number + 1}", "rate", 1, 10 + number)
        ledger.note_sent(10 + number)
    for number in range(3):
        ledger.note_done(answered(number, sent_ns=10 + number, ended_ns=1_000 + number))
    ledger.end_window(2_000)
    assert [segment.tally.summary(2_000)["ok"] for segment in ledger.segments] == [1, 1, 1]
    assert [segment.tally.summary(2_000)["completed"] for segment in ledger.segments] == [0, 0, 3]


async def test_cards_together_need_open_files() -> None:
    card = {"url": "http://127.0.0.1:9/v1", "load": {"kind": "closed", "concurrency": 50}}
    with pytest.raises(BadInput, match="together they need 150 connections"):
        await prepared(card, card, card, caps=Caps(open_files=149))


class TestFailures:
    @pytest.mark.parametrize(
        ("behaviour", "fields", "failure", "words"),
        [
            ({"fault": "status", "fault_status": 429}, {}, Failure.STATUS_429, "429: The fake backend"),
            ({"fault": "status", "fault_status": 400}, {}, Failure.STATUS_4XX, "400: The fake backend"),
            ({"fault": "status", "fault_status": 502}, {}, Failure.STATUS_5XX, "502: The fake backend"),
            ({"fault": "redirect"}, {}, Failure.STATUS_3XX, "redirects are not followed"),
            ({"fault": "html"}, {}, Failure.NOT_AN_ANSWER, "web page"),
            ({"fault": "html"}, {"stream": False}, Failure.NOT_AN_ANSWER, "web page"),
            ({"fault": "malformed"}, {}, Failure.NOT_AN_ANSWER, "HTTP"),
            ({"fault": "bad_json", "fault_after": 2}, {}, Failure.NOT_AN_ANSWER, "not JSON"),
            ({"fault": "bad_json"}, {"stream": False}, Failure.NOT_AN_ANSWER, "not JSON"),
            ({"fault": "error_in_200", "fault_after": 2}, {}, Failure.IN_STREAM, "The fake backend was told to fail"),
            ({"fault": "error_in_200"}, {"stream": False}, Failure.IN_STREAM, "told to fail"),
            ({"fault": "cut", "fault_after": 2}, {}, Failure.TRUNCATED, "cut after"),
            ({"fault": "empty_stream"}, {}, Failure.EMPTY, "no output"),
            ({"fault": "empty_stream"}, {"stream": False}, Failure.EMPTY, "no body"),
            ({"fault": "reset"}, {}, Failure.CONNECT, "connection"),
            ({"fault": "stall_headers"}, {"timeout_seconds": 0.1}, Failure.TIMEOUT_FIRST_BYTE, "before answering"),
            ({"fault": "stall_body", "fault_after": 2}, {"timeout_seconds": 0.1}, Failure.TIMEOUT_SILENCE, "silent"),
            ({"api_key": "right"}, {}, Failure.STATUS_4XX, "401: Incorrect API key"),
            ({"models": ["other"]}, {"model": "mine"}, Failure.STATUS_4XX, "404: The model `mine` does not exist"),
        ],
    )
    async def test_each_has_its_class_and_its_words(
        self, behaviour: dict[str, Any], fields: dict[str, Any], failure: Failure, words: str
    ) -> None:
        async with fake(**behaviour) as backend:
            run = await load(backend, stop={"requests": 2}, **fields)
        (error,) = outcome(run)["summary"]["errors"]
        assert (error["class"], error["count"]) == (failure.value, 2)
        assert words in error["sample"]

    async def test_a_closed_port_is_not_hammered(self) -> None:
        async with fake() as backend:
            url = backend.base_url
        run = await load(url, load={"kind": "closed", "concurrency": 2}, stop={"seconds": 0.5})
        result = outcome(run)
        assert 2 <= result["totals"]["failed"] <= 12
        assert result["summary"]["errors"][0]["class"] == "connect"
        assert result["summary"]["errors"][0]["sample"] == "connection refused"

    async def test_tls_toward_a_plain_port(self) -> None:
        async with fake() as backend:
            url = backend.base_url.replace("http://", "https://")
            run = await load(url, stop={"requests": 1})
        assert outcome(run)["summary"]["errors"][0]["class"] == "tls"

    async def test_a_stream_without_finish_reason_is_truncated(self) -> None:
        event = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
        body = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(event).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body)

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(head + body)
            await writer.drain()

        async with RawServer(script) as server:
            run = await load(f"http://127.0.0.1:{server.port}/v1", stop={"requests": 1})
        assert "without a finish_reason" in outcome(run)["summary"]["errors"][0]["sample"]

    async def test_a_dead_kept_connection_is_replaced_silently(self) -> None:
        async with fake() as backend:
            run = await prepared(
                {"url": backend.base_url, "load": {"kind": "batch", "delay_ms": 200}, "stop": {"requests": 2}}
            )
            task = run.start()
            await eventually(lambda: run.cards[0].ledger.ok == 1)
            await backend.stop_listening()
            await backend.listen_again()
            await task
        assert outcome(run)["totals"]["ok"] == 2
        assert outcome(run)["connections_opened"] == 2


@pytest.mark.parametrize("room", [0, 290])
async def test_a_key_that_a_target_repeats_is_not_kept(room: int) -> None:
    key = "sk-very-secret-key-1234"
    text = json.dumps({"error": {"message": "x" * room + f" no such key: {key}, Bearer {key}"}}).encode()
    head = b"HTTP/1.1 401 No\r\nx-lb-endpoint: " + key.encode() + b"\r\nx-ratelimit-key: " + key.encode()
    answer = head + b"\r\ncontent-length: %d\r\n\r\n" % len(text) + text

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with RawServer(repeat) as server:
        run = await load(f"{server.url}/v1", key=key, stop={"requests": 1})
        models = await list_models(Card(url=f"{server.url}/v1"), await pin(f"{server.url}/v1", TargetRules()), key)
    assert outcome(run)["totals"]["failed"] == 1 and not models["ok"]
    shown = json.dumps([run.result(), run.live(), models, [str(each) for each in run.cards[0].ledger.rows]])
    assert "sk-very" not in shown


class TestWhatIsSent:
    async def test_the_body_and_the_key(self) -> None:
        async with fake(api_key="sk-right") as backend:
            run = await load(
                backend,
                key="sk-right",
                stop={"requests": 1},
                model="fake-model",
                temperature=0.5,
                priority=2,
                system_prompt="Be brief.",
                prompt={"kind": "fixed", "text": "Hello?"},
                unique_prefix=False,
            )
            body = json.loads(backend.stats.last_body)
        assert outcome(run)["totals"]["ok"] == 1
        assert body == {
            "model": "fake-model",
            "temperature": 0.5,
            "priority": 2,
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
            "max_tokens": 5,
        }
        assert "sk-right" not in json.dumps(run.result()) + repr(run.plan)

    async def test_prompts_of_a_set_with_their_limits(self) -> None:
        lines = parse_prompt_set(b'{"prompt": "one", "max_tokens": 3}\n{"prompt": "two", "max_tokens": 4}')
        async with fake() as backend:
            card = {"url": backend.base_url, "prompt": {"kind": "set", "set": "s"}, "stop": {"requests": 2}}
            run = await prepared(card, sets={"s": lines})
            await run.run()
        assert outcome(run)["totals"]["tokens_out"] == 7
        with pytest.raises(BadInput, match="upload"):
            await prepared(card)

    async def test_pairs_send_the_same_bytes(self) -> None:
        bodies: list[set[bytes]] = []
        async with fake() as one, fake() as two:
            cards = [{"url": each.base_url, "stop": {"requests": 1}} for each in (one, two)]
            run = await prepared(*cards, paired=True, order="in_turn")
            await run.run()
            bodies = [{each.stats.last_body} for each in (one, two)]
        assert bodies[0] == bodies[1]
        with pytest.raises(BadInput, match="exactly two"):
            await prepared(cards[0], paired=True)

    async def test_tokens_are_counted_where_none_are_reported(self) -> None:
        async with fake(usage_style="never") as backend:
            run = await load(backend, stop={"requests": 3}, max_tokens=7)
        result = outcome(run)
        assert result["summary"]["token_sources"] == {"chunks": 3}
        assert result["totals"]["tokens_out"] == 21

    @pytest.mark.parametrize("behaviour", [{"line_ending": "\r\n"}, {"chunks_per_write": 3}, {"data_space": False}])
    async def test_streams_of_any_shape(self, behaviour: dict[str, Any]) -> None:
        async with fake(**behaviour) as backend:
            run = await load(backend, stop={"requests": 3}, max_tokens=10)
        result = outcome(run)
        assert (result["totals"]["ok"], result["totals"]["tokens_out"]) == (3, 30)
        assert result["summary"]["latencies"]["icl"]["n"] == 27

    async def test_whole_answers(self) -> None:
        async with fake(ttft_seconds=0.05) as backend:
            run = await load(backend, stream=False, stop={"requests": 3}, max_tokens=10)
        latencies = outcome(run)["summary"]["latencies"]
        assert (latencies["e2e"]["n"], latencies["ttft"]["n"]) == (3, 0)
        assert latencies["e2e"]["min"] >= 50


class TestThroughTheBalancer:
    async def test_results_are_split_by_who_served(self) -> None:
        failing = fake(name="gpu-bad", fault="status", fault_status=500)
        async with failing, fake(name="gpu-good") as good, RunningGateway(wired(failing, good)) as gateway:
            run = await load(gateway.url + "/v1", stop={"requests": 10}, model="fake-model")
        result = outcome(run)
        assert result["totals"]["ok"] == 10
        (served,) = result["summary"]["endpoints"]
        assert served["endpoint"] == "gpu-good"
        assert served["failovers"] >= 2
        assert served["attempts"] == 10 + served["failovers"]

    async def test_the_cost_of_the_balancer_is_stated(self) -> None:
        async with fake(ttft_seconds=0.02) as backend, RunningGateway(wired(backend)) as gateway:
            card = {"stop": {"requests": 30}, "load": {"kind": "constant", "rate": 60}, "max_tokens": 5}
            direct, through = {**card, "url": backend.base_url}, {**card, "url": gateway.url + "/v1"}
            run = await prepared(direct, through, paired=True)
            await run.run()
        comparison = run.result()["comparison"]
        assert comparison["pairs"] == 30
        assert comparison["ttft"]["mean_low"] < comparison["ttft"]["mean"] < comparison["ttft"]["mean_high"]
        assert abs(comparison["ttft"]["mean"]) < 200


async def test_a_run_goes_on_being_watched() -> None:
    async with fake(ttft_seconds=0.01, tpot_seconds=0.002) as backend:
        run = await load(backend, load={"kind": "closed", "concurrency": 3}, stop={"seconds": 2.3}, max_tokens=10)
    rows = outcome(run)["series"]["rows"]
    assert len(rows) >= 2
    tokens = outcome(run)["series"]["columns"].index("output_tokens_per_second")
    assert all(row[tokens] > 0 for row in rows[:2])
    live = run.live([1])
    assert live["cards"][0]["series"]["from"] == 1
    assert run.watch.cpu_percent is not None and run.watch.lag.n > 20
