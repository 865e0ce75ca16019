"""Server-sent events as endpoints stream them: where events end, what the first one says, usage on the way.

Sans-I/O and total: any bytes, in any pieces, give the same result. Rules of lines and fields: WHATWG HTML, "Server-
sent events", section 9.2.6. A block is everything up to and including a blank line; most blocks are one event.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from balancer.core.endpoints import Usage
from balancer.wire.answers import rename_model
from balancer.wire.json_text import decode, encode
from balancer.wire.usage import parse_usage

_LONGEST_BLOCK_BYTES = 1_000_000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# A line end followed by a line end, whichever of LF, CRLF and CR; further ones belong to the same gap.
_BLANK_LINE = re.compile(rb"(?:\n[\r\n]|\r\r)[\r\n]*+")
_LINE_ENDS = re.compile(rb"[\r\n]*+")
_USAGE_OBJECT = re.compile(rb'"usage"[ \t]*+:[ \t]*+\{')
_DATA_LINE = re.compile(rb"(?:\A|[\r\n])data:[ ]?([^\r\n]*+)")
_MODEL_MEMBER = re.compile(rb'("model"[ \t]*+:[ \t]*+)"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_BLOCK_ENDS = (b"\n\n", b"\r\n\r\n")
_LAST_NAMES = (b"response.completed", b"response.incomplete")
_LF = 10


class Event(NamedTuple):
    """One block's fields. `data` None: no event, only comments or other fields."""

    data: bytes | None
    name: bytes | None


def parse_block(block: bytes) -> Event:
    """The fields of one block."""
    data: list[bytes] = []
    name: bytes | None = None
    for line in block.splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return Event(b"\n".join(data) if data else None, name)


class FirstEvent(NamedTuple):
    """The first event of a stream. `is_error`: the endpoint failed although it answered 200."""

    data: bytes
    name: bytes | None
    is_error: bool

    @property
    def is_end(self) -> bool:
        """Whether the stream is over with this event, without any content."""
        return self.data.strip() == b"[DONE]"


def first_event(held: bytes) -> FirstEvent | None:
    """The first complete event at the beginning of a stream, None while there is none. Comments are no events.

    An error is: the event name `error`; a JSON object with a non-empty `error` and no choices; or, of the responses
    API, the types `error` and `response.failed`, since nothing of the answer has come before them.
    """
    start = len(_BYTE_ORDER_MARK) if held.startswith(_BYTE_ORDER_MARK) else 0
    for gap in _BLANK_LINE.finditer(held, start):
        data, name = parse_block(held[start : gap.end()])
        if data is not None:
            return FirstEvent(data, name, name == b"error" or _is_error(data))
        start = gap.end()
    return None


def _is_error(data: bytes) -> bool:
    document = _object(data)
    if document.get("type") in ("error", "response.failed"):
        return True
    return bool(document.get("error")) and not document.get("choices")


