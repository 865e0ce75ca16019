"""Log lines about endpoints: one for each turn in an endpoint's life, none for a request that simply went well."""

from __future__ import annotations

import logging
from typing import NamedTuple

from balancer.core.notices import Notice
from balancer.core.pool import EndpointPool
from balancer.core.reasons import Reason, describe
from balancer.core.retries import RetryBudget
from balancer.core.state import EndpointState
from balancer.traffic import AttemptRecord, RequestRecord

logger = logging.getLogger("balancer.endpoints")

# What flaps says the same again only after this time, with a count of what was left out.
_QUIET_SECONDS = 15.0
_MOST_REMEMBERED = 1000
_LONGEST_WORDS = 1000


class _Said(NamedTuple):
    at: float
    left_out: int


class Journal:
    """Writes what the pool notices. Every line names its endpoint; none holds a key or a prompt."""

    def __init__(self, pool: EndpointPool) -> None:
        self._pool = pool
        self._said: dict[tuple[int | None, object], _Said] = {}
        pool.noticed = self.noticed

    def noticed(self, state: EndpointState, notice: Notice, now: float) -> None:
        """Write of a turn in an endpoint's life."""
        level = logging.INFO if notice is Notice.TESTED else logging.WARNING
        words = f"endpoint '{state.endpoint.name}' {self._words(state, notice, now)}"
        self._say(level, (state.endpoint.id, notice), words, now)

    def retry_refused(self, budget: RetryBudget, now: float) -> None:
        """Write that a request was not tried again for lack of budget."""
        words = (
            f"the retry budget is spent: {budget.active_retries} retries under way, {budget.limit} allowed; "
            "until one ends, failed requests are not tried elsewhere"
        )
        self._say(logging.WARNING, (None, "retry budget"), words, now)

    def rerouted(self, record: RequestRecord) -> None:
        """Write of a request that one endpoint alone could not serve, or only one thought to be down."""
        if logger.isEnabledFor(logging.INFO):
            way = ", then ".join(map(_attempt, record.attempts))
            logger.info("request %s ended with %d: %s", record.request_id, record.status, _one_line(way))

    def _words(self, state: EndpointState, notice: Notice, now: float) -> str:
        match notice:
            case Notice.OPENED:
                reason = Reason.CREDENTIALS if state.credentials_refused else Reason.COOLING_DOWN
                return f"takes no requests: {describe(state, reason, now)}"
            case Notice.THROTTLED:
                return f"takes no requests: {describe(state, Reason.THROTTLED, now)}"
            case Notice.REFUSED_CREDENTIALS:
                return state.last_error
            case Notice.TESTED:
                return "is half-open: its cooldown is over, and one request is its test"
            case Notice.RECOVERED:
                return "serves again"

    def _say(self, level: int, what: tuple[int | None, object], words: str, now: float) -> None:
        said = self._said.get(what)
        if said is not None and now - said.at < _QUIET_SECONDS:
            self._said[what] = said._replace(left_out=said.left_out + 1)
            return
        more = f" ({said.left_out} more since the last line)" if said is not None and said.left_out else ""
        if len(self._said) >= _MOST_REMEMBERED:
            self._said.clear()
        self._said[what] = _Said(now, 0)
        logger.log(level, "%s%s", _one_line(words), more)


def _attempt(attempt: AttemptRecord) -> str:
    in_need = " (in need)" if attempt.panic else ""
    return f"'{attempt.endpoint}'{in_need} {attempt.result} after {attempt.seconds:.3f} s"


def _one_line(words: str) -> str:
    """What endpoints say ends up in here; it must not look like a line of its own."""
    return "".join(each if each.isprintable() else " " for each in words[:_LONGEST_WORDS])
