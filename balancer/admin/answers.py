"""What the admin API answers: plain values, documented from here. None holds a provider key or a token in clear,
but for the one answer that gives a new token away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request was not carried out, in words."""

    detail: str


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field; `loc` is the way to it."""

    loc: list[str | int]
    msg: str
    type: str


@dataclass(frozen=True, slots=True)
class InvalidFields:
    """What is wrong with the fields of a request; nothing of it was carried out."""

    detail: list[FieldProblem]


@dataclass(frozen=True, slots=True)
class Done:
    """It was carried out."""

    ok: bool = True


@dataclass(frozen=True, slots=True)
class Aborted:
    """How many exchanges with an endpoint were ended."""

    aborted: int


@dataclass(frozen=True, slots=True)
class Position:
    """A place on the canvas."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class HealthView:
    """How an endpoint stands by its probes: `status` up, down, unknown, off (not probed) or credentials (key refused).

    The others are of the last probe, None before the first.
    """

    status: str
    checked_at: str | None
    latency_ms: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint: its configuration, its totals since the last reset, and how it is at this moment.

    `discovered`: found by the balancer itself. `discovered_models` are those it listed at `discovered_models_at`, which
    may be a while ago when it is down or disabled; None where it never told. Rates, `ttfb_seconds` and `share_percent`
    are of the last 60 seconds; the share is that of all tokens served, None without any. `reason` is why it would not
    take a request now, None when it would. `panics` counts, since the start, requests let through in need although it
    was thought to be down. Times are ISO 8601 in UTC.
    """

    id: int
    name: str
    base_url: str
    api_key_preview: str
    has_api_key: bool
    timeout: float
    timeout_seconds: float
    verify_tls: bool
    enabled: bool
    connected: bool
    token_quota_percent: float
    priority_order: int
    max_concurrent: int
    weight: float
    models: list[str]
    model_aliases: dict[str, str]
    include_usage: bool
    price_per_million_input: float | None
    price_per_million_output: float | None
    tags: list[str]
    health_check: bool
    discovered: bool
    pos_x: float
    pos_y: float
    created_at: str
    updated_at: str
    total_requests: int
    total_success: int
    total_failures: int
    avg_latency_ms: float
    prompt_tokens_total: int
    completion_tokens_total: int
    total_share_percent: float | None
    inflight: int
    eligible: bool
    reason: str | None
    reason_text: str | None
    wait_seconds: float | None
    breaker: str
    consecutive_failures: int
    panics: int
    cooldown_until: str | None
    cooldown_remaining_s: float
    healthy: bool
    health: HealthView
    credentials_refused: bool
    discovered_models: list[str] | None
    discovered_models_at: str | None
    last_error: str
    tokens_per_second: float
    requests_per_second: float
    failures_per_second: float
    ttfb_seconds: float | None
    share_percent: float | None


@dataclass(frozen=True, slots=True)
class Batched:
    """What one revision created and changed, each in the order given."""

    created: list[EndpointView]
    updated: list[EndpointView]


@dataclass(frozen=True, slots=True)
class TokenView:
    """A client token and what it was used for; `id` is None for tokens from the environment."""

    id: int | None
    name: str
    token_preview: str
    created_at: str | None
    last_used_at: str | None
    pos_x: float
    pos_y: float
    total_requests: int
    prompt_tokens_total: int
    completion_tokens_total: int
    requests_per_second: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class CreatedToken(TokenView):
    """A new client token with the token itself, which is never shown again."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stats:
    """The whole balancer over the last 60 seconds, and what is in flight now, by endpoint id.

    `ttfb_median_seconds` is that of the latest 1,000 requests of that time, None without any.
    """

    tokens_per_second: float
    requests_per_second: float
    ttfb_median_seconds: float | None
    total_inflight: int
    inflight_per_endpoint: dict[str, int]


@dataclass(frozen=True, slots=True)
class RetryBudgetView:
    """How many retries may be and are under way; `refused_total` were not made for lack of budget."""

    limit: int
    active_retries: int
    active_requests: int
    refused_total: int


@dataclass(frozen=True, slots=True)
class QueueView:
    """Requests waiting for room, of at most `size`."""

    depth: int
    size: int


@dataclass(frozen=True, slots=True)
class State:
    """Everything at one moment. `revision` counts the changes of the configuration. `open_to_all`: no client needs a
    token, as there is none and never was.

    `overhead_median_seconds` is the balancer's own time per request, None before the first.
    """

    revision: int
    version: str
    routing_mode: str
    endpoints: list[EndpointView]
    incoming_pos: Position
    stats: Stats
    client_tokens: list[TokenView]
    environment_tokens: list[TokenView]
    open_to_all: bool
    retry_budget: RetryBudgetView
    queue: QueueView
    overhead_median_seconds: float | None


