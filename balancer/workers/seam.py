"""The seam between processes that balance as one: two small ports, and nothing else crosses it.

Here a memory-mapped table and Unix sockets stand behind them. Machines would join by others, over a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

# A message: its kind and what belongs to it, in what JSON knows.
Message = Sequence[Any]


class InFlight(Protocol):
    """One endpoint's requests in flight, of which every process knows its own and publishes them."""

    def elsewhere(self) -> int:
        """How many the others have now, as far as is known."""

    def publish(self, own: int) -> None:
        """Let the others know how many this process has."""


class Numbers(Protocol):
    """The figures of all processes."""

    def endpoint(self, endpoint_id: int) -> InFlight:
        """Those of one endpoint."""

    def waiting_elsewhere(self) -> int:
        """Requests that wait in the queues of the others."""

    def publish_waiting(self, own: int) -> None:
        """Let the others know how many wait here."""


class Channel(Protocol):
    """The way of messages to all others, in order, at most once; what is told while nobody is there is gone."""

    def tell(self, message: Message) -> None:
        """Send soon; returns at once."""
