"""How many requests are under way: exact peak and time-weighted mean. Pure."""

from __future__ import annotations


class InFlight:
    """A level over time from `begun_ns` on. A time that lies before the last one counts as the last one."""

    __slots__ = ("_area", "_at_ns", "_begun_ns", "now", "peak")

    def __init__(self, begun_ns: int, now: int = 0) -> None:
        self.now = now
        self.peak = now
        self._begun_ns = begun_ns
        self._at_ns = begun_ns
        self._area = 0

    def change(self, by: int, at_ns: int) -> None:
        """One more, or one less."""
        if at_ns > self._at_ns:
            self._area += self.now * (at_ns - self._at_ns)
            self._at_ns = at_ns
        self.now += by
        if self.now > self.peak:
            self.peak = self.now

    def mean(self, until_ns: int) -> float:
        """The mean from the beginning to `until_ns`; 0 for no time at all."""
        span = until_ns - self._begun_ns
        if span <= 0:
            return 0.0
        return (self._area + self.now * max(0, until_ns - self._at_ns)) / span
