"""How an answer goes out, rightly or wrongly: a script of bytes, waits and endings that a connection only has to play.

Pure: a script is a generator of steps, so that pace and faults can be read (and tested) without a socket.
"""

from __future__ import annotations

import enum
import http
import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import quote

from load_tester.fake_answers import Request
from load_tester.fake_behaviour import Behaviour, FaultName
from load_tester.fake_bodies import Answer, Event, error, frame

GARBAGE = b"220 mail.example ESMTP, nothing to see here\r\n\r\n"
HTML = b"<!doctype html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
BROKEN_JSON = b'{"id": "chatcmpl-0", "choices": [{"index": 0,'
FAULT_MESSAGE = "The fake backend was told to fail."
OWN_PACKET_PAUSE_SECONDS = 0.02
STALL_SECONDS = 86_400.0
WRITE_BYTES = 65_536

_KINDS = {401: "invalid_request_error", 403: "permission_error", 404: "invalid_request_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


class Ending(enum.Enum):
    """What becomes of the connection behind the last byte."""

    CLOSE = "close"  # orderly: what was written arrives
    RESET = "reset"  # at once, with a reset


class Step(NamedTuple):
    """One thing to do. `wait_seconds` None: at once; 0.0: in a write of its own. Tokens count when it is done."""

    data: bytes = b""
    wait_seconds: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ending: Ending | None = None


def choose_fault(request: Request, behaviour: Behaviour, rng: random.Random) -> FaultName:
    """The fault that this request meets."""
    if behaviour.fault in ("none", "refuse"):  # refusing is the listening socket's business
        return "none"
    in_scope = behaviour.fault_scope in ("all", request.method.lower())
    met = in_scope and (behaviour.fault_probability >= 1 or rng.random() < behaviour.fault_probability)
    return behaviour.fault if met else "none"


def after_fault(behaviour: Behaviour) -> Behaviour:
    """The behaviour once one more fault has been committed: the last of a limited number ends it."""
    if behaviour.fault_count == 0:
        return behaviour
    left = behaviour.fault_count - 1
    return replace(behaviour, fault_count=left, fault=behaviour.fault if left else "none")


def script(answer: Answer, request: Request, behaviour: Behaviour, fault: FaultName, serial: int) -> Iterator[Step]:
    """What the connection does to give `answer` to `request`, with `fault` in its way."""
    if fault == "reset":
        return iter((Step(ending=Ending.RESET),))
    if fault == "stall_headers":
        return iter((Step(wait_seconds=STALL_SECONDS, ending=Ending.CLOSE),))
    if fault == "malformed":
        return iter((Step(GARBAGE, ending=Ending.CLOSE),))
    answer = _replaced(answer, request, behaviour, fault)
    if answer.events is None:
        return _whole(answer, request, behaviour, fault, serial)
    return _stream(answer, request, behaviour, fault, serial)


def _replaced(answer: Answer, request: Request, behaviour: Behaviour, fault: FaultName) -> Answer:
    """The answer to send instead, for the faults that are answers."""
    if fault == "status":
        return _status(behaviour)
    if fault == "html":
        return Answer(body=HTML, content_type="text/html; charset=utf-8")
    if fault == "redirect":
        # Back to this backend, where a request to that path shows who followed.
        return Answer(status=307, headers=(f"location: /redirected{quote(request.path)}",))
    if answer.events is not None:
        return replace(answer, **_replaced_events(answer.events, behaviour, fault))
    bodies = {"empty_stream": b"", "bad_json": BROKEN_JSON, "error_in_200": _error_body()}
    return replace(answer, body=bodies[fault], completion_tokens=0) if fault in bodies else answer


def _replaced_events(events: Iterator[Event], behaviour: Behaviour, fault: FaultName) -> dict[str, Any]:
    """What changes in a stream; where the fault comes later than its last event, it comes behind that."""
    first = itertools.islice(events, behaviour.fault_after)
    if fault == "bad_json":
        return {"events": itertools.chain(first, [Event(frame(BROKEN_JSON, behaviour))], events)}
    if fault == "error_in_200":
        return {"events": itertools.chain(first, [Event(frame(_error_body(), behaviour))]), "done": b""}
    if fault in ("cut", "stall_body"):
        return {"events": first, "done": b""}
    if fault == "empty_stream":
        return {"events": iter(()), "done": b""}
    return {}


def _error_body() -> bytes:
    return error(500, FAULT_MESSAGE, kind="server_error", code="server_error").body


def _status(behaviour: Behaviour) -> Answer:
    status = behaviour.fault_status
    code = behaviour.fault_code or _CODES.get(status)
    kind = "insufficient_quota" if code == "insufficient_quota" else _KINDS.get(status, "server_error")
    headers = (("retry-after", behaviour.retry_after), ("retry-after-ms", behaviour.retry_after_ms))
    lines = tuple(f"{name}: {value}" for name, value in headers if value)
    return replace(error(status, FAULT_MESSAGE, kind=kind, code=code), headers=lines)


def _head(answer: Answer, behaviour: Behaviour, serial: int, framing: str | None, closing: bool) -> bytes:
    try:
        phrase = http.HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [
        f"HTTP/1.1 {answer.status} {phrase}",
        f"content-type: {answer.content_type}",
        f"x-request-id: req-{behaviour.name}-{serial}",
        f"x-fake-name: {behaviour.name}",
        *answer.headers,
        *behaviour.headers,
    ]
    if framing is not None:
        lines.append(framing)
    if closing:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _whole(answer: Answer, request: Request, behaviour: Behaviour, fault: FaultName, serial: int) -> Iterator[Step]:
    """Everything at once, after the time that the same answer would take as a stream."""
    head = _head(answer, behaviour, serial, f"content-length: {len(answer.body)}", not request.keep_alive)
    wait = None
    if answer.paced and behaviour.paced:
        wait = behaviour.ttft_seconds + behaviour.tpot_seconds * max(0, answer.completion_tokens - 1)
    if fault in ("cut", "stall_body"):
        yield Step(head + answer.body[: len(answer.body) // 2], wait, answer.prompt_tokens)
        yield _break_off(fault)
        return
    ending = None if request.keep_alive else Ending.CLOSE
    yield Step(head + answer.body, wait, answer.prompt_tokens, answer.completion_tokens, ending)


def _break_off(fault: FaultName) -> Step:
    return Step(wait_seconds=STALL_SECONDS if fault == "stall_body" else None, ending=Ending.CLOSE)


def _chunk(data: bytes) -> bytes:
    """One chunk of the chunked transfer coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class _Batch:
    """Events gathered for one write."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._own_writes = behaviour.paced or behaviour.chunks_per_write > 0
        self._limit = behaviour.chunks_per_write or (1 if behaviour.paced else 0)
        self._clear()

    def _clear(self) -> None:
        self._data: list[bytes] = []
        self._bytes = 0
        self._tokens = 0
        self._wait_seconds = 0.0

    def add(self, data: bytes, tokens: int = 0, wait_seconds: float = 0.0) -> bool:
        """Takes in an event; True when it is time to write."""
        self._data.append(data)
        self._bytes += len(data)
        self._tokens += tokens
        self._wait_seconds += wait_seconds
        return len(self._data) == self._limit or self._bytes >= WRITE_BYTES

    def take(self, ending: Ending | None = None) -> Step:
        """The step that writes what was gathered; the batch is empty afterwards."""
        wait = self._wait_seconds if self._own_writes and self._data else None
        step = Step(b"".join(self._data), wait, completion_tokens=self._tokens, ending=ending)
        self._clear()
        return step


def _stream(answer: Answer, request: Request, behaviour: Behaviour, fault: FaultName, serial: int) -> Iterator[Step]:
    """Headers at once, events at their time; without chunked coding the end of the connection ends the answer."""
    code = _chunk if request.chunked else bytes
    closing = not (request.keep_alive and request.chunked)
    framing = "transfer-encoding: chunked" if request.chunked else None
    yield Step(_head(answer, behaviour, serial, framing, closing), prompt_tokens=answer.prompt_tokens)
    batch = _Batch(behaviour)
    for event, wait in _timed(answer.events or iter(()), behaviour):
        if batch.add(code(event.data), event.tokens, wait):
            yield batch.take()
    if fault in ("cut", "stall_body"):
        yield batch.take()
        yield _break_off(fault)
        return
    last = (code(answer.done) if answer.done else b"") + (b"0\r\n\r\n" if request.chunked else b"")
    ending = Ending.CLOSE if closing else None
    if behaviour.done_in_own_packet:
        yield batch.take()
        yield Step(last, OWN_PACKET_PAUSE_SECONDS, ending=ending)
        return
    batch.add(last)
    yield batch.take(ending)


def _timed(events: Iterator[Event], behaviour: Behaviour) -> Iterator[tuple[Event, float]]:
    """Each event with the seconds since the one before: token n is ready at ttft + (n - 1) x tpot."""
    wait, free_tokens = behaviour.ttft_seconds, 1
    for event in events:
        if event.tokens:
            wait += behaviour.tpot_seconds * (event.tokens - free_tokens)
            free_tokens = 0
        yield event, wait
        wait = 0.0
