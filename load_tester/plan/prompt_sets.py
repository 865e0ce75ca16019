"""Reads a file of prompts: JSON Lines, each a prompt or a list of messages. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from load_tester.errors import BadInput
from load_tester.plan.prompts import Line

MOST_LINES = 100_000
_LONGEST_SHOWN = 80


def parse_prompt_set(data: bytes, name: str = "file") -> tuple[Line, ...]:
    """The prompts of a file; blank lines do not count. Raises BadInput naming the line that cannot be used.

    Each line is a JSON string, or an object with `messages` (a list of objects with `role` and `content`) or `prompt`
    (text), and perhaps `max_tokens`.
    """
    lines: list[Line] = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not raw.strip():
            continue
        if len(lines) == MOST_LINES:
            raise BadInput(name, f"line {number}: more than {MOST_LINES:,} prompts; split the file")
        try:
            lines.append(_line(orjson.loads(raw)))
        except orjson.JSONDecodeError as error:
            start = raw[:_LONGEST_SHOWN].decode(errors="replace")
            raise BadInput(name, f"line {number}: not JSON ({error.msg}): {start!r}") from None
        except ValueError as error:
            raise BadInput(name, f"line {number}: {error}") from None
    if not lines:
        raise BadInput(name, "holds no prompts: one JSON object per line was expected")
    return tuple(lines)


def _line(value: Any) -> Line:
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object with prompt or messages")  # noqa: TRY004 - bad input, not a bug
    limit = value.get("max_tokens", value.get("output_tokens"))
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError("max_tokens: expected a whole number above 0")
    messages = value.get("messages")
    if messages is None:
        prompt = value.get("prompt")
        if not isinstance(prompt, str) or not prompt:
            raise ValueError("expected prompt (text) or messages (a list)")
        return Line(({"role": "user", "content": prompt},), limit)
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise ValueError("messages: expected a list of objects with role and content")
    return Line(tuple(messages), limit)


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and "content" in value
