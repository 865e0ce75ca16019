"""Token counts out of usage objects, and by rule where there are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.endpoints import Provenance, Usage
from balancer.wire.usage import final_usage, parse_usage


@pytest.mark.parametrize(
    ("value", "prompt", "completion"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}, 7, 5),
        ({"prompt_tokens": 0, "completion_tokens": 0}, 0, 0),
        ({"prompt_tokens": 9, "total_tokens": 9}, 9, 0),
        ({"prompt_tokens": 9, "total_tokens": 12}, 9, 3),
        ({"prompt_tokens": 9, "total_tokens": 3}, 9, 0),
        ({"prompt_tokens": 9}, 9, 0),
        ({"completion_tokens": 4, "total_tokens": 10}, 6, 4),
        ({"completion_tokens": 4}, 0, 4),
        ({"input_tokens": 3, "output_tokens": 8, "input_tokens_details": {"cached_tokens": 1}}, 3, 8),
        ({"total_tokens": 20}, 20, 0),
        ({"prompt_tokens": 3.0, "completion_tokens": 2}, 3, 2),
        ({"prompt_tokens": None, "input_tokens": 6, "output_tokens": 1}, 6, 1),
        ({"prompt_tokens": -1, "completion_tokens": 2}, 0, 2),
        ({"prompt_tokens": "12", "completion_tokens": 2}, 0, 2),
        ({"prompt_tokens": True, "completion_tokens": 2}, 0, 2),
        ({"prompt_tokens": 2.5, "completion_tokens": 2}, 0, 2),
        ({"prompt_tokens": 2**53, "completion_tokens": 2**53 + 1}, 2**53, 0),
    ],
)
def test_shapes(value: object, prompt: int, completion: int) -> None:
    assert parse_usage(value) == Usage(prompt, completion, Provenance.REPORTED)


@pytest.mark.parametrize(
    "value",
    [None, 5, "x", [], {}, {"prompt_tokens": None}, {"total_tokens": float("nan")}, {"prompt_tokens": float("inf")}],
)
def test_nothing_usable(value: object) -> None:
    assert parse_usage(value) is None


_NAMES = st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"])
_NUMBERS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.none())


@given(st.dictionaries(_NAMES | st.text(max_size=3), _NUMBERS))
def test_any_object_gives_sane_counts_or_none(value: dict[str, object]) -> None:
    usage = parse_usage(value)
    if usage is not None:
        for count in (usage.prompt_tokens, usage.completion_tokens):
            assert type(count) is int
            assert 0 <= count <= 2**53


@pytest.mark.parametrize(
    ("reported", "events", "answer_bytes", "complete", "expected"),
    [
        (Usage(3, 4), 9, 999, True, Usage(3, 4)),
        (Usage(3, 4), 9, 999, False, Usage(3, 4, Provenance.PARTIAL)),
        (None, 9, 999, True, Usage(25, 9, Provenance.ESTIMATED)),
        (None, 9, 999, False, Usage(25, 9, Provenance.PARTIAL)),
        (None, 0, 80, True, Usage(25, 20, Provenance.ESTIMATED)),
        (None, 0, 0, True, Usage(25, 0, Provenance.ESTIMATED)),
        (None, 0, 0, False, Usage(25, 0, Provenance.PARTIAL)),
    ],
)
def test_final_usage(reported: Usage | None, events: int, answer_bytes: int, complete: bool, expected: Usage) -> None:
    usage = final_usage(reported, prompt_bytes=101, events=events, answer_bytes=answer_bytes, complete=complete)
    assert usage == expected
