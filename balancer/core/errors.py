"""Everything that can go wrong between a request and its answer, as one tree.

    BalancerError
    |-- InvalidRequest         the client's body or headers cannot be used
    |   `-- BodyTooLarge       longer than this balancer takes
    |-- Unauthorized           the client's token is missing, unknown or revoked
    |-- Draining               the balancer is shutting down and takes nothing new
    |-- TooManyConnections     the client, or all clients together, have as many as they may
    |-- NoEndpoint             nobody may take the request
    |   |-- ModelNotFound      no known list of models holds it
    |   |-- NotEligible        the one endpoint the client asked for may not take it
    |   |-- AllBusy            at least one endpoint is only full or throttled
    |   `-- NoneEligible       nothing else is left either
    `-- UpstreamError          an exchange with an endpoint failed
        |-- ConnectError       refused, DNS, TLS, proxy: nothing was sent
        |-- StaleConnection    a reused connection died before the first byte of an answer
        |-- BrokenConnection   the connection broke after the request was sent
        |-- ProtocolError      the answer is not HTTP/1.1 as we accept it
        |-- UpstreamTimeout    silence longer than the endpoint's timeout
        |-- CredentialsRefused the endpoint refused its key
        |-- Redirected         the endpoint answered a redirect
        |-- ErrorInStream      a 200 whose stream begins with an error
        `-- CutOff             the operator ended it; no fault of the endpoint

HTTP statuses and error envelopes live in `balancer.wire.openai`.
"""

from __future__ import annotations

from collections.abc import Mapping


class BalancerError(Exception):
    """Root of all errors that this package raises on purpose."""


class InvalidRequest(BalancerError):
    """The request cannot be used as it is; `param` names the field, `status` the HTTP status to answer."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status


class Unauthorized(BalancerError):
    """The client's token is missing, unknown or revoked."""


class BodyTooLarge(InvalidRequest):
    """The body is longer than this balancer takes."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request body is larger than {limit_bytes} bytes", code="body_too_large", status=413)


class Draining(BalancerError):
    """The balancer is shutting down and takes nothing new."""

    def __init__(self) -> None:
        super().__init__("the balancer is shutting down")


class TooManyConnections(BalancerError):
    """The client, or all clients together, have as many connections as they may."""

    def __init__(self) -> None:
        super().__init__("there are too many connections: use those that are open, or try again later")


class NoEndpoint(BalancerError):
    """No endpoint may take the request. `reasons` maps endpoint names to why not.

    `retry_after` is the smallest wait in seconds after which the answer may differ, None if unknown.
    """

    def __init__(
        self, model: str | None, reasons: Mapping[str, str] | None = None, retry_after: float | None = None
    ) -> None:
        self.model = model
        self.reasons = dict(reasons or {})
        self.retry_after = retry_after
        super().__init__(f"no endpoint for model {model!r}: {self.reasons or 'none configured'}")


class ModelNotFound(NoEndpoint):
    """Every connected endpoint has a known list of models and none holds the one asked for.

    `nearest` are names that look like it and are served. `model` None: any would have done, and none is known.
    """

    def __init__(
        self, model: str | None, reasons: Mapping[str, str] | None = None, *, nearest: tuple[str, ...] = ()
    ) -> None:
        super().__init__(model, reasons)
        self.nearest = nearest

    def __str__(self) -> str:
        return super().__str__() if self.model is not None else "no model is known for a request that leaves it open"


class NotEligible(NoEndpoint):
    """The client asked for one endpoint by name, and it may not take the request; `asked` is how it was named.

    Without `reasons` there is no such endpoint.
    """

    def __init__(self, asked: str, model: str | None, reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(model, reasons)
        self.asked = asked

    def __str__(self) -> str:
        return f"endpoint {self.asked!r} was asked for: {self.reasons or 'not known'}"


class AllBusy(NoEndpoint):
    """At least one endpoint would serve this but is full or throttled."""


class NoneEligible(NoEndpoint):
    """Nothing is connected, or all that is connected is out of service."""


class UpstreamError(BalancerError):
    """An exchange with an endpoint failed; the message says how, in words for an operator, without secrets."""


class ConnectError(UpstreamError):
    """No connection: refused, unreachable, DNS, TLS or a proxy that declined. Nothing of the request was sent."""


class StaleConnection(UpstreamError):
    """A reused keep-alive connection died before any byte of the answer; safe to repeat once on a fresh one."""


class BrokenConnection(UpstreamError):
    """The endpoint closed or reset the connection before its answer was complete."""


class ProtocolError(UpstreamError):
    """The endpoint's bytes are not an HTTP/1.1 answer we accept."""


class UpstreamTimeout(UpstreamError):
    """The endpoint stayed silent longer than its timeout."""


class CredentialsRefused(UpstreamError):
    """The endpoint refused the key it was given, or its account is out of money."""


class Redirected(UpstreamError):
    """The endpoint answered a redirect, which is never followed."""


class ErrorInStream(UpstreamError):
    """The endpoint answered 200 and then an error, or nothing at all."""


class CutOff(UpstreamError):
    """The operator ended the exchange: says nothing about the endpoint."""

    def __init__(self, message: str = "cut off by the operator") -> None:
        super().__init__(message)
