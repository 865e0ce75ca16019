"""What a client's request asks of routing, settled before dispatch: the endpoint it is bound to, and its model.

A client binds a request to an endpoint with `?node=host:port` or with the header `x-lb-endpoint`, a name or an id.
"""

from __future__ import annotations

from urllib.parse import unquote_plus

from balancer.core.endpoints import RouteRequest
from balancer.core.errors import InvalidRequest, ModelNotFound
from balancer.core.pins import NO_PIN, Pin, settle
from balancer.proxy.gateway import Gateway
from balancer.wire.headers import Headers
from balancer.wire.openai import ParsedBody


def route(
    gateway: Gateway, parsed: ParsedBody, query: bytes, asked_endpoint: str, body_bytes: int
) -> tuple[RouteRequest, bytes]:
    """What to route by, and what of the query goes upstream.

    Raises InvalidRequest, NotEligible or ModelNotFound.
    """
    dispatcher = gateway.dispatcher
    node = ""
    if b"node=" in query:
        node, query = take_node(query)
    pin = NO_PIN
    if node or asked_endpoint or parsed.previous_response_id is not None:
        pin = Pin(node, asked_endpoint, gateway.stored_responses.keeper(parsed.previous_response_id))
    try:
        pinned_to, model = settle(dispatcher.pool, gateway.auto, pin, parsed.model, dispatcher.clock())
    except ModelNotFound:
        dispatcher.model_missed(None)
        raise
    # By its name it would cost four times as much.
    return tuple.__new__(RouteRequest, (model, body_bytes, parsed.stream, pinned_to, None)), query


def require_no_foreign_page(headers: Headers) -> None:
    """Raises InvalidRequest for what a browser sends for a page of another site (Fetch Metadata, `Sec-Fetch-Site`).

    Such a page can send a body as text without asking anybody, and where clients need no token it would spend money.
    """
    if any(name == b"sec-fetch-site" and value.lower() == b"cross-site" for name, value in headers):
        message = "a page of another site may not use this balancer while it is open to everybody: set client tokens"
        raise InvalidRequest(message, code="cross_site_request", status=403)


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
