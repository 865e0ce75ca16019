"""What endpoints answer apart from streams: usage of JSON bodies, the model's name, lists of models, waits, refusals.

Whatever an endpoint sends, nothing here raises; what is not understood goes on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Protocol

from balancer.core.endpoints import Usage
from balancer.wire.json_text import decode, edit_values, encode, member_spans, value_end
from balancer.wire.usage import parse_usage

_PARSED_BYTES = 1_000_000
_SEARCHED_BYTES = 65_536
_MOST_CANDIDATES = 8  # each costs a scan of up to the searched bytes
_RENAMED_BYTES = 32 * 1024 * 1024
_LONGEST_WAIT_SECONDS = 3600.0

_USAGE_OBJECT = re.compile(rb'"usage"[ \t\n\r]*+:[ \t\n\r]*+(?=\{)')
# An identifier, as all that is documented are; sentences and most keys are none.
_KIND = re.compile(r"[a-z0-9_.]{1,40}")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?", re.ASCII)


class Meter(Protocol):
    """Reads an answer as it passes. Every byte fed comes out of `feed` or `finish`, except as a constructor says.

    `usage` is what the endpoint reported so far, `events` the events of a stream so far, `done` whether the answer
    itself has said that it is complete, `answer_bytes` the bytes fed.
    """

    usage: Usage | None
    events: int
    done: bool
    answer_bytes: int

    @property
    def at_boundary(self) -> bool:
        """Whether what came out so far ends between two events, so that a comment may be put there."""

    def feed(self, chunk: bytes) -> bytes:
        """What to forward now."""

    def finish(self) -> bytes:
        """What was held back, at a regular end."""


class PassMeter:
    """For answers that report nothing, such as audio: only counts bytes."""

    __slots__ = ("answer_bytes", "done", "events", "usage")

    at_boundary = False

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.events = 0
        self.done = False
        self.answer_bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        """Returns `chunk` itself."""
        self.answer_bytes += len(chunk)
        return chunk

    def finish(self) -> bytes:
        """Nothing is held back."""
        self.done = True
        return b""


class JsonMeter:
    """For one JSON document. Its top-level `usage` is known after `finish`.

    Bodies above 1 MB are not parsed: there, the last usage object in the last 64 KB counts, else the last in the
    first 64 KB. `rename_to`: the model's name in the answer is replaced by this; the body is then held back until
    `finish`, except beyond 32 MB, where it passes as it is.
    """

    __slots__ = ("_beginning", "_held", "_kept", "_kept_bytes", "_rename_to", "answer_bytes", "done", "events", "usage")

    at_boundary = False

    def __init__(self, *, rename_to: str | None = None) -> None:
        self.usage: Usage | None = None
        self.events = 0
        self.done = False
        self.answer_bytes = 0
        self._rename_to = rename_to
        self._held: list[bytes] = []
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._beginning = b""

    def feed(self, chunk: bytes) -> bytes:
        """Returns `chunk` itself, or b"" while the body is held back."""
        self.answer_bytes += len(chunk)
        self._kept.append(chunk)
        self._kept_bytes += len(chunk)
        if self.answer_bytes > _PARSED_BYTES:
            self._keep_ends()
        if self._rename_to is None:
            return chunk
        self._held.append(chunk)
        if self.answer_bytes <= _RENAMED_BYTES:
            return b""
        self._rename_to = None
        return self._release()

    def finish(self) -> bytes:
        """Reads the usage; returns the body if it was held back."""
        self.done = True
        kept = b"".join(self._kept)  # of one piece that is the piece itself
        self._kept.clear()
        self.usage = self._read_usage(kept)
        if not self._held:
            return b""
        body = self._release()
        return body if self._rename_to is None else rename_model(body, self._rename_to)

    def _keep_ends(self) -> None:
        """Too long to be parsed: the beginning and the end are enough to search."""
        if self._kept_bytes <= 2 * _SEARCHED_BYTES:
            return
        kept = b"".join(self._kept)
        self._beginning = self._beginning or kept[:_SEARCHED_BYTES]
        self._kept = [kept[-_SEARCHED_BYTES:]]
        self._kept_bytes = _SEARCHED_BYTES

    def _read_usage(self, kept: bytes) -> Usage | None:
        if self._beginning:
            return _last_usage(kept[-_SEARCHED_BYTES:]) or _last_usage(self._beginning)
        if kept.find(b'"usage"') < 0:
            return None
        try:
            document = decode(kept)
        except ValueError:
            return None
        return parse_usage(document.get("usage")) if isinstance(document, dict) else None

    def _release(self) -> bytes:
        body = b"".join(self._held)
        self._held.clear()
        return body


def _last_usage(data: bytes) -> Usage | None:
    starts = [match.end() for match in _USAGE_OBJECT.finditer(data)]
    for start in reversed(starts[-_MOST_CANDIDATES:]):
        try:
            usage = parse_usage(decode(data[start : value_end(data, start)]))
        except ValueError:
            continue
        if usage is not None:
            return usage
    return None


def rename_model(payload: bytes, name: str) -> bytes:
    """`payload`, a JSON object, with its `model` replaced by `name`, also the one inside a member `response`.

    Only strings are replaced, by byte span. What is no JSON object comes back as it is.
    """
    if b'"model"' not in payload:
        return payload
    value = encode(name)
    try:
        renamed = _with_model(payload, value)
        if b'"response"' not in payload:
            return renamed
        return edit_values(renamed, member_spans(renamed, "response"), lambda old: _with_model(old, value))
    except ValueError:
        return payload


def _with_model(data: bytes, value: bytes) -> bytes:
    if not data.lstrip().startswith(b"{"):
        return data
    return edit_values(data, member_spans(data, "model"), lambda old: value if old.startswith(b'"') else old)


def merge_models(lists: Iterable[Sequence[object]]) -> list[dict[str, object]]:
    """One list of model objects out of several endpoints' `data`, by id; of two with one id the first stays.

    Entries stay as they are, except that `object`, `created` and `owned_by` are filled in where absent. Entries
    without a usable id are left out.
    """
    merged: dict[str, dict[str, object]] = {}
    for models in lists:
        for model in models:
            if not isinstance(model, Mapping):
                continue
            name = model.get("id")
            if isinstance(name, str) and name and name not in merged:
                merged[name] = {"id": name, "object": "model", "created": 0, "owned_by": "local"} | dict(model)
    return [merged[name] for name in sorted(merged)]


def insufficient_quota(body: bytes) -> bool:
    """Whether the body of a 429 says that the account is exhausted, which waiting does not mend."""
    if b"insufficient_quota" not in body:
        return False
    try:
        document = decode(body)
    except ValueError:
        return False
    error = document.get("error") if isinstance(document, dict) else None
    return isinstance(error, dict) and "insufficient_quota" in (error.get("code"), error.get("type"))


def error_kind(data: bytes) -> str:
    """What kind of error an event says it is, "" when it does not say: its type and code, never its message."""
    try:
        document = decode(data)
    except ValueError:
        return ""
    error = document.get("error", document) if isinstance(document, dict) else None
    named = [error.get("type"), error.get("code")] if isinstance(error, dict) else []
    words = [str(each) for each in named if isinstance(each, str | int) and not isinstance(each, bool)]
    return ", ".join(dict.fromkeys(each for each in words if _KIND.fullmatch(each)))


def mentions_stream_options(body: bytes) -> bool:
    """Whether the body of a 400 or 422 names the option that asks for usage in streams.

    A plain search: endpoints word this complaint in too many ways, and a wrong guess costs one more attempt.
    """
    return b"stream_options" in body or b"include_usage" in body


def retry_after(headers: Iterable[tuple[bytes, bytes]], wall_clock_seconds: float) -> float | None:
    """Seconds to wait, 0 to 3,600, as an answer's headers ask; None if they do not, or not intelligibly.

    `retry-after-ms` comes first, being the finer one; else `retry-after` in seconds or as an HTTP-date (RFC 9110
    section 10.2.3), which is compared with `wall_clock_seconds`, Unix time. A date that has passed means 0.
    """
    milliseconds = seconds = None
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"retry-after-ms" and milliseconds is None:
            milliseconds = _number(value)
        elif lowered == b"retry-after" and seconds is None:
            seconds = _number(value)
            if seconds is None:
                seconds = _seconds_until(value, wall_clock_seconds)
    if milliseconds is not None:
        seconds = milliseconds / 1000
    return None if seconds is None else min(seconds, _LONGEST_WAIT_SECONDS)


def _number(value: bytes) -> float | None:
    text = value.decode("latin-1").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _seconds_until(date: bytes, wall_clock_seconds: float) -> float | None:
    try:
        moment = parsedate_to_datetime(date.decode("latin-1"))
        if moment.tzinfo is None:  # asctime form, or "-0000": both mean UTC
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - wall_clock_seconds)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
