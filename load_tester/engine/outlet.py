"""Where requests leave: gives each its number and its body, and enters it in the books."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from load_tester.engine.connections import ConnectionPool
from load_tester.engine.exchange import Exchange
from load_tester.engine.ledger import Ledger
from load_tester.measures.records import Failure, Record
from load_tester.plan.cards import Card
from load_tester.plan.prompts import Line, Prompts, Shape


def body_fields(card: Card) -> dict[str, Any]:
    """What every body of a card holds beside its messages."""
    fields: dict[str, Any] = {"model": card.model} if card.model else {}
    for name in ("temperature", "priority"):
        value = getattr(card, name)
        if value is not None:
            fields[name] = value
    if card.ignore_eos:
        fields["ignore_eos"] = True
    fields["stream"] = card.stream
    if card.stream and card.include_usage:
        fields["stream_options"] = {"include_usage": True}
    return fields


class Outlet:
    """Sends requests of one card. `spent` is called when the number of requests allowed is used up."""

    def __init__(
        self,
        pool: ConnectionPool,
        ledger: Ledger,
        *,
        tag: str,
        lines: tuple[Line, ...],
        spent: Callable[[], None],
        done: Callable[[Record], None],
    ) -> None:
        self.most_requests = 0
        self.segment = 0
        self._ledger = ledger
        self._exchange = Exchange(pool, ledger.series)
        self.tag = tag
        self._lines = lines
        self._spent = spent
        self._done = done
        self._number = 0

    @property
    def limits(self) -> dict[str, str]:
        """Headers about rate limits, as last seen."""
        return self._exchange.limits

    def follow(self, card: Card) -> None:
        """Send what this card says from now on."""
        self._card = card
        self._prompts = Prompts(
            Shape(
                prompt=card.prompt,
                system_prompt=card.system_prompt,
                unique_prefix=card.unique_prefix,
                shared_prefix_tokens=card.shared_prefix_tokens,
                shared_prefix_groups=card.shared_prefix_groups,
                max_tokens=card.max_tokens,
                seed=card.seed,
                tag=self.tag,
                lines=self._lines,
            )
        )
        self._fields = body_fields(card)
        self.most_requests = card.stop.requests

    def claim(self) -> int | None:
        """The number of the next request, from 0; None when there is none left."""
        if self.most_requests and self._number >= self.most_requests:
            self._spent()
            return None
        number = self._number
        self._number += 1
        if self._number == self.most_requests:
            self._spent()
        return number

    async def send(self, number: int, scheduled_ns: int) -> Record:
        """Carry one request out. Cancellation is recorded and raised; nothing else is."""
        card = self._card
        messages, max_tokens = self._prompts.request(number)
        body = self._exchange.body({**self._fields, "messages": messages}, max_tokens)
        record = Record(
            number,
            segment=self.segment,
            scheduled_ns=scheduled_ns,
            sent_ns=time.perf_counter_ns(),
            request_id=f"lt-{self.tag}-{number}",
        )
        self._ledger.note_sent(record.sent_ns)
        try:
            await self._exchange.perform(record, body, stream=card.stream, timeout_seconds=card.timeout_seconds)
        finally:
            if not record.ended_ns:
                record.failure, record.detail = Failure.CANCELLED, "cut off by the end of the run"
                record.ended_ns = time.perf_counter_ns()
            self._ledger.note_done(record)
            self._done(record)
        return record
