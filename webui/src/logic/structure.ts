// The state of the balancer in two halves: what the operator arranged (the structure, which makes the graph) and what
// changes by itself (the numbers, which only fill it in).

import type { EndpointFields, EndpointNumbers, EndpointView, State, Stats, TokenView } from "../api/types";

export interface EndpointConfig extends EndpointFields {
  id: number;
  api_key_preview: string;
  has_api_key: boolean;
  discovered: boolean;
}

export interface ClientConfig {
  /** The token's id; null for tokens from the environment, which cannot be moved or revoked here. */
  id: number | null;
  key: string;
  name: string;
  preview: string;
  createdAt: string | null;
  x: number;
  y: number;
}

export interface Structure {
  revision: number;
  mode: string;
  endpoints: EndpointConfig[];
  incoming: { x: number; y: number };
  clients: ClientConfig[];
  /** No client needs a token. Without a token and not open nobody can send. */
  open: boolean;
}

export interface ClientNumbers {
  requests: number;
  tokens: number;
  requestsPerSecond: number;
  tokensPerSecond: number;
  lastUsedAt: string | null;
}

export interface Totals extends Stats {
  overheadSeconds: number | null;
  queueDepth: number;
  queueSize: number;
  retriesRefused: number;
}

export interface Numbers {
  endpoints: ReadonlyMap<number, EndpointNumbers>;
  clients: ReadonlyMap<string, ClientNumbers>;
  totals: Totals;
  version: string;
}

/** What describes an endpoint and may leave this machine. */
export const PORTABLE = [
  "name",
  "base_url",
  "timeout",
  "verify_tls",
  "enabled",
  "connected",
  "token_quota_percent",
  "priority_order",
  "max_concurrent",
  "weight",
  "models",
  "model_aliases",
  "include_usage",
  "price_per_million_input",
  "price_per_million_output",
  "tags",
  "health_check",
  "pos_x",
  "pos_y",
] as const satisfies readonly (keyof EndpointFields)[];

const FIELDS = [
  "id",
  "api_key_preview",
  "has_api_key",
  "discovered",
  ...PORTABLE,
] as const satisfies readonly (keyof EndpointConfig)[];

export function structureOf(state: State): Structure {
  return {
    revision: state.revision,
    mode: state.routing_mode,
    endpoints: state.endpoints.map(configOf),
    incoming: state.incoming_pos,
    clients: allTokens(state).map(clientOf),
    open: state.open_to_all,
  };
}

export function numbersOf(state: State): Numbers {
  return {
    endpoints: new Map(state.endpoints.map((each) => [each.id, each])),
    clients: new Map(
      allTokens(state).map((each) => [
        clientKey(each),
        {
          requests: each.total_requests,
          tokens: each.prompt_tokens_total + each.completion_tokens_total,
          requestsPerSecond: each.requests_per_second,
          tokensPerSecond: each.tokens_per_second,
          lastUsedAt: each.last_used_at,
        },
      ]),
    ),
    totals: {
      ...state.stats,
      overheadSeconds: state.overhead_median_seconds,
      queueDepth: state.queue.depth,
      queueSize: state.queue.size,
      retriesRefused: state.retry_budget.refused_total,
    },
    version: state.version,
  };
}

function configOf(view: EndpointView): EndpointConfig {
  return Object.fromEntries(FIELDS.map((name) => [name, view[name]])) as unknown as EndpointConfig;
}

function allTokens(state: State): TokenView[] {
  return [...state.client_tokens, ...state.environment_tokens];
}

function clientKey(token: TokenView): string {
  return token.id === null ? `env-${token.name}` : String(token.id);
}

function clientOf(token: TokenView): ClientConfig {
  return {
    id: token.id,
    key: clientKey(token),
    name: token.name,
    preview: token.token_preview,
    createdAt: token.created_at,
    x: token.pos_x,
    y: token.pos_y,
  };
}

/** Whether the graph would look the same. Cheap enough for every tick: both are small plain values. */
export function sameStructure(one: Structure, other: Structure): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

export function endpointOf(structure: Structure, id: number): EndpointConfig | undefined {
  return structure.endpoints.find((each) => each.id === id);
}

/** Those that take traffic: wired and switched on. */
export function receivers(structure: Structure): EndpointConfig[] {
  return structure.endpoints.filter((each) => each.connected && each.enabled);
}

/** A name nobody has: "gpu-1", else "gpu-1 2", "gpu-1 3". */
export function freeName(wanted: string, structure: Structure): string {
  const taken = new Set(structure.endpoints.map((each) => each.name));
  const base = wanted.trim().slice(0, 110) || "endpoint";
  if (!taken.has(base)) return base;
  for (let number = 2; ; number += 1) {
    const name = `${base} ${number}`;
    if (!taken.has(name)) return name;
  }
}

/** With more wires than this their labels would hide the cards: the cards then say the share themselves. */
const MOST_LABELS = 16;

export function isDense(structure: Structure): boolean {
  return receivers(structure).length > MOST_LABELS;
}
