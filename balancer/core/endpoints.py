"""What an endpoint is configured to be (`Endpoint`) and how it is living (`EndpointState`).

Configuration is frozen and replaced as a whole; the state of the same id lives on across replacements.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# What an answer is assumed to take while nothing is known.
TYPICAL_COMPLETION_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One configured backend.

    `base_url` is normalised: scheme, host, optional port and path, no trailing slash, ending where `/chat/completions`
    is appended. `timeout` is the longest silence tolerated, in seconds. `max_concurrent` 0 means no cap.
    `models` empty means "as discovered". `model_aliases` maps the name a client asks for to the name sent on.
    `weight` >= 0 and `token_quota_percent` >= 0 are relative to the others'; 0 takes only what no other can.
    Prices are per million tokens; None means unknown, 0 means free. `health_check`: whether it is probed.
    `discovered`: found by the balancer itself, not set up by an operator.
    """

    id: int
    name: str
    base_url: str
    api_key: str = field(default="", repr=False)
    timeout: float = 120.0
    verify_tls: bool = True
    enabled: bool = True
    connected: bool = False
    token_quota_percent: float = 0.0
    priority_order: int = 10
    max_concurrent: int = 0
    weight: float = 1.0
    models: tuple[str, ...] = ()
    model_aliases: Mapping[str, str] = field(default_factory=dict)
    include_usage: bool = True
    price_per_million_input: float | None = None
    price_per_million_output: float | None = None
    tags: tuple[str, ...] = ()
    health_check: bool = True
    discovered: bool = False

    def upstream_model(self, model: str | None) -> str | None:
        """The name this endpoint knows `model` by."""
        if model is None:
            return None
        return self.model_aliases.get(model, model)


class Outcome(enum.Enum):
    """How a lease ended, as a verdict on the endpoint."""

    SUCCESS = "success"
    FAILED = "failed"  # the endpoint's fault: a strike
    REJECTED = "rejected"  # 429: cool down by Retry-After, no strike
    NEUTRAL = "neutral"  # the client's fault, or the client left: no verdict


# By these names they are found at once; through the class, each look costs as much as a call.
SUCCESS, FAILED, REJECTED, NEUTRAL = Outcome


class Provenance(enum.StrEnum):
    """Where a token count came from. (Of strings: part of a key that is looked up for each request.)"""

    REPORTED = "reported"  # the endpoint's own usage object
    ESTIMATED = "estimated"  # no usage in the answer: derived from bytes
    PARTIAL = "partial"  # the answer was cut: what had passed until then


class Usage(NamedTuple):
    """Tokens of one answer. (A tuple: one is made for each request.)"""

    prompt_tokens: int
    completion_tokens: int
    provenance: Provenance = Provenance.REPORTED

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


class RouteRequest(NamedTuple):
    """What routing needs to know of a request. (A tuple: one is made for each.)

    `model` None: the client named none. `prompt_bytes`: body length. `pinned_to`: id of the one endpoint that may
    serve it. `affinity`: requests with the same key (of 64 bits) go to the same endpoint while its load allows it.
    """

    model: str | None
    prompt_bytes: int = 0
    stream: bool = False
    pinned_to: int | None = None
    affinity: int | None = None

    @property
    def prompt_estimate_tokens(self) -> float:
        """Tokens of the prompt, before anybody counted them."""
        return self.prompt_bytes / 4

    @property
    def first_estimate_tokens(self) -> float:
        """Tokens assumed before any answer was seen: the prompt and a typical completion. Above 0."""
        return self.prompt_estimate_tokens + TYPICAL_COMPLETION_TOKENS
