// An endpoint that is about to be added: what it would get, what the others become, and how to find it again.

import type { Act, NewEndpoint } from "./acts";
import { proportional, targets, withQuota } from "./shares";
import { type EndpointConfig, endpointOf, receivers, type Structure } from "./structure";

/** Stands for it while it has no id of its own. */
export const NEWCOMER = -1;

/** Its quota to begin with: an equal part, whole numbers. */
export function suggestedQuota(structure: Structure): number {
  const others = receivers(structure).length;
  return proportional(new Array<number>(others + 1).fill(1))[others] ?? 100;
}

/** The structure with it, the others' quotas scaled if `rescaled`. For predictions only. */
export function withNewcomer(structure: Structure, fields: NewEndpoint, rescaled: boolean): Structure {
  const newcomer = { ...BLANK, ...fields, id: NEWCOMER };
  const together = { ...structure, endpoints: [...structure.endpoints, newcomer] };
  if (!rescaled || !newcomer.connected) return together;
  const quotas = new Map(
    withQuota(together, NEWCOMER, newcomer.token_quota_percent).map((each) => [
      each.id,
      each.fields.token_quota_percent,
    ]),
  );
  return {
    ...together,
    endpoints: together.endpoints.map((each) => ({
      ...each,
      token_quota_percent: quotas.get(each.id) ?? each.token_quota_percent,
    })),
  };
}

const BLANK: EndpointConfig = {
  id: NEWCOMER,
  name: "",
  base_url: "",
  timeout: 120,
  verify_tls: true,
  enabled: true,
  connected: false,
  token_quota_percent: 0,
  priority_order: 10,
  max_concurrent: 0,
  weight: 1,
  models: [],
  model_aliases: {},
  include_usage: true,
  price_per_million_input: null,
  price_per_million_output: null,
  tags: [],
  health_check: true,
  pos_x: 0,
  pos_y: 0,
  api_key_preview: "",
  has_api_key: false,
  discovered: false,
};

export interface TargetChange {
  id: number;
  name: string;
  /** In percent; null: it was not there. */
  before: number | null;
  after: number;
}

/** By the settings, the target of each receiver before and after; the newcomer first. */
export function targetChanges(before: Structure, after: Structure): TargetChange[] {
  const was = targets(before);
  const becomes = targets(after);
  const rows = receivers(after).map((each) => ({
    id: each.id,
    name: each.name,
    before: was.get(each.id) ?? null,
    after: becomes.get(each.id) ?? 0,
  }));
  return rows.sort((one, other) => Number(other.id === NEWCOMER) - Number(one.id === NEWCOMER));
}

/** The act that adds it; with `rescaled` the others' quotas become such that all sum to 100, at the same moment. */
export function addition(structure: Structure, fields: NewEndpoint, rescaled: boolean): Act {
  if (!rescaled || !fields.connected) return { kind: "create", endpoints: [fields] };
  const after = withNewcomer(structure, fields, true);
  const quotaOf = (id: number) => endpointOf(after, id)?.token_quota_percent ?? 0;
  const updates = structure.endpoints.flatMap(({ id, token_quota_percent }) =>
    quotaOf(id) === token_quota_percent ? [] : [{ id, fields: { token_quota_percent: quotaOf(id) } }],
  );
  return { kind: "create", endpoints: [{ ...fields, token_quota_percent: quotaOf(NEWCOMER) }], updates };
}
