"""Every formula of the load tester, on samples made by hand."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tester.errors import BadInput
from load_tester.measures.badges import Evidence, badges
from load_tester.measures.compare import compare_summaries
from load_tester.measures.definitions import definitions
from load_tester.measures.in_flight import InFlight
from load_tester.measures.knee import Step, knee, largest_meeting_slo
from load_tester.measures.paired import compare_pairs, difference, student_quantile
from load_tester.measures.records import Failure, Record, TokenSource
from load_tester.measures.samples import Histogram, Samples
from load_tester.measures.series import Series
from load_tester.measures.slo import GoodRequests, all_met, parse_slo, parse_slos, verdicts
from load_tester.measures.tally import Tally
from tests.load_parts import MS, answered

SECOND = 1000 * MS


class TestOneRequest:
    def test_formulas(self) -> None:
        record = answered(scheduled_ns=SECOND - 5 * MS, output_ns=SECOND + 110 * MS)
        assert record.ttft_ns == 100 * MS
        assert record.ttft_star_ns == 105 * MS
        assert record.ttfo_ns == 110 * MS
        assert record.e2e_ns == 140 * MS
        assert record.e2e_star_ns == 145 * MS
        assert record.tpot_ns == 10 * MS  # 40 ms over 4 further tokens
        assert record.queue_ns == 5 * MS
        assert record.tokens_per_second == pytest.approx(5 / 0.14)

    def test_what_did_not_happen_is_none(self) -> None:
        closed, whole = answered(), answered(first_ns=0, output_ns=0, gaps_ns=[])
        assert (closed.ttft_star_ns, closed.e2e_star_ns, closed.queue_ns) == (None, None, None)
        assert (whole.ttft_ns, whole.tpot_ns, whole.e2e_ns) == (None, None, 140 * MS)
        assert answered(tokens_out=1).tpot_ns is None


def nearest_rank(values: list[float], percent: float) -> float:
    return sorted(values)[max(1, math.ceil(len(values) * percent / 100 - 1e-9)) - 1]


class TestSamples:
    @given(st.lists(st.floats(0, 1e12), min_size=1, max_size=300), st.sampled_from([50, 90, 95, 99, 99.9, 100]))
    def test_percentiles_are_nearest_rank(self, values: list[float], percent: float) -> None:
        samples = Samples("ms", 1)
        for value in values:
            samples.add(value)
        assert samples.percentile(percent) == nearest_rank(values, percent)

    @given(st.lists(st.integers(0, 10**13), min_size=1, max_size=300), st.sampled_from([50, 95, 99]))
    def test_the_histogram_is_within_a_thousandth(self, values: list[int], percent: float) -> None:
        histogram = Histogram()
        for value in values:
            histogram.add(value)
        exact = nearest_rank([float(value) for value in values], percent)
        rank = max(1, math.ceil(len(values) * percent / 100))
        assert histogram.at_rank(rank) == pytest.approx(exact, rel=1e-3, abs=0)

    def test_many_samples_fold_into_it_and_keep_the_rest(self) -> None:
        rng = random.Random(1)
        values = [rng.lognormvariate(17, 1) for _ in range(3000)]
        samples = Samples(most_raw=1000)
        for value in values:
            samples.add(value)
        assert not samples.exact and samples.n == 3000
        for percent in (50, 95, 99):
            assert samples.percentile(percent) == pytest.approx(nearest_rank(values, percent) / 1e6, rel=2e-3)
        shown = samples.distribution()
        assert shown["mean"] == pytest.approx(statistics.fmean(values) / 1e6)
        assert shown["stddev"] == pytest.approx(statistics.stdev(values) / 1e6)
        assert (shown["min"], shown["max"]) == (min(values) / 1e6, max(values) / 1e6)

    def test_adding_after_reading(self) -> None:
        samples = Samples("", 1)
        for value in (5, 1, 3):
            samples.add(value)
            samples.percentile(50)
        assert samples.percentile(50) == 3

    @pytest.mark.parametrize(("n", "firm", "far"), [(99, False, False), (100, True, False), (10_000, True, True)])
    def test_how_far_out_is_said(self, n: int, firm: bool, far: bool) -> None:
        samples = Samples("", 1)
        for value in range(n):
            samples.add(value)
        shown = samples.distribution()
        assert (shown["p99_is_firm"], shown["p99_9"] is not None) == (firm, far)

    def test_none_of_them(self) -> None:
        shown = Samples().distribution()
        assert shown["n"] == 0 and shown["p50"] is shown["mean"] is shown["max"] is None


def test_in_flight_is_weighted_by_time() -> None:
    level = InFlight(0)
    level.change(1, 0)
    level.change(1, 1 * SECOND)  # 1 for 1 s
    level.change(-1, 2 * SECOND)  # 2 for 1 s, then 1
    assert level.mean(4 * SECOND) == pytest.approx((1 + 2 + 2) / 4)
    assert level.peak == 2 and level.now == 1
    assert InFlight(5, 3).mean(5) == 0.0


def tally_of(*records: Record, begun: int = 0, ended: int = 0, slo: dict[str, Any] | None = None) -> Tally:
    tally = Tally(begun, GoodRequests(parse_slos(slo or {})))
    tally.ended_ns = ended
    for record in records:
        tally.note_sent(record.sent_ns)
        tally.add(record)
    return tally


class TestTally:
    def test_rates_count_what_was_completed_in_the_window(self) -> None:
        late = answered(1, ended_ns=11 * SECOND)
        summary = tally_of(answered(), late, ended=10 * SECOND).summary(0)
        assert summary["completed"] == 1
        assert summary["output_tokens_per_second"] == pytest.approx(5 / 10)
        assert summary["requests_per_second"] == pytest.approx(1 / 10)

    def test_latencies_count_what_was_sent_in_it(self) -> None:
        before = answered(0, sent_ns=SECOND - 1)
        during = answered(1)
        drained = answered(2, last_ns=20 * SECOND, ended_ns=20 * SECOND)
        summary = tally_of(before, during, drained, begun=SECOND, ended=10 * SECOND).summary(0)
        assert summary["latencies"]["e2e"]["n"] == 2
        assert summary["latencies"]["e2e"]["max"] == 19_000
        assert summary["latencies"]["icl"]["n"] == 8

    def test_goodput_and_the_good_share(self) -> None:
        slow = answered(1, first_ns=SECOND + 130 * MS)
        failed = answered(2, failure=Failure.STATUS_5XX, detail="500: no")
        summary = tally_of(answered(), slow, failed, ended=2 * SECOND, slo={"ttft_p95": "120ms"}).summary(0)
        assert summary["goodput"] == pytest.approx(1 / 2)
        assert summary["good_percent"] == pytest.approx(100 / 3)
        assert summary["error_percent"] == pytest.approx(100 / 3)

    def test_errors_are_grouped_with_a_sample(self) -> None:
        records = [answered(n, failure=Failure.STATUS_429, detail="429: slow down") for n in range(3)]
        records.append(answered(9, failure=Failure.CONNECT, detail="connection refused"))
        errors = tally_of(*records).summary(5 * SECOND)["errors"]
        assert [(each["class"], each["count"], each["sample"]) for each in errors] == [
            ("429", 3, "429: slow down"),
            ("connect", 1, "connection refused"),
        ]

    def test_endless_error_texts_are_bounded(self) -> None:
        records = [answered(n, failure=Failure.STATUS_5XX, detail=f"500: {n}") for n in range(500)]
        errors = tally_of(*records).errors()
        assert len(errors) == 51
        assert sum(each["count"] for each in errors) == 500

    def test_what_was_cut_off_is_neither_answer_nor_failure(self) -> None:
        summary = tally_of(answered(), answered(1, failure=Failure.CANCELLED)).summary(5 * SECOND)
        assert (summary["ok"], summary["failed"], summary["cancelled"]) == (1, 0, 1)
        assert summary["error_percent"] == 0

    def test_split_by_endpoint(self) -> None:
        records = [answered(n, endpoint="gpu-1" if n % 4 else "gpu-2", attempts=2, failovers=1) for n in range(8)]
        first, second = tally_of(*records).summary(5 * SECOND)["endpoints"]
        assert (first["endpoint"], first["requests"], first["share_percent"]) == ("gpu-1", 6, 75)
        assert (second["attempts"], second["failovers"], second["output_tokens"]) == (4, 2, 10)
        assert second["ttft"]["p50"] == 100

    def test_littles_law(self) -> None:
        tally = Tally(0, GoodRequests(()))
        for n in range(100):
            sent = n * 100 * MS
            tally.note_level(1, sent)
            tally.note_level(-1, sent + 50 * MS)
            tally.add(answered(n, sent_ns=sent, ended_ns=sent + 50 * MS))
        tally.end(10 * SECOND)
        assert tally.in_flight.mean(10 * SECOND) == pytest.approx(0.5)
        gap = tally.littles_law_gap_percent(0)
        assert gap is not None and gap < 0.1

    def test_an_end_that_is_noticed_late_still_lowers_the_level(self) -> None:
        # The last byte came before the window began, the request was counted out after.
        tally = Tally(10 * SECOND, GoodRequests(()), in_flight=1)
        tally.note_level(-1, 10 * SECOND - MS)
        tally.note_level(1, 11 * SECOND)
        assert (tally.in_flight.now, tally.in_flight.peak) == (1, 1)
        assert tally.in_flight.mean(12 * SECOND) == pytest.approx(0.5)


class TestObjectives:
    @pytest.mark.parametrize(
        ("name", "limit", "metric", "statistic", "number"),
        [
            ("ttft_p95", "500ms", "ttft", "p95", 500),
            ("ttft", "0.5s", "ttft", "p95", 500),
            ("ttft_star_p99", 300, "ttft_star", "p99", 300),
            ("e2e_star_max", "<= 2 s", "e2e_star", "max", 2000),
            ("tpot_mean", "500us", "tpot", "mean", 0.5),
            ("error_percent", "1%", "error_percent", "", 1),
            ("goodput", ">=3", "goodput", "", 3),
        ],
    )
    def test_they_are_read(self, name: str, limit: Any, metric: str, statistic: str, number: float) -> None:
        made = parse_slo(name, limit)
        assert (made.metric, made.statistic, made.limit) == (metric, statistic, pytest.approx(number))

    @pytest.mark.parametrize(
        ("name", "limit"), [("ttft_p95", "5%"), ("goodput", "5ms"), ("nonsense", "1s"), ("e2e", "")]
    )
    def test_or_refused(self, name: str, limit: str) -> None:
        with pytest.raises(BadInput, match="expected"):
            parse_slo(name, limit)

    def test_they_are_held_against_results(self) -> None:
        summary = tally_of(*(answered(n) for n in range(10))).summary(2 * SECOND)
        judged = verdicts(parse_slos({"ttft_p95": "100ms", "tpot_p95": "9ms", "requests_per_second": 5}), summary)
        assert [each["met"] for each in judged] == [True, False, True]
        assert judged[0]["actual"] == 100

    def test_nothing_measured_meets_nothing(self) -> None:
        judged = verdicts(parse_slos({"ttft_p95": "100ms"}), tally_of().summary(SECOND))
        assert judged[0]["met"] is None and not all_met(judged)


class TestPaired:
    @pytest.mark.parametrize(
        ("freedom", "exact"), [(1, 12.7062), (5, 2.5706), (9, 2.2622), (29, 2.0452), (999, 1.9623)]
    )
    def test_students_quantile(self, freedom: int, exact: float) -> None:
        assert student_quantile(freedom) == pytest.approx(exact, abs=3e-3)

    def test_the_interval_covers_the_truth_as_often_as_it_says(self) -> None:
        rng = random.Random(4)
        covered = 0
        for _ in range(1000):
            pairs = [(base := rng.lognormvariate(3, 0.5), base + rng.gauss(1.5, 2.0)) for _ in range(40)]
            found = difference(pairs)
            covered += found["mean_low"] <= 1.5 <= found["mean_high"]
        assert 925 <= covered <= 975

    def test_by_request_number(self) -> None:
        first = [answered(n, first_ns=SECOND + (100 + n) * MS) for n in range(20)]
        second = [answered(n, first_ns=SECOND + (103 + n) * MS) for n in reversed(range(1, 22))]
        second[3] = answered(second[3].number, failure=Failure.STATUS_5XX)
        found = compare_pairs(first, second)
        assert found["pairs"] == 18 and found["unpaired"] == 20 + 21 - 36
        assert found["ttft"]["mean"] == pytest.approx(3)
        assert (found["ttft"]["median_low"], found["ttft"]["median_high"]) == (pytest.approx(3), pytest.approx(3))
        assert found["ttft"]["clear"]

    def test_few_pairs_have_no_interval(self) -> None:
        found = difference([(1.0, 2.0)] * 5)
        assert found["mean"] == 1 and found["mean_low"] is None
        assert difference([])["n"] == 0


def step(level: float, throughput: float, latency: float, *, met: bool = True, errors: float = 0) -> Step:
    return Step(level, throughput, latency, level, errors, met)


class TestKnee:
    def test_most_power(self) -> None:
        steps = [step(users, min(users, 8) * 10.0, max(users, 8) * 12.5) for users in (1, 2, 4, 8, 16, 32)]
        assert knee(steps) == 3

    def test_failing_steps_do_not_count(self) -> None:
        assert knee([step(1, 10, 10), step(2, 100, 1, errors=50)]) == 0
        assert knee([step(1, 10, 0)]) is None

    def test_the_slo_must_hold_below_too(self) -> None:
        assert largest_meeting_slo([step(4, 1, 1), step(1, 1, 1), step(2, 1, 1, met=False)]) == 1
        assert largest_meeting_slo([step(1, 1, 1, met=False)]) is None


def evidence(**fields: Any) -> Evidence:
    values: dict[str, Any] = {
        "open_loop": True,
        "planned": 100,
        "sent": 100,
        "limit_in_flight": 0,
        "loop_lag_p99_ms": 1.0,
        "cpu_percent": 20.0,
    }
    return Evidence(**{**values, **fields})


class TestBadges:
    def level(self, name: str, summary: dict[str, Any], **fields: Any) -> str:
        return next((each["level"] for each in badges(summary, evidence(**fields)) if each["id"] == name), "")

    def test_each_warns_for_its_reason(self) -> None:
        records = [answered(n, scheduled_ns=SECOND - 1 * MS, token_source=TokenSource.USAGE) for n in range(150)]
        fine = tally_of(*records).summary(5 * SECOND)
        assert self.level("schedule_lag", fine) == "ok"
        assert self.level("token_source", fine) == "ok"
        assert self.level("generator_limited", fine) == "ok"
        assert self.level("generator_limited", fine, loop_lag_p99_ms=6.0) == "warning"
        assert self.level("generator_limited", fine, cpu_percent=95.0) == "warning"
        assert self.level("rate_not_reached", fine, sent=90) == "warning"
        assert self.level("rate_not_reached", fine, sent=96) == ""
        assert self.level("few_samples", fine) == ""
        assert self.level("changed", fine, changed=True) == "note"

    def test_failures_are_told_where_the_figures_are_those_of_the_others(self) -> None:
        fine = tally_of(*(answered(n) for n in range(1000)), ended=9 * SECOND).summary(0)
        assert "failures" not in {badge["id"] for badge in badges(fine, evidence())}
        failed = [answered(n, failure=Failure.STATUS_5XX, detail="500") for n in range(5)]
        few = tally_of(*(answered(n) for n in range(1000)), *failed, ended=9 * SECOND).summary(0)
        assert self.level("failures", few) == "note"
        many = tally_of(*(answered(n) for n in range(100)), *failed, ended=9 * SECOND).summary(0)
        assert self.level("failures", many) == "warning"

    def test_late_few_counted_and_cut_off(self) -> None:
        records = [answered(n, scheduled_ns=SECOND - 50 * MS, token_source=TokenSource.CHUNKS) for n in range(9)]
        poor = tally_of(*records, answered(10, failure=Failure.CANCELLED)).summary(5 * SECOND)
        assert self.level("schedule_lag", poor) == "warning"
        assert self.level("schedule_lag", poor, open_loop=False) == ""
        assert self.level("few_samples", poor) == "note"
        assert self.level("token_source", poor) == "warning"
        assert self.level("cut_off", poor) == "warning"


class TestSeries:
    def test_points_of_a_second(self) -> None:
        series = Series()
        series.offered, series.ok, series.tokens, series.ttfts_ms = 3, 2, 40, [30.0, 10.0, 20.0]
        series.advance(2.5, 4)
        first, second = series.as_json()["rows"]
        assert first[:7] == [1.0, 0, 3, 2, 0, 40, 4]
        assert first[7:9] == [20.0, 30.0]
        assert second[5] == 0 and second[7] is None
        assert series.peak_tokens_per_second == 40

    def test_long_runs_become_coarser(self) -> None:
        series = Series(most_points=100)
        for second in range(1, 1001):
            series.tokens += 10
            series.advance(second, 1)
        shown = series.as_json()
        assert len(shown["rows"]) <= 100 and shown["step_seconds"] >= 10
        assert all(row[5] == pytest.approx(10) for row in shown["rows"])
        assert shown["rows"][-1][0] > 980


def test_comparing_runs_says_what_is_better() -> None:
    fast = tally_of(*(answered(n) for n in range(5))).summary(2 * SECOND)
    slow = tally_of(*(answered(n, first_ns=SECOND + 120 * MS) for n in range(4))).summary(2 * SECOND)
    lines = {(line["metric"], line["statistic"]): line for line in compare_summaries(fast, slow)}
    assert lines["ttft", "p50"]["delta"] == pytest.approx(20)
    assert lines["ttft", "p50"]["delta_percent"] == pytest.approx(20)
    assert lines["ttft", "p50"]["better"] is False
    assert lines["requests_per_second", ""]["better"] is False
    assert lines["e2e", "p50"]["better"] is None
    assert ("ttft_star", "p50") not in lines


def test_every_figure_that_is_shown_is_defined() -> None:
    keys = {each["key"] for each in definitions()}
    summary = tally_of().summary(SECOND)
    assert set(summary["latencies"]) <= keys
    assert {"goodput", "output_tokens_per_second", "in_flight_mean", "percentiles", "window"} <= keys
