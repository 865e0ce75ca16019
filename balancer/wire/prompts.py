"""Where the prompt begins in a request body, and how much of it stays the same from turn to turn of a conversation.

Pure, and of bounded cost: the body is searched for one name, and no more than the bytes asked for are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from balancer.wire.json_text import value_end
from balancer.wire.openai import Operation

_COLON = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+")
_BETWEEN = re.compile(rb"[ \t\n\r]*+,?[ \t\n\r]*+")
_FROM_USER = re.compile(rb'"role"[ \t\n\r]*+:[ \t\n\r]*+"user"')
_MEMBERS: Mapping[str, bytes] = MappingProxyType(
    {"chat": b'"messages"', "completions": b'"prompt"', "images": b'"prompt"', "rerank": b'"query"'}
)
_OTHERWISE = b'"input"'


def prompt_head(body: bytes, operation: Operation, most_bytes: int) -> bytes:
    """The beginning of the prompt as the client wrote it: at most `most_bytes` bytes; empty where there is none.

    It begins with the value of the first member called `messages`, `prompt`, `query` or `input`, by the operation. A
    list of messages is taken up to the end of the first message of the user: what comes behind that grows with every
    turn. All else is taken as far as it goes.
    """
    name = _MEMBERS.get(operation.name, _OTHERWISE)
    at = body.find(name)
    colon = _COLON.match(body, at + len(name)) if at >= 0 else None
    if colon is None:
        return b""
    head = body[colon.end() : colon.end() + most_bytes]
    return head[: _first_turn_end(head)] if head.startswith(b"[") else head


def _first_turn_end(head: bytes) -> int:
    position = 1
    while True:
        between = _BETWEEN.match(head, position)
        position = between.end() if between else position
        if head[position : position + 1] != b"{":
            return len(head)
        try:
            end = value_end(head, position)
        except ValueError:  # goes on behind what is looked at
            return len(head)
        if _FROM_USER.search(head, position, end):
            return end
        position = end
