"""JSON as text: decoding that refuses as little as possible, and edits that touch nothing but the value meant.

Bodies are relayed byte for byte, so a member is changed by its byte span rather than by decoding and encoding the
whole. All scanning is iterative: depth of nesting never becomes depth of recursion.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson

_STRING_PATTERN = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRING = re.compile(_STRING_PATTERN, re.DOTALL)
# One that does not end is taken to the end: looking for its end again from each quote inside would take for ever.
_STRING_OR_REST = re.compile(_STRING_PATTERN + b"?", re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\n\r,:"{}\[\]]++')
_UNTIL_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|' + _STRING_PATTERN + rb")*+", re.DOTALL)
_SPACE = re.compile(rb"[ \t\n\r]*+")
_COLON = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+")
_MEMBER = re.compile(rb"[ \t\n\r]*+(" + _STRING_PATTERN + rb")[ \t\n\r]*+:[ \t\n\r]*+", re.DOTALL)
_AFTER_VALUE = re.compile(rb"[ \t\n\r]*+([,}])")
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")

# Integers too long for int() become floats: the value is not ours to judge, the text goes on as it is.
_LENIENT = json.JSONDecoder(parse_int=float)


class Span(NamedTuple):
    """A half-open range of bytes."""

    start: int
    end: int


def decode(data: bytes) -> object:
    """The value of a JSON text in UTF-8 (RFC 8259), and of what some writers add to it: NaN, lone surrogates.

    Raises ValueError: UnicodeDecodeError, json.JSONDecodeError with the position, or a plain one for nesting beyond
    what the decoders bear.
    """
    try:
        value: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _decode_leniently(data)
    return value


def _decode_leniently(data: bytes) -> object:
    text = data.decode()
    try:
        value: object = _LENIENT.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def is_elaborate(data: bytes, most: int) -> bool:
    """Whether a JSON text has more than `most` strings, arrays and objects together, or four times as many values.

    Decoding costs by these rather than by length; this looks without decoding, and in a time that `most` bounds.
    """
    if sum(map(data.count, (b'"', b"[", b"{"))) <= most and data.count(b",") <= 4 * most:
        return False
    rest, strings = _STRING_OR_REST.subn(b"", data, most)
    return strings + rest.count(b"[") + rest.count(b"{") > most or rest.count(b",") > 4 * most


def encode(text: str) -> bytes:
    """A JSON string in ASCII; lone surrogates survive."""
    return json.dumps(text).encode()


def value_end(data: bytes, start: int) -> int:
    """The index behind the value that begins at `start`. Raises ValueError where no complete value stands."""
    first = data[start : start + 1]
    if first in (b"{", b"["):
        return _container_end(data, start)
    match = (_STRING if first == b'"' else _SCALAR).match(data, start)
    if match is None:
        raise ValueError(f"no JSON value at byte {start}")
    return match.end()


def _container_end(data: bytes, start: int) -> int:
    position, depth = start, 0
    while True:
        match = _UNTIL_BRACKET.match(data, position)
        position = match.end() if match else position
        token = data[position : position + 1]
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
        else:
            raise ValueError(f"the JSON value at byte {start} does not end")
        position += 1
        if depth == 0:
            return position


def member_spans(data: bytes, key: str) -> list[Span]:
    """Where the values of the object's own members called `key` stand, however the key is spelled; nested ones do not
    count. More than one where the key is repeated. Raises ValueError if `data` does not begin with an object.
    """
    spans: list[Span] = []
    position = _behind_brace(data)
    if _next_token(data, position) == b"}":
        return spans
    while True:
        member = _MEMBER.match(data, position)
        if member is None:
            raise ValueError(f"no member of a JSON object at byte {position}")
        end = value_end(data, member.end())
        if _spells(member[1], key):
            spans.append(Span(member.end(), end))
        after = _AFTER_VALUE.match(data, end)
        if after is None:
            raise ValueError(f"the JSON object does not go on at byte {end}")
        if after[1] == b"}":
            return spans
        position = after.end()


def spans_of_present(data: bytes, key: str) -> list[Span]:
    """As `member_spans`, in less time, for a key of letters that the decoded object is known to hold.

    With no letter escaped anywhere, the key stands there literally; where it stands but once, that is the member.
    """
    literal = b'"' + key.encode() + b'"'
    if data.count(literal) != 1 or _ESCAPED_LETTER.search(data) is not None:
        return member_spans(data, key)
    colon = _COLON.match(data, data.index(literal) + len(literal))
    if colon is None:
        return member_spans(data, key)
    return [Span(colon.end(), value_end(data, colon.end()))]


def edit_values(data: bytes, spans: Sequence[Span], edit: Callable[[bytes], bytes]) -> bytes:
    """`data` with each span's text passed through `edit`; the same object where nothing changes."""
    pieces: list[bytes] = []
    position = 0
    for start, end in spans:
        old = data[start:end]
        new = edit(old)
        if new != old:
            pieces += (data[position:start], new)
            position = end
    if not pieces:
        return data
    pieces.append(data[position:])
    return b"".join(pieces)


def insert_member(data: bytes, key: str, value: bytes) -> bytes:
    """`data`, an object, with one more member right behind its opening brace. Raises ValueError if it is none."""
    position = _behind_brace(data)
    is_empty = _next_token(data, position) == b"}"
    comma = b"" if is_empty else b","
    return b"".join((data[:position], encode(key), b":", value, comma, data[position:]))


def _behind_brace(data: bytes) -> int:
    position = _space_end(data, 0)
    if data[position : position + 1] != b"{":
        raise ValueError("not a JSON object")
    return position + 1


def _space_end(data: bytes, position: int) -> int:
    match = _SPACE.match(data, position)
    return match.end() if match else position


def _next_token(data: bytes, position: int) -> bytes:
    end = _space_end(data, position)
    return data[end : end + 1]


def _spells(token: bytes, key: str) -> bool:
    if b"\\" not in token:
        return token[1:-1] == key.encode()
    return decode(token) == key
