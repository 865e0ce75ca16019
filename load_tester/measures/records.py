"""One request as it was measured, and the figures that follow from it alone. Pure.

All stamps are monotonic nanoseconds; 0 means that it did not happen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

NANOSECONDS = 1_000_000_000


class Failure(StrEnum):
    """Why a request does not count as answered."""

    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT_CONNECT = "timeout_connect"
    TIMEOUT_FIRST_BYTE = "timeout_first_byte"
    TIMEOUT_SILENCE = "timeout_silence"
    STATUS_3XX = "3xx"
    STATUS_4XX = "4xx"
    STATUS_429 = "429"
    STATUS_5XX = "5xx"
    NOT_AN_ANSWER = "not_an_answer"
    IN_STREAM = "in_stream"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    CANCELLED = "cancelled"


FAILURE_WORDS = {
    Failure.CONNECT: "no connection",
    Failure.TLS: "TLS failed",
    Failure.TIMEOUT_CONNECT: "connecting took too long",
    Failure.TIMEOUT_FIRST_BYTE: "no answer within the timeout",
    Failure.TIMEOUT_SILENCE: "the answer fell silent for longer than the timeout",
    Failure.STATUS_3XX: "redirected; redirects are not followed",
    Failure.STATUS_4XX: "refused the request (4xx)",
    Failure.STATUS_429: "too many requests (429)",
    Failure.STATUS_5XX: "server error (5xx)",
    Failure.NOT_AN_ANSWER: "200 with something that is no answer of this API",
    Failure.IN_STREAM: "an error inside a 200 answer",
    Failure.TRUNCATED: "the answer broke off, or has no finish_reason",
    Failure.EMPTY: "an answer without output",
    Failure.CANCELLED: "cut off by the end of the run",
}


class TokenSource(StrEnum):
    """Where `tokens_out` comes from."""

    USAGE = "usage"
    CHUNKS = "chunks"
    NONE = "none"


@dataclass(slots=True)
class Record:
    """One request. `scheduled_ns` is 0 in a closed loop, where there is no plan to be late against.

    `first_ns` and `last_ns`: first and last chunk with non-empty content, reasoning or tool call; without a stream
    `first_ns` stays 0 and `last_ns` is the end. `output_ns`: the first chunk that is not reasoning. `gaps_ns`: between
    such chunks. `first_attempt` ...: what the routing headers say.
    """

    number: int
    segment: int = 0
    scheduled_ns: int = 0
    sent_ns: int = 0
    head_ns: int = 0
    first_ns: int = 0
    output_ns: int = 0
    last_ns: int = 0
    ended_ns: int = 0
    chunks: int = 0
    gaps_ns: list[int] = field(default_factory=list)
    tokens_in: int = 0
    tokens_out: int = 0
    token_source: TokenSource = TokenSource.NONE
    status: int = 0
    failure: Failure | None = None
    detail: str = ""
    endpoint: str = ""
    attempts: int = 0
    failovers: int = 0
    request_id: str = ""
    reused: bool = False

    @property
    def ok(self) -> bool:
        """Whether it was answered as it should be."""
        return self.failure is None

    @property
    def ttft_ns(self) -> int | None:
        """t_1 - t_send."""
        return self.first_ns - self.sent_ns if self.first_ns else None

    @property
    def ttft_star_ns(self) -> int | None:
        """t_1 - t_sched, in an open loop."""
        return self.first_ns - self.scheduled_ns if self.first_ns and self.scheduled_ns else None

    @property
    def ttfo_ns(self) -> int | None:
        """t_o - t_send."""
        return self.output_ns - self.sent_ns if self.output_ns else None

    @property
    def e2e_ns(self) -> int | None:
        """t_m - t_send."""
        return self.last_ns - self.sent_ns if self.last_ns else None

    @property
    def e2e_star_ns(self) -> int | None:
        """t_m - t_sched, in an open loop."""
        return self.last_ns - self.scheduled_ns if self.last_ns and self.scheduled_ns else None

    @property
    def tpot_ns(self) -> float | None:
        """(t_m - t_1) / (n_out - 1)."""
        if not self.first_ns or self.tokens_out < 2:
            return None
        return (self.last_ns - self.first_ns) / (self.tokens_out - 1)

    @property
    def queue_ns(self) -> int | None:
        """t_send - t_sched."""
        return self.sent_ns - self.scheduled_ns if self.scheduled_ns else None

    @property
    def tokens_per_second(self) -> float | None:
        """n_out / E2E: what one user gets."""
        e2e = self.e2e_ns
        return self.tokens_out * NANOSECONDS / e2e if e2e and self.tokens_out else None
