"""What is sent and when: arrival times, loads, prompts, cards, sweeps."""

from __future__ import annotations

import itertools
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tester.errors import BadInput
from load_tester.measures.knee import Step
from load_tester.plan.arrivals import Piece, arrival_times, batch_times, course_seconds, level_at
from load_tester.plan.cards import Caps, Card, changed, normal_url, read_card, within_caps
from load_tester.plan.loads import Closed, Sweep, due_times, highest_concurrency, highest_rate, is_closed, plain
from load_tester.plan.presets import PRESETS
from load_tester.plan.prompt_sets import parse_prompt_set
from load_tester.plan.prompts import Prompts, PromptSet, Shape, SyntheticPrompt, parse_lengths
from load_tester.plan.sweeps import findings, next_step

PIECES = st.lists(st.builds(Piece, st.floats(0.1, 20), st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=5).map(
    tuple
)


def card(**fields: Any) -> Card:
    return read_card(fields)


class TestArrivals:
    def test_constant_is_even_and_begins_at_once(self) -> None:
        times = list(itertools.islice(arrival_times((Piece(math.inf, 4, 4),), None), 5))
        assert times == [0.0, 0.25, 0.5, 0.75, 1.0]

    @given(PIECES)
    def test_as_many_arrive_as_the_course_holds_and_in_order(self, course: tuple[Piece, ...]) -> None:
        times = list(arrival_times(course, None))
        area = sum(piece.area for piece in course)
        assert abs(len(times) - area) <= 1
        assert all(a <= b + 1e-9 for a, b in itertools.pairwise(times))
        assert all(0 <= time <= course_seconds(course) + 1e-6 for time in times)

    def test_a_ramp_is_exact(self) -> None:
        # From 0 to 10/s within 10 s: the integral is t*t/2, so number n is due at sqrt(2n).
        times = list(arrival_times((Piece(10, 0, 10),), None))
        assert len(times) == 50
        assert all(time == pytest.approx(math.sqrt(2 * n)) for n, time in enumerate(times))

    def test_poisson_is_seeded_and_has_the_rate(self) -> None:
        def first(seed: int) -> list[float]:
            return list(arrival_times((Piece(200, 50, 50),), random.Random(seed)))

        assert first(1) == first(1) != first(2)
        gaps = [b - a for a, b in itertools.pairwise(first(1))]
        mean = sum(gaps) / len(gaps)
        spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
        assert mean == pytest.approx(1 / 50, rel=0.05)
        assert spread == pytest.approx(mean, rel=0.1)  # exponential: deviation = mean

    def test_batches_do_not_drift(self) -> None:
        times = list(itertools.islice(batch_times(3, 0.1), 3000))
        assert times[:4] == [0, 0, 0, 0.1]
        assert times[-1] == pytest.approx(99.9)

    def test_level_follows_the_course(self) -> None:
        course = (Piece(10, 0, 10), Piece(math.inf, 10, 10))
        assert [level_at(course, at) for at in (0, 5, 10, 1000)] == [0, 5, 10, 10]
        assert level_at((Piece(1, 3, 3),), 99) == 3


class TestLoads:
    def test_a_batch_without_delay_is_a_closed_loop_or_all_at_once(self) -> None:
        limited = card(load={"kind": "batch", "max_in_flight": 4}, stop={"requests": 9})
        assert plain(limited.load) == Closed(concurrency=4)
        free = card(load={"kind": "batch"}, stop={"requests": 9})
        assert list(itertools.islice(due_times(free.load, 1), 9)) == [0.0] * 9

    def test_a_flood_without_end_is_refused(self) -> None:
        with pytest.raises(BadInput, match=r"stop\.requests"):
            card(load={"kind": "batch"})

    def test_stages_end_and_ramps_do_not(self) -> None:
        stages = card(
            load={"kind": "stages", "stages": [{"seconds": 2, "end": 3}, {"seconds": 1, "start": 0, "end": 4}]}
        )
        assert len(list(due_times(stages.load, 1))) == 6 + 2
        ramp = card(load={"kind": "ramp", "of": "rate", "end": 2, "seconds": 1, "start": 0})
        assert len(list(itertools.islice(due_times(ramp.load, 1), 100))) == 100
        assert is_closed(card(load={"kind": "ramp", "end": 5, "seconds": 1}).load)

    @pytest.mark.parametrize(
        ("load", "users", "rate"),
        [
            ({"kind": "closed", "concurrency": 7}, 7, 0),
            ({"kind": "constant", "rate": 9, "max_in_flight": 3}, 3, 9),
            ({"kind": "batch", "batch": 5, "delay_ms": 100}, 0, 50),
            ({"kind": "ramp", "end": 12, "seconds": 3}, 12, 0),
            ({"kind": "sweep", "most": 64}, 64, 0),
        ],
    )
    def test_what_a_load_may_need(self, load: dict[str, Any], users: int, rate: float) -> None:
        made = card(load=load)
        assert (highest_concurrency(made.load), highest_rate(made.load)) == (users, rate)


class TestCards:
    @pytest.mark.parametrize(
        ("typed", "kept"),
        [
            ("http://localhost:8090", "http://localhost:8090/v1"),
            (" https://api.example.org/v1/ ", "https://api.example.org/v1"),
            ("http://h:1/v1/chat/completions", "http://h:1/v1"),
            ("http://h/team/a", "http://h/team/a"),
        ],
    )
    def test_urls_are_kept_in_one_shape(self, typed: str, kept: str) -> None:
        assert normal_url(typed) == kept

    @pytest.mark.parametrize(
        ("fields", "where", "what"),
        [
            ({"url": "localhost:8090"}, "card.url", "http"),
            ({"url": "http://user:pw@h/v1"}, "card.url", "user"),
            ({"url": "http://h:port/v1"}, "card.url", "[Pp]ort"),
            ({"load": {"kind": "closed", "concurrency": 0}}, "card.load.concurrency", "greater"),
            ({"load": {"kind": "surprise"}}, "card.load", "surprise"),
            ({"prompt": {"kind": "synthetic", "lengths": "X(1)"}}, "card.prompt.lengths", "D\\(in,out\\)"),
            ({"slo": {"ttft_p97": "1s"}}, "slo.ttft_p97", "ttft"),
            ({"slo": {"ttft_p95": "soon"}}, "slo.ttft_p95", "500ms"),
            ({"api_key": "sk-1"}, "card.api_key", "unknown field"),
        ],
    )
    def test_what_cannot_be_used_names_its_field(self, fields: dict[str, Any], where: str, what: str) -> None:
        with pytest.raises(BadInput, match=what) as caught:
            card(**fields)
        assert where in str(caught.value)

    @pytest.mark.parametrize(
        ("fields", "what"),
        [
            ({"load": {"kind": "closed", "concurrency": 10_000}}, "LT_MAX_CONNECTIONS allows 500"),
            ({"load": {"kind": "sweep", "most": 501}}, "LT_MAX_CONNECTIONS"),
            ({"load": {"kind": "poisson", "rate": 1001}}, "LT_MAX_RATE"),
            ({"stop": {"seconds": 3601}}, "LT_MAX_SECONDS"),
            ({"load": {"kind": "stages", "stages": [{"seconds": 3601, "end": 1}]}}, "LT_MAX_SECONDS"),
            ({"stop": {"tokens": 1001}}, "LT_MAX_TOKENS"),
            ({"load": {"kind": "closed", "concurrency": 450}}, "may open 500 files"),
        ],
    )
    def test_caps_hold(self, fields: dict[str, Any], what: str) -> None:
        with pytest.raises(BadInput, match=what):
            within_caps(card(**fields), Caps(connections=500, open_files=500, rate=1000, seconds=3600, tokens=1000))

    def test_shared_prefixes_have_a_size_together(self) -> None:
        with pytest.raises(BadInput, match="shared_prefix_groups x shared_prefix_tokens"):
            card(shared_prefix_tokens=1_000_000, shared_prefix_groups=100)

    def test_only_some_of_it_changes_under_way(self) -> None:
        made = card(stop={"seconds": 5})
        assert changed(made, {"load": {"kind": "closed", "concurrency": 9}}).load == Closed(concurrency=9)
        with pytest.raises(BadInput, match="cannot be changed"):
            changed(made, {"url": "http://other/v1"})
        with pytest.raises(BadInput, match="sweep"):
            changed(card(load={"kind": "sweep"}), {"load": {"kind": "closed"}})

    def test_presets_are_cards(self) -> None:
        assert {preset["id"] for preset in PRESETS} >= {
            "latency",
            "throughput",
            "parallel_limit",
            "rpm_limit",
            "key_compare",
        }
        for preset in PRESETS:
            for fields in preset["cards"]:
                within_caps(read_card(fields), Caps())


def prompts(**fields: Any) -> Prompts:
    shape: dict[str, Any] = {
        "prompt": SyntheticPrompt(kind="synthetic", lengths="N(100,20)/(30,5)"),
        "system_prompt": "",
        "unique_prefix": False,
        "shared_prefix_tokens": 0,
        "shared_prefix_groups": 1,
        "max_tokens": 60,
        "seed": 1,
        "tag": "t",
    }
    return Prompts(Shape(**{**shape, **fields}))


class TestPrompts:
    @pytest.mark.parametrize(
        ("text", "low", "high"),
        [
            ("D(100,1000)", (100, 1000), (100, 1000)),
            ("U(10,20)/(3,4)", (10, 3), (20, 4)),
            (" N(5,0) / (7,0) ", (5, 7), (5, 7)),
        ],
    )
    def test_lengths(self, text: str, low: tuple[int, int], high: tuple[int, int]) -> None:
        drawn = [parse_lengths(text).draw(random.Random(seed)) for seed in range(200)]
        for place in (0, 1):
            assert {min(each[place] for each in drawn), max(each[place] for each in drawn)} == {low[place], high[place]}

    @pytest.mark.parametrize("text", ["D(1)", "N(1,2)", "U(9,1)/(1,2)", "D(-1,2)", ""])
    def test_lengths_that_are_none(self, text: str) -> None:
        with pytest.raises(ValueError, match="expected"):
            parse_lengths(text)

    def test_a_normal_length_is_never_below_one(self) -> None:
        assert min(parse_lengths("N(1,50)/(1,50)").draw(random.Random(seed)) for seed in range(99)) >= (1, 1)

    def test_the_same_number_is_the_same_request(self) -> None:
        assert prompts().request(7) == prompts().request(7) != prompts().request(8)
        (message,), limit = prompts().request(7)
        assert 20 < len(message["content"].split()) < 180
        assert 10 < limit < 50

    def test_prefixes(self) -> None:
        made = prompts(unique_prefix=True, shared_prefix_tokens=50, shared_prefix_groups=2, system_prompt="Be brief.")
        heads = [made.request(number)[0][0]["content"] for number in range(4)]
        assert all(made.request(number)[0][0]["role"] == "system" for number in range(4))
        shared = [head.partition("\n")[0] for head in heads]
        assert shared[0] == shared[2] != shared[1] == shared[3]
        assert len(shared[0].split()) == 50
        assert len(set(heads)) == 4
        assert heads[3].partition("\n")[2] == "[t-3] Be brief."

    def test_a_set_goes_round(self) -> None:
        lines = parse_prompt_set(b'{"prompt": "a", "max_tokens": 3}\n\n"b"\n')
        made = prompts(prompt=PromptSet(kind="set", set="x"), lines=lines)
        assert [made.request(n)[0][0]["content"] for n in range(3)] == ["a", "b", "a"]
        assert [made.request(n)[1] for n in range(2)] == [3, 60]

    @pytest.mark.parametrize(
        ("data", "what"),
        [
            (b'{"prompt": "a"}\n{"prompt": \n', "line 2: not JSON"),
            (b"[1]", "line 1: expected a JSON object"),
            (b'{"prompt": "a"}\n\n{"max_tokens": 3}', "line 3: expected prompt"),
            (b'{"prompt": "a", "max_tokens": 0}', "line 1: max_tokens"),
            (b'{"messages": [{"content": "x"}]}', "line 1: messages"),
            (b"\n\n", "no prompts"),
        ],
    )
    def test_a_broken_line_is_named(self, data: bytes, what: str) -> None:
        with pytest.raises(BadInput, match=what):
            parse_prompt_set(data)

    @given(st.lists(st.dictionaries(st.text(), st.text()) | st.text() | st.integers()))
    def test_any_file_is_read_or_refused(self, values: list[Any]) -> None:
        try:
            lines = parse_prompt_set("\n".join(map(json.dumps, values)).encode())
        except BadInput:
            return
        assert lines


def sweep_through(sweep: Sweep, throughput: Any) -> tuple[list[Step], list[tuple[str, str]]]:
    """Play a sweep against a target of that throughput by level."""
    steps: list[Step] = []
    labels: list[tuple[str, str]] = []
    rates: list[float] = []
    while (step := next_step(sweep, steps, rates)) is not None:
        rate = throughput(step.level) if step.of == "concurrency" else min(step.level, throughput(10**9))
        users = step.level if step.of == "concurrency" else max(1.0, step.level / throughput(1))
        steps.append(Step(step.level, rate, 1000 * users / rate, users, 0.0, 1000 * users / rate < 150))
        labels.append((step.label, step.of))
        rates.append(rate)
        assert len(steps) < 100
    return steps, labels


class TestSweeps:
    def test_concurrency_doubles_until_it_brings_nothing_and_finds_the_knee(self) -> None:
        sweep = Sweep(kind="sweep", most=1024)
        steps, labels = sweep_through(sweep, lambda users: min(users, 12) * 10.0)
        levels = [step.level for step in steps]
        assert levels[:7] == [1, 2, 4, 8, 16, 32, 64]
        assert len(levels) <= 9
        found = findings(sweep, steps, labels)
        assert found["knee"]["level"] == 12  # between the powers of two
        assert found["saturated"]
        assert found["suggestion"]["max_concurrent"] == 12

    def test_the_slo_lowers_what_is_suggested(self) -> None:
        sweep = Sweep(kind="sweep", most=64)
        steps, labels = sweep_through(sweep, lambda users: 100 * users / (users + 8))
        found = findings(sweep, steps, labels)
        assert found["largest_meeting_slo"]["level"] < found["knee"]["level"]
        assert found["suggestion"]["because"] == "slo"

    def test_a_target_that_never_saturates_is_said_so(self) -> None:
        sweep = Sweep(kind="sweep", most=8)
        steps, labels = sweep_through(sweep, lambda users: users * 10.0)
        found = findings(sweep, steps, labels)
        assert (found["knee"]["level"], found["saturated"]) == (8, False)
        assert "sweep further" in found["suggestion"]["words"]

    def test_rates_lie_between_one_user_and_saturation(self) -> None:
        sweep = Sweep(kind="sweep", of="rate", most=64, steps=4)
        steps, labels = sweep_through(sweep, lambda users: min(users, 10) * 10.0)
        assert [of for _, of in labels] == ["concurrency", "concurrency", "rate", "rate", "rate", "rate"]
        assert [step.level for step in steps[2:]] == [32.5, 55.0, 77.5, 100.0]
        assert findings(sweep, steps, labels)["largest_meeting_slo"]["level"] == 100.0

    def test_nothing_answered_finds_nothing(self) -> None:
        found = findings(Sweep(kind="sweep"), [Step(1, 0, 0, 1, 100, False)], [("1 user", "concurrency")])
        assert found["knee"] is found["suggestion"] is None
