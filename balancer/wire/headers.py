"""Which header fields pass the balancer, in both directions (RFC 9110 section 7.6.1), and what it adds of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from balancer.core.endpoints import Endpoint
from balancer.core.nodes import node_of

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Ours to set (host, length, key), the client's secrets (cookie, admin token), or facts about the client that are
# nobody's business behind the balancer.
_NOT_UPSTREAM = _HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"authorization",
    b"accept-encoding",
    b"cookie",
    b"expect",
    b"forwarded",
    b"x-admin-token",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-request-id",
}
_NOT_DOWNSTREAM = _HOP_BY_HOP | {
    b"content-length",  # told apart: the body's length may change on the way
    b"set-cookie",
    b"x-attempts",
    b"x-failover-count",
    b"x-lb-endpoint",
    b"x-request-id",
    b"x-routed-node",
    b"x-selected-model",
}
# What Connection says where it names no field.
_NAMES_NO_FIELD = frozenset({b"keep-alive", b"close"})
_UNQUOTED = " !#$&'()*+,/:;=?@[]~"
_NOTHING_TO_QUOTE = re.compile(r"[A-Za-z0-9_.\-" + re.escape(_UNQUOTED) + "]*")
_REQUEST_ID_LENGTH = 128


class ClientHeaders(NamedTuple):
    """What the balancer itself reads of a request's header fields. `endpoint`: who is to serve it, empty: anybody.
    `session`: what it belongs to, empty: nothing.
    """

    authorization: bytes | None
    content_length: int | None
    request_id: str
    endpoint: str
    session: bytes


def read_client_headers(headers: Iterable[tuple[bytes, bytes]]) -> ClientHeaders:
    """Pick the fields that matter here. A request id is cut to 128 visible ASCII characters; empty if there is none."""
    given = dict(headers)  # of repeated fields the last counts
    length, request_id = given.get(b"content-length", b""), given.get(b"x-request-id", b"")
    endpoint, session = given.get(b"x-lb-endpoint", b""), given.get(b"x-session-id", b"")
    fields = (
        given.get(b"authorization"),
        int(length) if length.isdigit() else None,
        "".join([chr(c) for c in request_id[:_REQUEST_ID_LENGTH] if 0x21 <= c <= 0x7E]) if request_id else "",
        endpoint.decode("utf-8", "replace").strip() if endpoint else "",
        session.strip(),
    )
    return tuple.__new__(ClientHeaders, fields)  # by its name it would cost four times as much


def upstream_headers(headers: Iterable[tuple[bytes, bytes]], request_id: str, *, identity: bool) -> bytes:
    """The client's end-to-end fields as ready lines. `identity`: ask for an answer that can be read for its usage."""
    pieces = [b"x-request-id: ", request_id.encode(), b"\r\n"]
    for name, value in headers:
        if name not in _NOT_UPSTREAM:
            if not name.startswith(b"x-lb-"):
                pieces += (name, b": ", value, b"\r\n")
        elif name == b"connection" and value.lower() not in _NAMES_NO_FIELD:
            return upstream_headers(_end_to_end(headers), request_id, identity=identity)
        elif name == b"accept-encoding" and not identity:
            pieces += (b"accept-encoding: ", value, b"\r\n")
    if identity:
        pieces.append(b"accept-encoding: identity\r\n")
    return b"".join(pieces)


def downstream_lines(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, int | None]:
    """The endpoint's end-to-end fields as ready lines, and beside them the length it tells of its body."""
    pieces: list[bytes] = []
    length = None
    for name, value in headers:
        if name not in _NOT_DOWNSTREAM:
            pieces += (name, b": ", value, b"\r\n")
        elif name == b"content-length":
            length = int(value)
        elif name == b"connection" and value.lower() not in _NAMES_NO_FIELD:
            return downstream_lines(_end_to_end(headers))
    return b"".join(pieces), length


def fields_of(lines: bytes) -> Headers:
    """What stands in ready lines."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n")[:-1])]


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Without Connection, and without the fields that it names as meant for one hop only."""
    named = {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
    return [field for field in headers if field[0] not in named and field[0] != b"connection"]


def served_lines(endpoint: Endpoint, model: str | None) -> bytes:
    """Who serves, and which model it really is: `x-lb-endpoint` is the unique name, percent-encoded; `x-routed-node`
    is host:port.
    """
    lines = b"x-lb-endpoint: %b\r\nx-routed-node: %b\r\n" % (
        visible(endpoint.name),
        node_of(endpoint.base_url).encode(),
    )
    return lines if model is None else lines + b"x-selected-model: %b\r\n" % visible(model)


def visible(text: str) -> bytes:
    """`text` as a header value: what is not visible ASCII is percent-encoded."""
    return (text if _NOTHING_TO_QUOTE.fullmatch(text) else quote(text, safe=_UNQUOTED)).encode()
