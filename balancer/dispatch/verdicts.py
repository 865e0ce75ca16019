"""The one place that decides what an exchange says about its endpoint, and whether another one is asked.

Pure: statuses and errors in, a verdict out. It holds as long as nothing was sent to the client; afterwards there is
no other attempt, whatever happens.

| event                                                   | another endpoint? | outcome  |
|---------------------------------------------------------|-------------------|----------|
| connect, DNS, TLS error; connection broken; not HTTP     | yes               | FAILED   |
| silence beyond the endpoint's timeout                    | if so configured  | FAILED   |
| 5xx                                                      | yes               | FAILED   |
| a second 500 within one request                          | yes               | NEUTRAL  |
| 429                                                      | yes               | REJECTED |
| 401, 402, 403, 429 with `insufficient_quota`             | yes               | FAILED, credentials |
| 3xx                                                      | yes               | FAILED   |
| 404, 408, 425                                            | yes               | NEUTRAL  |
| other 4xx                                                | no                | NEUTRAL  |
| 600 and above                                            | yes               | FAILED   |
| cut off by the operator                                  | yes               | NEUTRAL  |
| 2xx, but an event stream that begins with an error       | yes               | FAILED   |
| 2xx                                                      | no                | SUCCESS  |
"""

from __future__ import annotations

from typing import NamedTuple

from balancer.core.endpoints import Outcome
from balancer.core.errors import CutOff, UpstreamError, UpstreamTimeout


class Verdict(NamedTuple):
    """What an attempt's result means. `relay`: the endpoint's own answer may be shown to the client.

    `wished`: the operator wants the request elsewhere, so the retry budget does not limit it.
    """

    outcome: Outcome
    elsewhere: bool
    relay: bool
    credentials: bool = False
    wished: bool = False


PENDING = Verdict(Outcome.NEUTRAL, elsewhere=False, relay=False)
GOOD = Verdict(Outcome.SUCCESS, elsewhere=False, relay=True)
CREDENTIALS = Verdict(Outcome.FAILED, elsewhere=True, relay=False, credentials=True)
BROKEN = Verdict(Outcome.FAILED, elsewhere=True, relay=False)
CUT_OFF = Verdict(Outcome.NEUTRAL, elsewhere=True, relay=False, wished=True)
_TIMED_OUT_FOR_GOOD = Verdict(Outcome.FAILED, elsewhere=False, relay=False)
_SERVER_ERROR = Verdict(Outcome.FAILED, elsewhere=True, relay=True)
_SECOND_500 = Verdict(Outcome.NEUTRAL, elsewhere=True, relay=True)
_THROTTLED = Verdict(Outcome.REJECTED, elsewhere=True, relay=True)
_NOT_HERE = Verdict(Outcome.NEUTRAL, elsewhere=True, relay=True)
_CLIENTS_FAULT = Verdict(Outcome.NEUTRAL, elsewhere=False, relay=True)

_BY_STATUS = {
    401: CREDENTIALS,
    402: CREDENTIALS,
    403: CREDENTIALS,
    404: _NOT_HERE,
    408: _NOT_HERE,
    425: _NOT_HERE,
    429: _THROTTLED,
}


def judge_status(status: int, *, struck_before: bool = False) -> Verdict:
    """The verdict on a final status. `struck_before`: this request already gave another endpoint a strike for a 500.

    A 500 may be the request's own doing; it must not take one endpoint after the other out of service.
    """
    if status < 300:
        return GOOD
    if status < 400:
        return BROKEN
    if status < 500:
        return _BY_STATUS.get(status, _CLIENTS_FAULT)
    if status >= 600:
        return BROKEN  # nothing that could be relayed (RFC 9110 section 15)
    return _SECOND_500 if status == 500 and struck_before else _SERVER_ERROR


def judge_error(error: UpstreamError, *, retry_on_timeout: bool) -> Verdict:
    """The verdict on an exchange without a usable answer."""
    if isinstance(error, CutOff):
        return CUT_OFF
    if isinstance(error, UpstreamTimeout) and not retry_on_timeout:
        return _TIMED_OUT_FOR_GOOD
    return BROKEN