@dataclass(frozen=True, slots=True)
class Routing:
    """The routing mode in force."""

    routing_mode: str


@dataclass(frozen=True, slots=True)
class FieldChangeView:
    """One field before and after. A provider key stands as "***", "" is none."""

    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Conflict:
    """The configuration is not at the revision the client has seen.

    `changed` tells what differs since, by "endpoints.<id>.<field>" or "routing_mode"; an endpoint that was created or
    deleted is one entry "endpoints.<id>". Empty when that revision is no longer known.
    """

    detail: str
    revision: int
    state: State
    changed: dict[str, FieldChangeView]


@dataclass(frozen=True, slots=True)
class RevertProblem:
    """A revision cannot be taken back: `fields` have changed again since."""

    detail: str
    fields: list[str]


@dataclass(frozen=True, slots=True)
class ChangeView:
    """What a revision did to one endpoint, or to the routing mode (`endpoint_id` None).

    `before` None: created. `after` None: deleted. Otherwise both hold the fields that changed.
    """

    endpoint_id: int | None
    name: str
    before: Mapping[str, object] | None
    after: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class RevisionView:
    """One change of the configuration: who, when, what, and the same in words."""

    number: int
    created_at: str
    actor: str
    summary: str
    changes: list[ChangeView]


@dataclass(frozen=True, slots=True)
class Revisions:
    """Some revisions, newest first; `revision` is the current one."""

    revision: int
    revisions: list[RevisionView]


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt of a request; `panic`: at an endpoint thought to be down, as nothing else was left.

    `passed_over`: endpoints that serve the model and could not be used at that moment, at most 20, with the reason.
    """

    endpoint_id: int
    endpoint: str
    seconds: float
    outcome: str
    result: str
    panic: bool
    passed_over: dict[str, str]


@dataclass(frozen=True, slots=True)
class RequestView:
    """One finished request. Tokens are None where none are known; `provenance` tells where they come from."""

    number: int
    at: str
    request_id: str
    client: str
    operation: str
    model: str | None
    upstream_model: str | None
    endpoint_id: int | None
    endpoint: str | None
    attempts: list[AttemptView]
    streamed: bool
    status: int
    first_byte_seconds: float | None
    total_seconds: float
    overhead_seconds: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    provenance: str | None
    error: str


@dataclass(frozen=True, slots=True)
class Requests:
    """The request log, newest first. `finished` counts all since the start, logged or not."""

    finished: int
    requests: list[RequestView]


@dataclass(frozen=True, slots=True)
class SeriesView:
    """Counts by time, one list a quantity, all of one length. `at` is Unix time each step of `step_seconds` begins.

    `ttfb_seconds` is known for seconds, `latency_ms` (to the end of the answer) for minutes; None where there is none.
    """

    endpoint: int | None
    step_seconds: int
    at: list[int]
    requests: list[int]
    failures: list[int]
    prompt_tokens: list[int]
    completion_tokens: list[int]
    ttfb_seconds: list[float | None]
    latency_ms: list[float | None]


@dataclass(frozen=True, slots=True)
class ConnectionTest:
    """How asking an endpoint for its models went; `reason` says it in words, `status` is that of its answer if any."""

    ok: bool
    verdict: str
    reason: str
    status: int | None
    latency_ms: float
    models: list[str]


@dataclass(frozen=True, slots=True)
class ProbeAnswer(ConnectionTest):
    """How a probe went, and how the endpoint stands after it."""

    health: HealthView


@dataclass(frozen=True, slots=True)
class SettingView:
    """One setting of the process, which only a restart changes. Texts are as an operator would write them.

    `value` is "***" for a secret that is set. `source` is environment, file (`.env`), default, or generated;
    `variable` the variable it was given under, which may be an older name. `choices` is empty where others go too.
    """

    name: str
    group: str
    value: str
    default: str
    source: str
    variable: str | None
    help: str
    expected: str
    unit: str | None
    choices: list[str]
    secret: bool


@dataclass(frozen=True, slots=True)
class SessionView:
    """Who is asking: by `token`, or by a `session` whose changes must carry `csrf_token` as X-CSRF-Token."""

    via: str
    csrf_token: str | None
    expires_at: str | None
