"""Every target of the fuzzer with its seeds cut, joined and changed at random: briefly; longer by `make fuzz`."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with a few slices of it, or of another, put elsewhere, and some bytes changed."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        other = draw(st.sampled_from(seeds))
        begin, end = sorted((draw(st.integers(0, len(other))), draw(st.integers(0, len(other)))))
        at, to = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        data = data[:at] + draw(st.one_of(st.just(other[begin:end]), st.binary(max_size=3))) + data[to:]
    return data[:4000]


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_seeds(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(mutated(target.seeds) | st.binary(max_size=50))
    def fuzz(data: bytes) -> None:
        target.run(data)

    fuzz()
