"""What a client's request asks of routing, settled before dispatch: the endpoint it is bound to, and its model.

A client binds a request to an endpoint with `?node=host:port` or with the header `x-lb-endpoint`, a name or an id.
Such a request is served there or not at all, and only while the endpoint is eligible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, unquote_plus

from balancer.core.endpoints import RouteRequest
from balancer.core.errors import InvalidRequest, ModelNotFound, NotEligible
from balancer.core.pool import EndpointPool
from balancer.core.state import EndpointState
from balancer.proxy.gateway import Gateway
from balancer.wire.nodes import names_node
from balancer.wire.openai import ParsedBody

_ID = re.compile("[0-9]{1,15}")
_LONGEST_SHOWN = 120


def route(
    gateway: Gateway, parsed: ParsedBody, query: bytes, asked_endpoint: str, body_bytes: int
) -> tuple[RouteRequest, bytes]:
    """What to route by, and what of the query goes upstream.

    Raises InvalidRequest, NotEligible or ModelNotFound.
    """
    node, asked_node = "", b"node=" in query
    if asked_node:
        node, query = take_node(query)
    pinned_to = _kept_at(gateway, parsed.previous_response_id) if parsed.previous_response_id is not None else None
    if node or asked_endpoint:
        pinned_to = _eligible(gateway, parsed, node, asked_endpoint, pinned_to)
    return RouteRequest(_model(gateway, parsed, pinned_to), body_bytes, parsed.stream, pinned_to), query


def take_node(query: bytes) -> tuple[str, bytes]:
    """The value of the last `node` in a query string, and the rest of the query, untouched."""
    kept, node = [], ""
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"node":
            node = unquote_plus(value.decode("latin-1")).strip()
        else:
            kept.append(part)
    return node, b"&".join(kept)


def _model(gateway: Gateway, parsed: ParsedBody, pinned_to: int | None) -> str | None:
    """The model to route by: the one that was named, or the one that "auto" stands for now."""
    dispatcher = gateway.dispatcher
    if not gateway.auto.is_asked(parsed.model):
        return parsed.model
    try:
        return gateway.auto.choose(dispatcher.pool, parsed.model, dispatcher.clock(), pinned_to)
    except ModelNotFound:
        dispatcher.model_missed(None)
        raise


def _kept_at(gateway: Gateway, response_id: str) -> int:
    """A conversation kept at an endpoint goes on where it was begun."""
    endpoint_id = gateway.stored_responses.get(response_id)
    if endpoint_id is None:
        raise InvalidRequest(
            f"previous_response_id {response_id!r} is not known to this balancer: it was not made "
            "through it, or too long ago; send the whole conversation as `input` instead",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return endpoint_id


def _eligible(gateway: Gateway, parsed: ParsedBody, node: str, asked_endpoint: str, kept_at: int | None) -> int:
    """The endpoint that is meant and may take the request now."""
    pool, now = gateway.dispatcher.pool, gateway.dispatcher.clock()
    asked = " and ".join(filter(None, (node[:_LONGEST_SHOWN], asked_endpoint[:_LONGEST_SHOWN])))
    meant = _meant(pool, node, asked_endpoint)
    reasons: dict[str, str] = {}
    # Several endpoints may share a host and port: whoever was not picked for longest comes first.
    for state in sorted(meant, key=lambda state: state.picked):
        endpoint = state.endpoint
        if kept_at is not None and kept_at != endpoint.id:
            reasons[endpoint.name] = "the conversation is kept at another endpoint"
            continue
        request = RouteRequest(_model(gateway, parsed, endpoint.id), pinned_to=endpoint.id)
        reason = pool.why_not(state, request, now)
        if reason is None:
            return endpoint.id
        reasons[endpoint.name] = pool.describe(state, reason, now)
    raise NotEligible(asked, parsed.model, reasons)


def _meant(pool: EndpointPool, node: str, asked_endpoint: str) -> list[EndpointState]:
    """The endpoints that both names mean, of those that were given."""
    states: Iterable[EndpointState] = pool.states.values()
    if asked_endpoint:
        states = _named(pool, asked_endpoint)
    return [state for state in states if not node or names_node(node, state.endpoint.base_url)]


def _named(pool: EndpointPool, text: str) -> list[EndpointState]:
    """By name as it is, by name as our own answers spell it, or by id."""
    by_name = {state.endpoint.name: state for state in pool.states.values()}
    found = by_name.get(text) or by_name.get(unquote(text))
    if found is None and _ID.fullmatch(text):
        found = pool.states.get(int(text))
    return [] if found is None else [found]
