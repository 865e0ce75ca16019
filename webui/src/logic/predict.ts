// What a change would do to the traffic of the last minute: the split per endpoint, who overflows, who is left over.
// An estimate by proportion and capacity, in the terms of the routing modes; it routes nothing itself.

import type { EndpointNumbers } from "../api/types";
import { byRank } from "./shares";
import { type EndpointConfig, type Numbers, receivers, type Structure } from "./structure";

export interface Prediction {
  /** Expected share of all tokens in percent, by endpoint; only of those that receive. */
  shares: ReadonlyMap<number, number>;
  /** Those expected at their `max_concurrent`, the rest of whose traffic goes elsewhere. */
  overflowing: number[];
  /** The part of the demand nobody has room for, in percent. */
  refusedPercent: number;
  /** In words; empty when there is nothing to warn of. */
  warnings: string[];
  /** Without traffic in the last minute there is nothing to go by but the settings. */
  basis: "traffic" | "settings";
}

interface Candidate {
  id: number;
  name: string;
  weight: number;
  /** Tokens per second it has room for. */
  capacity: number;
}

export function predict(structure: Structure, numbers: Numbers): Prediction {
  const demand = numbers.totals.tokens_per_second;
  const serving = receivers(structure).filter((each) => canServe(numbers.endpoints.get(each.id)));
  const basis = demand > 0 ? "traffic" : "settings";
  if (!receivers(structure).length) return nobody("No endpoint receives traffic: clients get 503.", basis);
  if (!serving.length) return nobody("None of the connected endpoints can take requests now.", basis);
  const candidates = serving.map((each) => candidateOf(each, structure.mode, numbers));
  const load = demand > 0 ? demand : 1;
  const sequential = structure.mode === "priority" || structure.mode === "cost";
  const { served, left } = sequential
    ? filled(inOrder(candidates, structure), load, demand > 0)
    : spread(candidates, load, demand > 0);
  return summary(structure, candidates, served, left / load, basis);
}

function nobody(warning: string, basis: Prediction["basis"]): Prediction {
  return { shares: new Map(), overflowing: [], refusedPercent: 100, warnings: [warning], basis };
}

/** Not down for longer than a moment. What is full or throttled is so because of the present split. */
function canServe(numbers: EndpointNumbers | undefined): boolean {
  return !numbers || numbers.eligible || !["unhealthy", "credentials refused"].includes(numbers.reason ?? "");
}

function candidateOf(endpoint: EndpointConfig, mode: string, numbers: Numbers): Candidate {
  const own = numbers.endpoints.get(endpoint.id);
  return {
    id: endpoint.id,
    name: endpoint.name,
    weight: weightOf(endpoint, mode, own, numbers),
    capacity: endpoint.max_concurrent ? endpoint.max_concurrent / secondsPerToken(own, numbers) : Infinity,
  };
}

function weightOf(endpoint: EndpointConfig, mode: string, own: EndpointNumbers | undefined, numbers: Numbers): number {
  switch (mode) {
    case "percentage":
      return endpoint.token_quota_percent;
    case "weighted":
      return endpoint.weight;
    case "least_loaded":
      return endpoint.weight / secondsPerToken(own, numbers);
    case "latency":
      return 1 / Math.max(0.001, own?.ttfb_seconds ?? averageTtfb(numbers));
    default:
      return 1;
  }
}

/** How long a place is taken per token served: what ties tokens per second to requests in flight. */
function secondsPerToken(own: EndpointNumbers | undefined, numbers: Numbers): number {
  const [seconds, tokens] = residence(own);
  if (tokens > 0 && seconds > 0) return seconds / tokens;
  let all = 0;
  let served = 0;
  for (const each of numbers.endpoints.values()) {
    const [some, of] = residence(each);
    all += some;
    served += of;
  }
  return served > 0 && all > 0 ? all / served : 0.01;
}

function residence(numbers: EndpointNumbers | undefined): [number, number] {
  if (!numbers) return [0, 0];
  return [(numbers.requests_per_second * numbers.avg_latency_ms) / 1000, numbers.tokens_per_second];
}

function averageTtfb(numbers: Numbers): number {
  const known = [...numbers.endpoints.values()].flatMap((each) => each.ttfb_seconds ?? []);
  return known.length ? known.reduce((sum, each) => sum + each, 0) / known.length : 0.1;
}

function inOrder(candidates: Candidate[], structure: Structure): Candidate[][] {
  const configs = new Map(structure.endpoints.map((each) => [each.id, each]));
  const key = (candidate: Candidate) => {
    const config = configs.get(candidate.id);
    if (structure.mode === "cost") return config?.price_per_million_output ?? Infinity;
    return config?.priority_order ?? 0;
  };
  const order = byRank(structure);
  const groups = new Map<number, Candidate[]>();
  for (const each of [...candidates].sort((one, other) => order.indexOf(one.id) - order.indexOf(other.id))) {
    groups.set(key(each), [...(groups.get(key(each)) ?? []), each]);
  }
  return [...groups.entries()].sort(([one], [other]) => one - other).map(([, group]) => group);
}

/** Group by group, each to its capacity. */
function filled(groups: Candidate[][], load: number, capped: boolean): { served: Map<number, number>; left: number } {
  const served = new Map<number, number>();
  let left = load;
  for (const group of groups) {
    const part = spread(group, left, capped);
    for (const [id, tokens] of part.served) served.set(id, tokens);
    left = part.left;
  }
  return { served, left };
}

/** By weight; what one has no room for is spread over the others, again by weight. Zero weights are the reserve. */
function spread(candidates: Candidate[], load: number, capped: boolean): { served: Map<number, number>; left: number } {
  const served = new Map(candidates.map((each) => [each.id, 0]));
  const room = (each: Candidate) => (capped ? each.capacity : Infinity) - (served.get(each.id) ?? 0);
  let left = load;
  for (let round = 0; round <= candidates.length && left > load * 1e-9; round += 1) {
    const open = candidates.filter((each) => room(each) > load * 1e-9);
    const weighted = open.filter((each) => each.weight > 0);
    const takers = weighted.length ? weighted : open;
    if (!takers.length) break;
    const sum = takers.reduce((total, each) => total + (weighted.length ? each.weight : 1), 0);
    const before = left;
    for (const each of takers) {
      const part = Math.min(room(each), (before * (weighted.length ? each.weight : 1)) / sum);
      served.set(each.id, (served.get(each.id) ?? 0) + part);
      left -= part;
    }
  }
  return { served, left: Math.max(0, left) };
}

function summary(
  structure: Structure,
  candidates: Candidate[],
  served: ReadonlyMap<number, number>,
  refused: number,
  basis: Prediction["basis"],
): Prediction {
  const total = [...served.values()].reduce((sum, each) => sum + each, 0) || 1;
  const shares = new Map(receivers(structure).map((each) => [each.id, (100 * (served.get(each.id) ?? 0)) / total]));
  const full =
    basis === "traffic" ? candidates.filter((each) => (served.get(each.id) ?? 0) >= each.capacity * (1 - 1e-6)) : [];
  const warnings: string[] = [];
  const refusedPercent = 100 * refused;
  if (refusedPercent > 0.5) {
    warnings.push(`About ${Math.round(refusedPercent)} % of the traffic finds no room: it waits or gets 429.`);
  } else if (full.length) {
    warnings.push(`${full.map((each) => each.name).join(", ")} would be full and overflow to the others.`);
  }
  return { shares, overflowing: full.map((each) => each.id), refusedPercent, warnings, basis };
}
