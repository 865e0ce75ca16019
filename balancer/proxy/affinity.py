"""Which key binds a client's request to others, so that they go to the same endpoint. Remembers nothing."""

from __future__ import annotations

from dataclasses import dataclass

from balancer.core.affinity import KeySource, key_of
from balancer.core.endpoints import RouteRequest
from balancer.wire.openai import Operation, ParsedBody
from balancer.wire.prompts import prompt_head

_OFF = KeySource.OFF  # looked at for each request; through the class, that costs as much as a call


@dataclass(frozen=True, slots=True)
class Affinity:
    """Makes the keys. `prompt_bytes`: how much of a prompt is looked at."""

    source: KeySource = KeySource.OFF
    prompt_bytes: int = 2048

    def bind(
        self, request: RouteRequest, session: bytes, parsed: ParsedBody, operation: Operation, body: bytes
    ) -> RouteRequest:
        """`request` with its key; as it is where the client gave nothing to make one of, or who serves is settled."""
        if self.source is _OFF or request.pinned_to is not None:
            return request
        match self.source:
            case KeySource.SESSION:
                text = session
            case KeySource.USER:
                text = (parsed.user or "").encode("utf-8", "surrogatepass")
            case _:
                text = prompt_head(body, operation, self.prompt_bytes)
        return request._replace(affinity=key_of(text)) if text else request
