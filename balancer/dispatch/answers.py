"""An endpoint's answer on its way to the client: what reads it, and the head it gets. Reads nothing, sends nothing."""

from __future__ import annotations

import math

from balancer.dispatch.exchange import Exchange
from balancer.upstream.http1 import UpstreamResponse
from balancer.wire.answers import JsonMeter, Meter, PassMeter
from balancer.wire.headers import Headers, downstream_lines
from balancer.wire.openai import Operation
from balancer.wire.sse import StreamMeter


def choose_meter(
    operation: Operation, exchange: Exchange, response: UpstreamResponse, *, rename_to: str | None
) -> Meter:
    """What reads the answer as it passes. `rename_to`: the model's name that is to stand in it."""
    if not operation.metered or response.status >= 300 or _encoded(response.headers):
        return PassMeter()
    if exchange.is_event_stream:
        return StreamMeter(strip_usage=exchange.usage_injected, rename_to=rename_to)
    return JsonMeter(rename_to=rename_to)


def answer_head(
    response: UpstreamResponse, meter: Meter, *, renamed: bool, retry_after: float | None
) -> tuple[bytes, int | None]:
    """The endpoint's own fields as ready lines, and the length of the body, None where it is not known.

    `retry_after`: the smallest wait in seconds that any attempt was asked for.
    """
    if response.status == 429 and retry_after is not None:
        others = [field for field in response.headers if field[0] not in (b"retry-after", b"retry-after-ms")]
        lines, length = downstream_lines(others)
        lines += b"retry-after: %d\r\n" % max(1, math.ceil(retry_after))
    else:
        lines, length = downstream_lines(response.headers)
    # A stream may get more, a ping or an error; JSON with another name in it is longer or shorter; and what some
    # endpoints say of the length of nothing is wrong (RFC 9110 section 8.6).
    same_length = isinstance(meter, PassMeter) or not (renamed or isinstance(meter, StreamMeter))
    return lines, length if same_length and response.status != 204 else None


def _encoded(headers: Headers) -> bool:
    for name, value in headers:  # noqa: SIM110 - a generator costs more than the search
        if name == b"content-encoding" and value.lower() != b"identity":
            return True
    return False
