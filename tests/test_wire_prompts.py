from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.wire.openai import OPERATIONS
from balancer.wire.prompts import prompt_head
from tests.fakes import BODIES

CHAT = OPERATIONS["/v1/chat/completions"]
COMPLETIONS = OPERATIONS["/v1/completions"]
RESPONSES = OPERATIONS["/v1/responses"]

SYSTEM = {"role": "system", "content": "You are brief."}
TEXTS = st.text(max_size=60)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def chat(*messages: Any, **fields: Any) -> bytes:
    return json.dumps({**fields, "messages": messages}).encode()


@given(first=TEXTS, rest=st.lists(TEXTS, max_size=4), indent=st.sampled_from([None, 2]), ahead=st.booleans())
def test_a_conversation_keeps_its_head_as_it_grows(
    first: str, rest: list[str], indent: int | None, ahead: bool
) -> None:
    turns = [SYSTEM, user(first)]
    fields = {"model": "m"} if ahead else {}
    begun = json.dumps({**fields, "messages": turns}, indent=indent).encode()
    grown = json.dumps({**fields, "messages": [*turns, *map(user, rest)]}, indent=indent).encode()
    head = prompt_head(begun, CHAT, 2048)
    assert head == prompt_head(grown, CHAT, 2048)
    assert json.loads(head + b"]") == turns


def test_another_first_question_is_another_conversation() -> None:
    assert prompt_head(chat(SYSTEM, user("a")), CHAT, 2048) != prompt_head(chat(SYSTEM, user("b")), CHAT, 2048)


def test_what_follows_a_long_system_prompt_does_not_matter() -> None:
    long = {"role": "system", "content": "x" * 3000}
    heads = {prompt_head(chat(long, user(text)), CHAT, 2048) for text in "abc"}
    assert [len(head) for head in heads] == [2048]


def test_the_user_may_write_what_looks_like_a_message() -> None:
    tricky = {"role": "system", "content": '"role":"user" }]'}
    head = prompt_head(chat(tricky, user("a"), user("b")), CHAT, 2048)
    assert json.loads(head + b"]") == [tricky, user("a")]


def test_other_prompts_are_taken_as_far_as_they_go() -> None:
    assert prompt_head(b'{"prompt": "abcdefgh", "n": 1}', COMPLETIONS, 5) == b'"abcd'
    assert prompt_head(b'{"input": "hello"}', RESPONSES, 2048) == b'"hello"}'
    assert prompt_head(b'{"input": ["a", "b"]}', RESPONSES, 2048) == b'["a", "b"]}'
    conversation = json.dumps({"input": [user("a"), user("b")]}).encode()
    assert json.loads(prompt_head(conversation, RESPONSES, 2048) + b"]") == [user("a")]


def test_every_operation_has_a_prompt() -> None:
    for path, operation in OPERATIONS.items():
        body = json.dumps(BODIES[path.removeprefix("/v1/")]).encode()
        assert prompt_head(body, operation, 2048), path


@pytest.mark.parametrize("body", [b"{}", b'{"model": "messages"}', b'{"prompt": "a"}', b'{"messages"', b""])
def test_no_prompt(body: bytes) -> None:
    assert prompt_head(body, CHAT, 2048) == b""


@given(st.binary(max_size=200), st.integers(1, 100))
def test_nothing_breaks_it(tail: bytes, most: int) -> None:
    for opening in (b'{"messages":', b'{"messages": [', b'{"messages":[{"role":"user"', b'{"messages":[{},{'):
        assert len(prompt_head(opening + tail, CHAT, most)) <= most
