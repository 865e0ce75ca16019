"""What a fake backend has seen. Pure counting, bounded whatever arrives."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from load_tester.fake_answers import Request

MAX_COUNTED_PATHS = 1_000
SHOWN_BODY_BYTES = 65_536
MAX_TIMINGS = 10_000
MAX_WRITES = 512


@dataclass(slots=True)
class Timing:
    """When one request was complete and when tokens were written, in nanoseconds of the system's monotonic clock.

    `request_id` is the client's header of that name. Of longer answers, the first 512 writes.
    """

    request_id: str
    received_ns: int
    written_ns: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Stats:
    """Counts since the start or the last reset. Requests under /_fake/ are not in them.

    `requests` is by path. `inflight` counts requests whose answer is not complete, `connections` those open now.
    Tokens are those sent, whether or not the client has read them. `disconnects`: answers that ended early because the
    client had closed. `faults`: requests that met the fault.
    """

    requests: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    inflight: int = 0
    max_inflight: int = 0
    connections: int = 0
    disconnects: int = 0
    faults: int = 0
    timings: deque[Timing] = field(default_factory=lambda: deque(maxlen=MAX_TIMINGS), repr=False)
    last_headers: dict[str, str] = field(default_factory=dict, repr=False)
    last_body: bytes = field(default=b"", repr=False)

    @property
    def total_requests(self) -> int:
        """Requests over all paths."""
        return sum(self.requests.values())

    def count(self, request: Request) -> None:
        """Counts a request in."""
        known = request.path in self.requests or len(self.requests) < MAX_COUNTED_PATHS
        path = request.path if known else "(other)"
        self.requests[path] = self.requests.get(path, 0) + 1
        self.inflight += 1
        self.max_inflight = max(self.max_inflight, self.inflight)
        self.last_headers, self.last_body = dict(request.headers), request.body

    def reset(self) -> None:
        """Everything to zero but what is open now."""
        self.requests, self.last_headers, self.last_body = {}, {}, b""
        self.prompt_tokens = self.completion_tokens = self.disconnects = self.faults = 0
        self.max_inflight = self.inflight
        self.timings.clear()

    def to_json(self) -> dict[str, object]:
        """All of it; the body as text, cut to 64 KB."""
        return {
            "total_requests": self.total_requests,
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "inflight": self.inflight,
            "max_inflight": self.max_inflight,
            "connections": self.connections,
            "disconnects": self.disconnects,
            "faults": self.faults,
            "last_headers": self.last_headers,
            "last_body": self.last_body[:SHOWN_BODY_BYTES].decode(errors="replace"),
        }
