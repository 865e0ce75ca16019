// Values for tests, whole and valid; each test says only what it is about.

import type { EndpointFields, EndpointNumbers, EndpointView, State, TokenView } from "../src/api/types";
import { type EndpointConfig, type Numbers, numbersOf, type Structure, structureOf } from "../src/logic/structure";

export const FIELDS: EndpointFields = {
  name: "gpu",
  base_url: "http://gpu:8000/v1",
  timeout: 120,
  verify_tls: true,
  enabled: true,
  connected: true,
  token_quota_percent: 0,
  priority_order: 1,
  max_concurrent: 0,
  weight: 1,
  models: [],
  model_aliases: {},
  include_usage: true,
  price_per_million_input: null,
  price_per_million_output: null,
  tags: [],
  health_check: true,
  pos_x: 600,
  pos_y: 0,
};

export const NUMBERS: EndpointNumbers = {
  total_requests: 0,
  total_success: 0,
  total_failures: 0,
  avg_latency_ms: 0,
  prompt_tokens_total: 0,
  completion_tokens_total: 0,
  total_share_percent: null,
  inflight: 0,
  eligible: true,
  reason: null,
  reason_text: null,
  wait_seconds: null,
  breaker: "closed",
  consecutive_failures: 0,
  panics: 0,
  cooldown_remaining_s: 0,
  healthy: true,
  health: { status: "unknown", checked_at: null, latency_ms: null, reason: null },
  credentials_refused: false,
  discovered_models: null,
  last_error: "",
  tokens_per_second: 0,
  requests_per_second: 0,
  failures_per_second: 0,
  ttfb_seconds: null,
  share_percent: null,
};

/** Endpoint `id` is named "gpu-<id>" unless it is said otherwise. */
export function endpoint(id: number, given: Partial<EndpointView> = {}): EndpointView {
  return {
    ...FIELDS,
    ...NUMBERS,
    id,
    name: `gpu-${id}`,
    base_url: `http://gpu-${id}:8000/v1`,
    priority_order: id,
    pos_y: id * 160,
    api_key_preview: "",
    has_api_key: false,
    discovered: false,
    created_at: "2026-01-01T00:00:00+00:00",
    updated_at: "2026-01-01T00:00:00+00:00",
    ...given,
  };
}

export function token(id: number | null, given: Partial<TokenView> = {}): TokenView {
  return {
    id,
    name: `client-${id}`,
    token_preview: "lb-…abcd",
    created_at: null,
    last_used_at: null,
    pos_x: 0,
    pos_y: 0,
    total_requests: 0,
    prompt_tokens_total: 0,
    completion_tokens_total: 0,
    requests_per_second: 0,
    ...given,
  } as TokenView;
}

export function state(endpoints: EndpointView[] = [], given: Partial<State> = {}): State {
  const sum = (of: (each: EndpointView) => number) => endpoints.reduce((total, each) => total + of(each), 0);
  return {
    revision: 1,
    version: "0.1.0",
    routing_mode: "percentage",
    endpoints,
    incoming_pos: { x: 320, y: 0 },
    stats: {
      tokens_per_second: sum((each) => each.tokens_per_second),
      requests_per_second: sum((each) => each.requests_per_second),
      total_inflight: sum((each) => each.inflight),
    } as State["stats"],
    client_tokens: [],
    environment_tokens: [],
    open_to_all: true,
    retry_budget: { limit: 10, active_retries: 0, active_requests: 0, refused_total: 0 },
    queue: { depth: 0, size: 100 },
    overhead_median_seconds: null,
    ...given,
  };
}

/** The structure of a state with these endpoints. */
export function structure(endpoints: EndpointView[] = [], given: Partial<State> = {}): Structure {
  return structureOf(state(endpoints, given));
}

/** Receivers with these quotas, ids from 1. */
export function quotas(...percents: number[]): Structure {
  return structure(percents.map((percent, place) => endpoint(place + 1, { token_quota_percent: percent })));
}

export function numbersFor(endpoints: EndpointView[]): Numbers {
  return numbersOf(state(endpoints));
}

export function config(given: Partial<EndpointView> = {}): EndpointConfig {
  return structure([endpoint(1, given)]).endpoints[0] as EndpointConfig;
}

/** The same numbers every time: a small generator with a seed (mulberry32). */
export function generator(seed: number) {
  let at = seed >>> 0;
  const next = () => {
    at = (at + 0x6d2b79f5) >>> 0;
    let mixed = at;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  /** A whole number from `least` to `most`, both included. */
  const whole = (least: number, most: number) => least + Math.floor(next() * (most - least + 1));
  const pick = <T>(all: readonly T[]): T => all[whole(0, all.length - 1)] as T;
  return { next, whole, pick };
}
