"""Circuit breaker of one endpoint: a table of transitions, with the rules above it.

It knows nothing of endpoints, HTTP or clocks; `now` is an argument in monotonic seconds.

Rules:

1. CLOSED admits all. `threshold` failures in a row open it. An exchange that ended well sets the count back to zero;
   that its answer began does not, or an endpoint that breaks every answer half-way would never be found out.
2. OPEN admits nobody until `open_until`, then admits one probe, which makes it HALF_OPEN.
3. HALF_OPEN admits one probe at a time. An answer that begins closes; the probe's failure opens for twice as long as
   before, up to `longest_seconds`. Nothing else makes a cooldown longer. A probe that ends without a verdict gives the
   slot back.
4. An answer that begins while OPEN (to a request let through because nothing else was left) closes at once: the
   endpoint has proved itself.
5. A result counts only if no transition happened since its ticket was issued: results of requests that were under way
   when the breaker opened say nothing new.
6. `open_until` does not move while OPEN, but for rule 8: a later failure neither shortens nor lengthens the cooldown.
7. While CLOSED, failures are forgotten when the next request to fail begins more than `memory_seconds` after the last
   one. Its beginning counts, not its end: an endpoint that hangs makes its failures far apart by itself.
8. Another process that balances the same endpoints may tell that its breaker opened: this one opens too, and stays so
   at least as long. While the other one's probe is under way, this one admits none for a moment.
"""

from __future__ import annotations

import enum
from math import inf
from typing import NamedTuple


class BreakerState(enum.Enum):
    """Where the breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class BreakerEvent(enum.Enum):
    """What can move it."""

    TRIPPED = "tripped"  # the threshold of failures in a row was reached
    PROBE_ADMITTED = "probe admitted"
    PROBE_FAILED = "probe failed"
    ANSWERED = "answered"


CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN

TRANSITIONS: dict[tuple[BreakerState, BreakerEvent], BreakerState] = {
    (CLOSED, BreakerEvent.TRIPPED): OPEN,
    (OPEN, BreakerEvent.PROBE_ADMITTED): HALF_OPEN,
    (OPEN, BreakerEvent.ANSWERED): CLOSED,
    (HALF_OPEN, BreakerEvent.PROBE_FAILED): OPEN,
    (HALF_OPEN, BreakerEvent.ANSWERED): CLOSED,
}


class Ticket(NamedTuple):
    """Permission for one request: the era it was issued in, whether it holds the probe slot, and when it began."""

    era: int
    is_probe: bool
    issued_at: float = 0.0


class Breaker:
    """One endpoint's breaker. `threshold` >= 1 failures, `cooldown_seconds` > 0, `longest_seconds` caps the growth.

    `memory_seconds` > 0 is how long a failure counts.
    `open_until` is 0 while CLOSED and in the past while HALF_OPEN.
    """

    __slots__ = (
        "_cooldown_seconds",
        "_era",
        "_failed_at",
        "_longest_seconds",
        "_memory_seconds",
        "_next_seconds",
        "_probing",
        "_threshold",
        "failures",
        "open_until",
        "state",
    )

    def __init__(
        self, threshold: int, cooldown_seconds: float, longest_seconds: float = 300.0, memory_seconds: float = inf
    ) -> None:
        self._threshold = threshold
        self._cooldown_seconds = cooldown_seconds
        self._longest_seconds = max(longest_seconds, cooldown_seconds)
        self._memory_seconds = memory_seconds
        self._next_seconds = cooldown_seconds
        self._failed_at = -inf
        self._era = 0
        self._probing = False
        self.state = CLOSED
        self.failures = 0
        self.open_until = 0.0

    def __repr__(self) -> str:
        until = f" until {self.open_until:.1f}" if self.state is OPEN else ""
        return f"<Breaker {self.state.value}{until}: {self.failures} failures>"

    def admits(self, now: float) -> bool:
        """Whether a request may pass at `now` by the rules (not counting those let through in need)."""
        if self.state is CLOSED:
            return True
        if self.state is OPEN:
            return now >= self.open_until
        return not self._probing

    def issue(self, now: float) -> Ticket:
        """Let one request pass; it takes the probe slot where one is due. Call `admits` first, or decide on need."""
        if self.state is CLOSED:
            return tuple.__new__(Ticket, (self._era, False, now))  # by its name it would cost three times as much
        if self.state is OPEN and now >= self.open_until:
            self._move(BreakerEvent.PROBE_ADMITTED)
        if self.state is HALF_OPEN and not self._probing:
            self._probing = True
            return Ticket(self._era, True, now)
        return Ticket(self._era, False, now)

    def counts(self, ticket: Ticket) -> bool:
        """Whether a result under `ticket` still says something: no transition happened since it was issued."""
        return ticket.era == self._era

    def answered(self, ticket: Ticket) -> Ticket:
        """A usable answer began. Returns the ticket under which the end of the same exchange counts."""
        if self.state is CLOSED or not self.counts(ticket):
            return ticket
        self.failures = 0
        self.open_until = 0.0
        self._next_seconds = self._cooldown_seconds
        self._move(BreakerEvent.ANSWERED)
        return Ticket(self._era, False, ticket.issued_at)

    def succeeded(self, ticket: Ticket) -> None:
        """The exchange ended well."""
        if self.state is not CLOSED:
            ticket = self.answered(ticket)
        if ticket.era == self._era:
            self.failures = 0

    def failed(self, ticket: Ticket, now: float) -> None:
        """A strike. Stale tickets change nothing."""
        if not self.counts(ticket):
            return
        if self.state is CLOSED and ticket.issued_at - self._failed_at > self._memory_seconds:
            self.failures = 0
        self.failures += 1
        self._failed_at = now
        if self.state is CLOSED and self.failures >= self._threshold:
            self._open(BreakerEvent.TRIPPED, now)
        elif self.state is HALF_OPEN and ticket.is_probe:
            self._next_seconds = min(self._next_seconds * 2, self._longest_seconds)
            self._open(BreakerEvent.PROBE_FAILED, now)

    @property
    def next_seconds(self) -> float:
        """How long the next cooldown will be."""
        return self._next_seconds

    def follow(self, failures: int, open_until: float, next_seconds: float) -> None:
        """Open, or stay open, as the breaker of another process did (rule 8)."""
        if self.state is not OPEN:
            self._move(BreakerEvent.TRIPPED if self.state is CLOSED else BreakerEvent.PROBE_FAILED)
        self.failures = max(self.failures, failures)
        self.open_until = max(self.open_until, open_until)
        self._next_seconds = max(self._next_seconds, min(next_seconds, self._longest_seconds))

    def hold(self, until: float) -> None:
        """While OPEN, admit no probe before `until` (rule 8)."""
        if self.state is OPEN:
            self.open_until = max(self.open_until, until)

    def no_verdict(self, ticket: Ticket) -> None:
        """The request ended without saying anything about the endpoint; a probe slot is given back."""
        if ticket.is_probe and self.counts(ticket):
            self._probing = False

    def _open(self, event: BreakerEvent, now: float) -> None:
        self._move(event)
        self.open_until = now + self._next_seconds

    def _move(self, event: BreakerEvent) -> None:
        self.state = TRANSITIONS[self.state, event]
        self._era += 1
        self._probing = False
