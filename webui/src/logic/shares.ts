// Arithmetic of quotas: what they mean, and how to make their sum 100 again.

import type { Update } from "./acts";
import { receivers, type Structure } from "./structure";

export const WHOLE_PERCENT = 100;

export function quotaSum(structure: Structure): number {
  return round(receivers(structure).reduce((sum, each) => sum + each.token_quota_percent, 0));
}

/** What each receiver's quota amounts to among all that serve, in percent. All zero: equal parts. */
export function targets(structure: Structure): Map<number, number> {
  const serving = receivers(structure);
  const sum = serving.reduce((total, each) => total + each.token_quota_percent, 0);
  return new Map(
    serving.map((each) => [
      each.id,
      sum > 0 ? (WHOLE_PERCENT * each.token_quota_percent) / sum : WHOLE_PERCENT / serving.length,
    ]),
  );
}

/** Whole numbers in proportion to `parts` with the exact sum `whole` (largest remainders). All zero: equal parts. */
export function proportional(parts: readonly number[], whole = WHOLE_PERCENT): number[] {
  if (!parts.length) return [];
  const sum = parts.reduce((total, each) => total + each, 0);
  const exact = parts.map((each) => (sum > 0 ? (whole * each) / sum : whole / parts.length));
  const floors = exact.map(Math.floor);
  let left = whole - floors.reduce((total, each) => total + each, 0);
  const order = exact.map((each, place) => ({ place, rest: each - Math.floor(each) }));
  order.sort((one, other) => other.rest - one.rest || one.place - other.place);
  for (const { place } of order) {
    if (left < 1) break;
    floors[place] = (floors[place] ?? 0) + 1;
    left -= 1;
  }
  return floors;
}

/** The change that makes the receivers' quotas sum to 100 in their present proportion. Empty: they do already. */
export function rescale(structure: Structure): Update[] {
  const serving = receivers(structure);
  const wanted = proportional(serving.map((each) => each.token_quota_percent));
  return quotaUpdates(structure, new Map(serving.map((each, place) => [each.id, wanted[place] ?? 0])));
}

/** One quota set to `percent`, the others sharing the rest in their present proportion; the sum is 100. */
export function withQuota(structure: Structure, id: number, percent: number): Update[] {
  const others = receivers(structure).filter((each) => each.id !== id);
  const mine = others.length ? clamp(Math.round(percent)) : WHOLE_PERCENT;
  const rest = proportional(
    others.map((each) => each.token_quota_percent),
    WHOLE_PERCENT - mine,
  );
  const quotas = new Map(others.map((each, place) => [each.id, rest[place] ?? 0]));
  return quotaUpdates(structure, quotas.set(id, mine));
}

/** The border between two neighbours of the quota bar moved: `id` gets `percent`, `next` the rest of what both had. */
export function withBorder(structure: Structure, id: number, next: number, percent: number): Update[] {
  const of = (wanted: number) => structure.endpoints.find((each) => each.id === wanted)?.token_quota_percent ?? 0;
  const both = of(id) + of(next);
  const mine = Math.min(both, Math.max(0, Math.round(percent)));
  return quotaUpdates(
    structure,
    new Map([
      [id, mine],
      [next, round(both - mine)],
    ]),
  );
}

function quotaUpdates(structure: Structure, quotas: ReadonlyMap<number, number>): Update[] {
  return structure.endpoints.flatMap((each) => {
    const wanted = quotas.get(each.id);
    return wanted === undefined || wanted === each.token_quota_percent
      ? []
      : [{ id: each.id, fields: { token_quota_percent: wanted } }];
  });
}

/** Ranks 1, 2, 3 ... in this order; only what differs. Ids that are left out keep their rank. */
export function ranked(structure: Structure, order: readonly number[]): Update[] {
  return order.flatMap((id, place) => {
    const rank = Math.min(100, place + 1);
    const endpoint = structure.endpoints.find((each) => each.id === id);
    return !endpoint || endpoint.priority_order === rank ? [] : [{ id, fields: { priority_order: rank } }];
  });
}

/** All endpoints as they are ranked: connected or not, ties by age. */
export function byRank(structure: Structure): number[] {
  return [...structure.endpoints]
    .sort((one, other) => one.priority_order - other.priority_order || one.id - other.id)
    .map((each) => each.id);
}

/** One place up (-1) or down (+1) among all. */
export function moved(order: readonly number[], id: number, by: -1 | 1): number[] {
  const place = order.indexOf(id);
  const other = place + by;
  if (place < 0 || other < 0 || other >= order.length) return [...order];
  const copy = [...order];
  [copy[place], copy[other]] = [copy[other] as number, copy[place] as number];
  return copy;
}

function clamp(percent: number): number {
  return Math.min(WHOLE_PERCENT, Math.max(0, percent));
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
