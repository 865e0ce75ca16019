// What the admin API answers, by the names of its OpenAPI description. Only what the pages use.

export interface HealthView {
  status: "up" | "down" | "unknown" | "off" | "credentials";
  checked_at: string | null;
  latency_ms: number | null;
  reason: string | null;
}

/** What an operator may set of an endpoint. `api_key` is never answered, only sent. */
export interface EndpointFields {
  name: string;
  base_url: string;
  timeout: number;
  verify_tls: boolean;
  enabled: boolean;
  connected: boolean;
  token_quota_percent: number;
  priority_order: number;
  max_concurrent: number;
  weight: number;
  models: string[];
  model_aliases: Record<string, string>;
  include_usage: boolean;
  price_per_million_input: number | null;
  price_per_million_output: number | null;
  tags: string[];
  health_check: boolean;
  pos_x: number;
  pos_y: number;
}

/** What changes by itself: never a reason to touch the graph. */
export interface EndpointNumbers {
  total_requests: number;
  total_success: number;
  total_failures: number;
  avg_latency_ms: number;
  prompt_tokens_total: number;
  completion_tokens_total: number;
  total_share_percent: number | null;
  inflight: number;
  eligible: boolean;
  reason: string | null;
  reason_text: string | null;
  wait_seconds: number | null;
  breaker: "closed" | "open" | "half-open";
  consecutive_failures: number;
  panics: number;
  cooldown_remaining_s: number;
  healthy: boolean;
  health: HealthView;
  credentials_refused: boolean;
  discovered_models: string[] | null;
  last_error: string;
  tokens_per_second: number;
  requests_per_second: number;
  failures_per_second: number;
  ttfb_seconds: number | null;
  share_percent: number | null;
}

export interface EndpointView extends EndpointFields, EndpointNumbers {
  id: number;
  api_key_preview: string;
  has_api_key: boolean;
  discovered: boolean;
  created_at: string;
  updated_at: string;
}

export interface TokenView {
  id: number | null;
  name: string;
  token_preview: string;
  created_at: string | null;
  last_used_at: string | null;
  pos_x: number;
  pos_y: number;
  total_requests: number;
  prompt_tokens_total: number;
  completion_tokens_total: number;
  requests_per_second: number;
  tokens_per_second: number;
}

export interface Stats {
  tokens_per_second: number;
  requests_per_second: number;
  ttfb_median_seconds: number | null;
  total_inflight: number;
}

export interface State {
  revision: number;
  version: string;
  routing_mode: string;
  endpoints: EndpointView[];
  incoming_pos: { x: number; y: number };
  stats: Stats;
  client_tokens: TokenView[];
  environment_tokens: TokenView[];
  /** No client needs a token: there is none and never was. */
  open_to_all: boolean;
  retry_budget: { limit: number; active_retries: number; active_requests: number; refused_total: number };
  queue: { depth: number; size: number };
  overhead_median_seconds: number | null;
}

export interface Conflict {
  detail: string;
  revision: number;
  state: State;
  /** By "endpoints.<id>.<field>", "endpoints.<id>" or "routing_mode"; empty when the seen revision is forgotten. */
  changed: Record<string, { before: unknown; after: unknown }>;
}

export interface ChangeView {
  endpoint_id: number | null;
  name: string;
  before: Record<string, unknown> | null;
  after: Record<string, unknown> | null;
}

export interface RevisionView {
  number: number;
  created_at: string;
  actor: string;
  summary: string;
  changes: ChangeView[];
}

export interface AttemptView {
  endpoint_id: number;
  endpoint: string;
  seconds: number;
  outcome: string;
  result: string;
  panic: boolean;
  /** Those that could not be used at that moment, with the reason. */
  passed_over: Record<string, string>;
}

export interface RequestView {
  number: number;
  at: string;
  request_id: string;
  client: string;
  operation: string;
  model: string | null;
  upstream_model: string | null;
  endpoint_id: number | null;
  endpoint: string | null;
  attempts: AttemptView[];
  streamed: boolean;
  status: number;
  first_byte_seconds: number | null;
  total_seconds: number;
  overhead_seconds: number | null;
  prompt_tokens: number | null;
  completion_tokens: number | null;
  provenance: string | null;
  error: string;
}

export interface RequestsView {
  /** All that ever finished since the start, also those that are no longer in the log. */
  finished: number;
  requests: RequestView[];
}

export interface CandidateView {
  id: number;
  name: string;
  eligible: boolean;
  reason: string | null;
  reason_text: string | null;
  wait_seconds: number | null;
  /** The lowest wins, unless a session decides; null where it was not compared. */
  score: number | null;
  share: number | null;
  affinity_preferred: boolean;
}

export interface ExplanationView {
  would: "serve" | "wait" | "refuse" | "give_up";
  status: number | null;
  endpoint: { id: number; name: string } | null;
  /** Served by an endpoint that is thought to be down, as nothing else is left. */
  panic: boolean;
  model: { asked: string | null; resolved: string | null };
  strategy: string;
  affinity: string;
  candidates: CandidateView[];
  refusal: { status: number; code: string | null; message: string; retry_after: number | null } | null;
}

export interface RevisionsView {
  revision: number;
  revisions: RevisionView[];
}

export interface SettingView {
  name: string;
  group: string;
  /** "***" for a secret that is set. */
  value: string;
  default: string;
  source: "environment" | "file" | "default" | "generated";
  /** The variable it was given under, which may be an older name. */
  variable: string | null;
  help: string;
  expected: string;
  unit: string | null;
  choices: string[];
  secret: boolean;
}

export interface SeriesView {
  endpoint: number | null;
  step_seconds: number;
  at: number[];
  requests: number[];
  failures: number[];
  prompt_tokens: number[];
  completion_tokens: number[];
  ttfb_seconds: (number | null)[];
  latency_ms: (number | null)[];
}

export interface ConnectionTest {
  ok: boolean;
  verdict: string;
  reason: string;
  status: number | null;
  latency_ms: number;
  models: string[];
}

export interface SessionView {
  via: "session" | "token";
  csrf_token: string | null;
  expires_at: string | null;
}
