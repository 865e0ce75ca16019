"""Retry budget: retries may be at most a share of the requests under way, so that trouble does not multiply itself."""

from __future__ import annotations

from typing import Protocol


class RetryFigures(Protocol):
    """What can be told of a budget: retries and requests under way, retries allowed now and refused so far."""

    @property
    def limit(self) -> int: ...
    @property
    def active_retries(self) -> int: ...
    @property
    def active_requests(self) -> int: ...
    @property
    def refused_total(self) -> int: ...


class RetryBudget:
    """Counts requests and retries under way. `percent` 0..100; `floor` retries are always allowed."""

    __slots__ = ("_percent", "active_requests", "active_retries", "floor", "refused_total")

    def __init__(self, percent: float, floor: int = 3) -> None:
        self._percent = percent
        self.floor = floor
        self.active_requests = 0
        self.active_retries = 0
        self.refused_total = 0

    def __repr__(self) -> str:
        return f"<RetryBudget {self.active_retries} retries of {self.active_requests} requests, at most {self.limit}>"

    @property
    def limit(self) -> int:
        """Retries that may be under way at this moment."""
        return max(self.floor, int(self.active_requests * self._percent / 100))

    @property
    def spent(self) -> bool:
        """Whether no further retry may begin at this moment."""
        return self.active_retries >= self.limit

    def try_retry(self) -> bool:
        """Take one retry from the budget; False when it is spent. Each True must be given back with `retry_ended`."""
        if self.spent:
            self.refused_total += 1
            return False
        self.active_retries += 1
        return True

    def retry_ended(self) -> None:
        """Give back what `try_retry` took."""
        self.active_retries -= 1
