"""What a follower's requests tell, kept until the lead takes it. Has the interface of `Traffic` that requests use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from balancer.auth import ClientToken
from balancer.traffic import RequestRecord
from balancer.workers.replay import finished_row
from balancer.workers.seam import Message

# Kept while there is no lead: some 50 MB. Beyond, the oldest are given up.
MOST_KEPT = 50_000
# One message holds no more, so that the lead's requests find gaps between them.
_MOST_IN_MESSAGE = 200


class Outbox:
    """Finished requests and tokens passed, in order. `on_filled` is called when it is no longer empty.

    `finished` counts requests, `lost` those given up.
    """

    def __init__(self, on_filled: Callable[[], None], most_kept: int = MOST_KEPT) -> None:
        self.finished = 0
        self.lost = 0
        self._on_filled = on_filled
        self._finished: deque[tuple[Any, ...]] = deque(maxlen=most_kept)
        self._passed: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._finished) + len(self._passed)

    def __repr__(self) -> str:
        return f"<Outbox: {len(self._finished)} requests to tell, {self.lost} lost>"

    def completion_passed(self, endpoint_id: int, now: float, tokens: int) -> None:
        """Keep tokens of a running stream. When they passed is told as when they are taken, a moment later."""
        if not self:
            self._on_filled()
        self._passed[endpoint_id] = self._passed.get(endpoint_id, 0) + tokens

    def request_finished(
        self, record: RequestRecord, client: ClientToken, now: float, *, error_class: str, counted_tokens: int
    ) -> None:
        """Keep a request."""
        if not self:
            self._on_filled()
        self.finished += 1
        if len(self._finished) == self._finished.maxlen:
            self.lost += 1
        self._finished.append(finished_row(record, client, now, error_class, counted_tokens))

    def take(self, now: float) -> Message | None:
        """The next message; None when nothing is left to tell."""
        if not self:
            return None
        passed, self._passed = self._passed, {}
        rows = [self._finished.popleft() for _ in range(min(len(self._finished), _MOST_IN_MESSAGE))]
        return ["counts", now, list(passed.items()), rows]
