"""The algebra of the configuration without a database: what is recorded can be undone, and says what it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from balancer.store import EndpointRecord, RecordedChange
from balancer.store.history import VERSIONED, State, changed_again, difference, document, undone
from balancer.store.words import summary

_WORDS = st.sampled_from(["a", "b", "c"])
_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "base_url": _WORDS,
        "api_key_id": st.sampled_from([None, 1, 2]),
        "connected": st.booleans(),
        "enabled": st.booleans(),
        "weight": st.sampled_from([1.0, 2.5]),
        "priority_order": st.integers(1, 3),
        "price_per_million_output": st.sampled_from([None, 0.0, 3.0]),
        "tags": st.lists(_WORDS, max_size=2),
        "pos_x": st.sampled_from([1.0, 2.0]),
    },
)


def a_document(endpoint_id: int, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**document(EndpointRecord(endpoint_id, f"e{endpoint_id}", "http://x")), **fields}


_STATES = st.builds(
    lambda mode, endpoints: State(mode, {each: a_document(each, fields) for each, fields in endpoints.items()}, 9),
    st.sampled_from(["percentage", "priority"]),
    st.dictionaries(st.integers(1, 4), _FIELDS, max_size=4),
)


def versioned(state: State) -> tuple[str, dict[int, dict[str, Any]]]:
    endpoints = {each: {name: doc[name] for name in VERSIONED} for each, doc in state.endpoints.items()}
    return state.routing_mode, endpoints


def names_of(changes: Iterable[RecordedChange]) -> set[str]:
    return {name for change in changes for name in change.fields()}


@given(old=_STATES, new=_STATES)
def test_a_recorded_difference_can_be_undone(old: State, new: State) -> None:
    changes = difference(old, new)
    assert versioned(undone(new, changes)) == versioned(old)
    assert changed_again(new, changes) == []
    assert (changes == ()) == (versioned(old) == versioned(new))
    for each in set(new.endpoints) & set(old.endpoints):  # who stays, stays where it is
        assert undone(new, changes).endpoints[each]["pos_x"] == new.endpoints[each]["pos_x"]
    for each in set(old.endpoints) - set(new.endpoints):  # who comes back, comes back to its place
        assert undone(new, changes).endpoints[each] == old.endpoints[each]


@given(old=_STATES, new=_STATES, moved_on=st.integers(1, 4), fields=_FIELDS)
def test_only_what_was_left_alone_is_taken_back(
    old: State, new: State, moved_on: int, fields: Mapping[str, Any]
) -> None:
    now = new
    if moved_on in new.endpoints:
        now = replace(new, endpoints={**new.endpoints, moved_on: {**new.endpoints[moved_on], **fields}})
    changes = difference(old, new)
    touched, since = names_of(changes), names_of(difference(new, now))
    again = set(changed_again(now, changes))
    assert again == {name for name in since if name in touched or name.rpartition(".")[0] in touched}
    if not again:
        assert names_of(difference(undone(now, changes), now)) == touched


@given(old=_STATES, new=_STATES)
def test_a_summary_names_every_endpoint_it_has_room_for(old: State, new: State) -> None:
    changes = difference(old, new)
    words = summary(changes)
    assert all(change.name in words for change in changes)
    assert (words == "") == (changes == ())


def test_an_endpoint_deleted_by_another_version_of_the_program_comes_back() -> None:
    kept = {**a_document(1, {"weight": 4.0}), "retired_field": 1}
    del kept["include_usage"]
    deleted = RecordedChange(1, "e1", kept, None)
    changed = RecordedChange(1, "e1", {"retired_field": 0, "weight": 3.0}, {"retired_field": 1, "weight": 4.0})
    back = undone(State("percentage", {}, 2), [deleted])
    assert back.endpoints == {1: a_document(1, {"weight": 4.0})}
    assert changed_again(back, [changed]) == []
    assert undone(back, [changed]).endpoints == {1: a_document(1, {"weight": 3.0})}
    assert summary([changed]) == "e1: retired field changed, weight 3 -> 4"
