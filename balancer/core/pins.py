"""Pins: what binds a request to one endpoint, and which one that is.

A client names a node (host:port) or an endpoint (name or id), or goes on with a conversation that one endpoint keeps.
Such a request is served there or not at all, and if it was named, only while the endpoint is eligible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from balancer.core.endpoints import RouteRequest
from balancer.core.errors import ModelNotFound, NotEligible
from balancer.core.model_names import AutoModel
from balancer.core.nodes import names_node
from balancer.core.pool import EndpointPool
from balancer.core.reasons import describe
from balancer.core.state import EndpointState

_ID = re.compile("[0-9]{1,15}", re.ASCII)
_LONGEST_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Pin:
    """What a request is bound by: a `node`, an `endpoint`, both or neither (empty), and the id of the endpoint where
    its conversation is `kept_at`.
    """

    node: str = ""
    endpoint: str = ""
    kept_at: int | None = None

    def __str__(self) -> str:
        return " and ".join(filter(None, (self.node[:_LONGEST_SHOWN], self.endpoint[:_LONGEST_SHOWN])))


NO_PIN = Pin()


def settle(
    pool: EndpointPool, auto: AutoModel, pin: Pin, model: str | None, now: float
) -> tuple[int | None, str | None]:
    """The id of the endpoint that alone may serve (None: any may), and the model to route by.

    Raises NotEligible, or ModelNotFound where the model was left open and none is known.
    """
    if pin.node or pin.endpoint:
        return _eligible(pool, auto, pin, model, now)
    return pin.kept_at, _resolved(pool, auto, model, now, pin.kept_at)


def meant(pool: EndpointPool, pin: Pin) -> list[EndpointState]:
    """The endpoints that node and name mean both, of those that were given; who was not picked for longest is first.

    Several endpoints may share a host and port. The one that keeps the conversation is not looked at.
    """
    states: Iterable[EndpointState] = _named(pool, pin.endpoint) if pin.endpoint else pool.states.values()
    found = (state for state in states if not pin.node or names_node(pin.node, state.endpoint.base_url))
    return sorted(found, key=lambda state: state.picked)


def _eligible(pool: EndpointPool, auto: AutoModel, pin: Pin, model: str | None, now: float) -> tuple[int, str | None]:
    reasons: dict[str, str] = {}
    without_model: ModelNotFound | None = None
    for state in meant(pool, pin):
        endpoint = state.endpoint
        if pin.kept_at not in (None, endpoint.id):
            reasons[endpoint.name] = "the conversation is kept at another endpoint"
            continue
        try:
            resolved = _resolved(pool, auto, model, now, endpoint.id)
        except ModelNotFound as unknown:
            without_model = unknown
            continue
        reason = pool.why_not(state, RouteRequest(resolved, pinned_to=endpoint.id), now)
        if reason is None:
            return endpoint.id, resolved
        reasons[endpoint.name] = describe(state, reason, now)
    if without_model is not None and not reasons:
        raise without_model
    raise NotEligible(str(pin), model, reasons)


def _resolved(pool: EndpointPool, auto: AutoModel, model: str | None, now: float, pinned_to: int | None) -> str | None:
    """The model that was named, or the one that "auto" stands for now. Raises ModelNotFound."""
    return auto.choose(pool, model, now, pinned_to) if auto.is_asked(model) else model


def _named(pool: EndpointPool, text: str) -> list[EndpointState]:
    """By name as it is, by name as our own answers spell it, or by id."""
    by_name = {state.endpoint.name: state for state in pool.states.values()}
    found = by_name.get(text) or by_name.get(unquote(text))
    if found is None and _ID.fullmatch(text):
        found = pool.states.get(int(text))
    return [] if found is None else [found]