def _object(data: bytes) -> dict[str, object]:
    try:
        document = decode(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


class Part(enum.Enum):
    """What a piece of a stream is."""

    BLOCK = enum.auto()
    OVERSIZE = enum.auto()  # a block, or its beginning, too long to look into
    REST = enum.auto()  # belongs to the piece before it


_BLOCK, _OVERSIZE, _REST = Part


class BlockSplitter:
    """Cuts a stream into blocks. The pieces and `pending`, joined, are always exactly what was fed.

    Holds at most 1 MB: of a longer block, the beginning comes out as OVERSIZE and what follows as REST. A byte order
    mark and line ends before a block are REST, so that a block begins with its first line.
    """

    __slots__ = ("_begun", "oversize", "pending")

    def __init__(self) -> None:
        self.pending = bytearray()
        self.oversize = False
        self._begun = False

    @property
    def between_blocks(self) -> bool:
        """Whether all that was fed came out, the last of it ending a block; no byte order mark can follow."""
        return self._begun and not self.pending and not self.oversize

    def begin_without_mark(self) -> bool:
        """Say, before anything is fed, that the stream has no byte order mark. False: too late, it has begun."""
        if self._begun or self.pending:
            return False
        self._begun = True
        return True

    def feed(self, chunk: bytes) -> list[tuple[Part, bytes]]:
        """The pieces that are complete now."""
        pieces: list[tuple[Part, bytes]] = []
        buffer = self.pending
        position = max(0, len(buffer) - 1)  # a blank line may begin at the last byte seen
        buffer += chunk
        start = self._skip_to_block(pieces)
        position = max(position, start)
        while (gap := _BLANK_LINE.search(buffer, position)) is not None:
            part = _OVERSIZE if gap.start() - start > _LONGEST_BLOCK_BYTES else _BLOCK
            pieces.append((_REST if self.oversize else part, bytes(buffer[start : gap.end()])))
            self.oversize = False
            start = position = gap.end()
        del buffer[:start]
        self._spill(pieces)
        return pieces

    def finish(self) -> list[tuple[Part, bytes]]:
        """The last piece, where the stream ended without a blank line."""
        piece = bytes(self.pending)
        self.pending.clear()
        return [(_REST if self.oversize else _BLOCK, piece)] if piece else []

    def _skip_to_block(self, pieces: list[tuple[Part, bytes]]) -> int:
        buffer, start = self.pending, 0
        if self.oversize:
            return start
        if not self._begun:
            mark = bytes(buffer[: len(_BYTE_ORDER_MARK)])
            if mark != _BYTE_ORDER_MARK and _BYTE_ORDER_MARK.startswith(mark):
                return start
            self._begun = True
            start = len(mark) if mark == _BYTE_ORDER_MARK else 0
        line_ends = _LINE_ENDS.match(buffer, start)
        start = line_ends.end() if line_ends else start
        if start:
            pieces.append((_REST, bytes(buffer[:start])))
        return start

    def _spill(self, pieces: list[tuple[Part, bytes]]) -> None:
        """Let go of a block that is too long already. The last byte stays: it may begin the blank line."""
        buffer = self.pending
        if self.oversize or len(buffer) > _LONGEST_BLOCK_BYTES + 1:
            pieces.append((_REST if self.oversize else _OVERSIZE, bytes(buffer[:-1])))
            del buffer[:-1]
            self.oversize = True


class StreamMeter:
    """Reads usage and counts events of a stream as it passes.

    Without arguments every chunk comes out of `feed` as the same object, at once. `strip_usage`: an event that is
    nothing but a usage report (`choices` empty, `usage` an object) is taken out, as belongs to an injected
    `include_usage`; the `"usage": null` that some endpoints then add to the other events stays. `rename_to`: the
    model's name in every event is replaced by this. With either, an unfinished block is held back.

    `usage`: the last one reported. `events`: lines of data, without `[DONE]`, counted when their block is complete.
    `done`: `[DONE]` has passed, or the event that ends a stream of the responses API, by its name. A block above
    1 MB counts as one event and is not looked into; nor is a usage whose key is spelled with escapes.
    """

    __slots__ = (
        "_dropped",
        "_holds",
        "_plain",
        "_rename",
        "_splitter",
        "_strips",
        "answer_bytes",
        "done",
        "events",
        "usage",
    )

    def __init__(self, *, strip_usage: bool = False, rename_to: str | None = None) -> None:
        self.usage: Usage | None = None
        self.events = 0
        self.done = False
        self.answer_bytes = 0
        self._strips = strip_usage
        self._rename = None if rename_to is None else BlockRenaming(rename_to)
        self._holds = strip_usage or rename_to is not None
        self._splitter = BlockSplitter()
        self._dropped = False  # whether the last block was taken out, and so will be what still belongs to it
        self._plain = False  # whether chunks of whole, unremarkable blocks may pass without being cut

    @property
    def at_boundary(self) -> bool:
        """Whether what came out so far ends between two events."""
        splitter = self._splitter
        return not splitter.oversize and (self._holds or not splitter.pending)

    def feed(self, chunk: bytes) -> bytes:
        """What to forward now; b"" while a block is held back."""
        self.answer_bytes += len(chunk)
        if not (self._plain or self._begins_plain(chunk)):
            return self._feed_pieces(chunk)
        usage_at = chunk.find(b'"usage"')  # find() throughout: `in` costs twice as much on bytes
        report = _USAGE_OBJECT.search(chunk, usage_at) if usage_at >= 0 else None
        if report is None:
            return chunk if self._passes(chunk) else self._feed_pieces(chunk)
        # The blocks in front of the one with the report pass as if they had come by themselves.
        start = chunk.rfind(b"\n\n", 0, report.start()) + 2
        if start < 2 or not self._passes(chunk[:start]):
            return self._feed_pieces(chunk)
        rest = self._feed_pieces(chunk[start:])
        return chunk[:start] + rest if self._holds else chunk

    def _begins_plain(self, chunk: bytes) -> bool:
        """Whether the stream begins with this chunk and, as almost all do, at once with data."""
        return self._rename is None and chunk.startswith(b"data:") and self._splitter.begin_without_mark()

    def _passes(self, chunk: bytes) -> bool:
        """Whether `chunk`, which begins between two blocks, is whole blocks to be counted and nothing else."""
        if chunk.find(b"\n") == len(chunk) - 2 and chunk.startswith(b"data: {") and chunk.find(b"\r") < 0:
            if chunk[-1] == _LF:  # one event of one line, and so neither [DONE] nor one with a name
                self.events += 1
                return True
        elif len(chunk) <= _LONGEST_BLOCK_BYTES and chunk.endswith(_BLOCK_ENDS) and not _may_end(chunk):
            self.events += _data_lines(chunk)
            return True
        return False

    def finish(self) -> bytes:
        """What was held back. For a regular end only: of a broken stream, an unfinished block is better lost."""
        passed = self._take_all(self._splitter.finish())
        return passed if self._holds else b""

    def _feed_pieces(self, chunk: bytes) -> bytes:
        passed = self._take_all(self._splitter.feed(chunk))
        self._plain = self._rename is None and not self._dropped and self._splitter.between_blocks
        return passed if self._holds else chunk

    def _take_all(self, pieces: list[tuple[Part, bytes]]) -> bytes:
        return b"".join([self._take(part, piece) for part, piece in pieces])

    def _take(self, part: Part, piece: bytes) -> bytes:
        if part is _REST:
            return b"" if self._dropped else piece
        self._dropped = False
        if part is _OVERSIZE:
            self.events += 1
            return piece
        self.events += _data_lines(piece)
        if _may_end(piece):
            self._note_end(piece)
        if _USAGE_OBJECT.search(piece) is not None:
            self._dropped = self._note_usage(piece) and self._strips
        if self._dropped:
            return b""
        return piece if self._rename is None else self._rename(piece)

    def _note_end(self, block: bytes) -> None:
        data, name = parse_block(block)
        if data is not None and data.strip() == b"[DONE]":
            self.done = True
            self.events -= 1
        elif name in _LAST_NAMES:
            self.done = True

    def _note_usage(self, block: bytes) -> bool:
        """Keep the usage reported; whether the block is nothing but the report."""
        document = _object(parse_block(block).data or b"")
        response, usage = document.get("response"), document.get("usage")
        nested = response.get("usage") if isinstance(response, dict) else None
        self.usage = parse_usage(usage) or parse_usage(nested) or self.usage
        return isinstance(usage, dict) and document.get("choices") == []


class BlockRenaming:
    """Replaces the model's name in blocks.

    The first one is found by a full scan; a later block whose only member `model` is spelled as that one was, by
    search. JSON that spreads over several lines of data stays as it is.
    """

    __slots__ = ("_name", "_new", "_old")

    def __init__(self, name: str) -> None:
        self._name = name
        self._old = b""
        self._new = b""

    def __call__(self, block: bytes) -> bytes:
        """The block with the model renamed; the same object where there is nothing to rename."""
        members = block.count(b'"model"')
        if members == 1 and self._old and block.count(self._old) == 1:
            return block.replace(self._old, self._new)
        lines = list(_DATA_LINE.finditer(block)) if members else []
        if len(lines) != 1:
            return block
        start, end = lines[0].span(1)
        payload = block[start:end]
        renamed = rename_model(payload, self._name)
        if renamed is payload:
            return block
        if members == 1:
            self._learn(payload, renamed)
        return block[:start] + renamed + block[end:]

    def _learn(self, payload: bytes, renamed: bytes) -> None:
        member = _MODEL_MEMBER.search(payload)
        if member is not None and member[0] not in renamed:  # else another spelling of the key was meant
            self._old, self._new = member[0], member[1] + encode(self._name)


def _may_end(blocks: bytes) -> bool:
    """Whether a closer look is due for the end of the stream."""
    return blocks.find(b"[DONE]") >= 0 or blocks.find(b"complete") >= 0


def _data_lines(blocks: bytes) -> int:
    """Lines of data in whole blocks. Inside JSON a line end is always escaped, so only fields are counted."""
    lines = blocks.count(b"\ndata:") + blocks.startswith(b"data:")
    return lines + blocks.count(b"\rdata:") if blocks.find(b"\r") >= 0 else lines
