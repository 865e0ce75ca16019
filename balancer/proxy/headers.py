"""Which header fields pass the balancer, in both directions (RFC 9110 section 7.6.1), and what it adds of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from balancer.core.endpoints import Endpoint
from balancer.wire.nodes import node_of

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
    b"set-cookie",
    b"x-attempts",
    b"x-failover-count",
    b"x-lb-endpoint",
    b"x-request-id",
    b"x-routed-node",
    b"x-selected-model",
}
_REQUEST_ID_LENGTH = 128


class ClientHeaders(NamedTuple):
    """What the balancer itself reads of a request's header fields. `endpoint`: who is to serve it, empty: anybody."""

    authorization: bytes | None
    content_length: int | None
    request_id: str
    endpoint: str


def read_client_headers(headers: Iterable[tuple[bytes, bytes]]) -> ClientHeaders:
    """Pick the fields that matter here. A request id is cut to 128 visible ASCII characters; empty if there is none."""
    authorization = content_length = None
    request_id = endpoint = ""
    for name, value in headers:
        if name == b"authorization":
            authorization = value
        elif name == b"content-length":
            content_length = int(value) if value.isdigit() else None
        elif name == b"x-request-id":
            request_id = "".join(chr(c) for c in value[:_REQUEST_ID_LENGTH] if 0x21 <= c <= 0x7E)
        elif name == b"x-lb-endpoint":
            endpoint = value.decode("utf-8", "replace").strip()
    return ClientHeaders(authorization, content_length, request_id, endpoint)


def upstream_headers(headers: Iterable[tuple[bytes, bytes]], request_id: str, *, identity: bool) -> bytes:
    """The client's end-to-end fields as ready lines. `identity`: ask for an answer that can be read for its usage."""
    lines = [b"x-request-id: " + request_id.encode() + b"\r\n"]
    nominated: set[bytes] = set()
    for name, value in headers:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            nominated.update(token.strip().lower() for token in value.split(b","))
        elif name == b"accept-encoding" and not identity:
            lines.append(b"accept-encoding: " + value + b"\r\n")
        elif name not in _NOT_UPSTREAM and not name.startswith(b"x-lb-"):
            lines.append(name + b": " + value + b"\r\n")
    if identity:
        lines.append(b"accept-encoding: identity\r\n")
    if nominated:
        lines = [line for line in lines if line.partition(b":")[0] not in nominated]
    return b"".join(lines)


def downstream_headers(headers: Iterable[tuple[bytes, bytes]], *, keep_length: bool) -> Headers:
    """The endpoint's end-to-end fields. Without `keep_length` the body's length may change on the way."""
    kept: Headers = []
    nominated: set[bytes] = set()
    for field in headers:
        name = field[0]
        if name == b"connection":
            nominated.update(token.strip().lower() for token in field[1].split(b","))
        elif name not in _NOT_DOWNSTREAM and (keep_length or name != b"content-length"):
            kept.append(field)
    if nominated - {b"keep-alive", b"close"}:
        kept = [field for field in kept if field[0] not in nominated]
    return kept


def endpoint_headers(endpoint: Endpoint) -> Headers:
    """Who serves: `X-LB-Endpoint` is the unique name, percent-encoded; `x-routed-node` is host:port."""
    return [(b"x-lb-endpoint", visible(endpoint.name)), (b"x-routed-node", node_of(endpoint.base_url).encode())]


def visible(text: str) -> bytes:
    """`text` as a header value: what is not visible ASCII is percent-encoded."""
    return quote(text, safe=" !#$&'()*+,/:;=?@[]~").encode()
