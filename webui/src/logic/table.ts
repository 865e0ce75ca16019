// The table of endpoints: its columns, who passes the filter, in which order the rows stand.

import type { EndpointNumbers } from "../api/types";
import { hostOf } from "./format";
import { modeOf } from "./modes";
import { targets } from "./shares";
import { statusOf } from "./status";
import type { EndpointConfig, Structure } from "./structure";

export type ColumnId =
  | "status"
  | "name"
  | "models"
  | "connected"
  | "enabled"
  | "quota"
  | "rank"
  | "weight"
  | "price"
  | "share"
  | "inflight"
  | "tokens"
  | "requests"
  | "firstByte"
  | "failures"
  | "total";

export interface Column {
  id: ColumnId;
  label: string;
  title: string;
  /** Figures stand at the right, and the greatest comes first. */
  numeric: boolean;
  /** It changes by itself: the order is that of the moment it was asked for. */
  live: boolean;
  /** Hidden first where there is little room: 1 before 2; 0 stays. */
  hides: 0 | 1 | 2 | 3;
}

function column(
  id: ColumnId,
  label: string,
  title: string,
  more: Partial<Pick<Column, "numeric" | "live" | "hides">> = {},
): Column {
  return { id, label, title, numeric: false, live: false, hides: 0, ...more };
}

const live = { numeric: true, live: true } as const;

const ALL: readonly Column[] = [
  column("status", "Status", "How it is", { live: true }),
  column("name", "Endpoint", "Name and host"),
  column("models", "Models", "Models it serves", { numeric: true, hides: 2 }),
  column("connected", "Connected", "Wired to Incoming: receives traffic"),
  column("enabled", "Enabled", "Off: keeps its wire and takes nothing", { hides: 3 }),
  column("quota", "Quota", "Its part of all tokens, as set", { numeric: true }),
  column("rank", "Rank", "The first in rank takes all; the rest overflows", { numeric: true }),
  column("weight", "Weight", "Its part in proportion to the others'", { numeric: true }),
  column("price", "Price", "Per million output tokens", { numeric: true }),
  column("share", "Actual", "Its part of all tokens in the last 60 s", live),
  column("inflight", "In flight", "Requests under way, of the most at once", live),
  column("tokens", "tok/s", "Tokens per second, mean of 60 s", live),
  column("requests", "req/s", "Requests per second, mean of 60 s", { ...live, hides: 3 }),
  column("firstByte", "First byte", "Mean time to the first byte in 60 s", { ...live, hides: 2 }),
  column("failures", "Failed", "Failed attempts since the last reset", { ...live, hides: 1 }),
  column("total", "Tokens", "Tokens in and out since the last reset", { ...live, hides: 1 }),
];

const STEERING: Record<string, ColumnId> = {
  token_quota_percent: "quota",
  priority_order: "rank",
  weight: "weight",
  price_per_million_output: "price",
};

/** The columns in a mode: of the fields that modes go by only the one of this mode. */
export function columnsOf(mode: string): Column[] {
  const own = STEERING[modeOf(mode).field ?? ""];
  const steering = new Set(Object.values(STEERING));
  return ALL.filter((each) => !steering.has(each.id) || each.id === own);
}

/** All words occur somewhere: in name, address, status, tags or models. */
export function passes(filter: string, endpoint: EndpointConfig, numbers: EndpointNumbers | undefined): boolean {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return true;
  const models = [...endpoint.models, ...(numbers?.discovered_models ?? [])];
  const text = [endpoint.name, endpoint.base_url, statusOf(endpoint, numbers).word, ...endpoint.tags, ...models]
    .join(" ")
    .toLowerCase();
  return words.every((each) => text.includes(each));
}

export interface Sorting {
  by: ColumnId;
  descending: boolean;
}

/** Another column: names from a, figures from the greatest, ranks from the first. The same again: the other way. */
export function nextSorting(before: Sorting | null, column: Column): Sorting {
  if (before?.by === column.id) return { by: column.id, descending: !before.descending };
  return { by: column.id, descending: column.numeric && column.id !== "rank" && column.id !== "price" };
}

/** Ids in order. Null: as the canvas has them, by age. Equal ones by name. */
export function sortedIds(
  structure: Structure,
  numbers: ReadonlyMap<number, EndpointNumbers>,
  sorting: Sorting | null,
): number[] {
  if (!sorting) return structure.endpoints.map((each) => each.id);
  const share = targets(structure);
  const key = (each: EndpointConfig) => sortKey(sorting.by, each, numbers.get(each.id), share.get(each.id) ?? 0);
  const way = sorting.descending ? -1 : 1;
  return structure.endpoints
    .map((each) => ({ id: each.id, name: each.name, key: key(each) }))
    .sort((one, other) => way * compare(one.key, other.key) || compare(one.name, other.name))
    .map((each) => each.id);
}

function compare(one: number | string, other: number | string): number {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), "en", { numeric: true });
}

const TONES = ["bad", "warn", "busy", "good", "idle"];

function sortKey(
  by: ColumnId,
  endpoint: EndpointConfig,
  numbers: EndpointNumbers | undefined,
  target: number,
): number | string {
  switch (by) {
    case "status":
      return `${TONES.indexOf(statusOf(endpoint, numbers).tone)} ${statusOf(endpoint, numbers).word}`;
    case "name":
      return `${endpoint.name} ${hostOf(endpoint.base_url)}`;
    case "models":
      return modelCount(endpoint, numbers) ?? -1;
    case "connected":
      return endpoint.connected ? 0 : 1;
    case "enabled":
      return endpoint.enabled ? 0 : 1;
    case "quota":
      return endpoint.token_quota_percent + (target > 0 ? 1e-6 : 0);
    case "rank":
      return endpoint.priority_order;
    case "weight":
      return endpoint.weight;
    case "price":
      return endpoint.price_per_million_output ?? Number.MAX_VALUE;
    case "share":
      return numbers?.share_percent ?? -1;
    case "inflight":
      return numbers?.inflight ?? 0;
    case "tokens":
      return numbers?.tokens_per_second ?? 0;
    case "requests":
      return numbers?.requests_per_second ?? 0;
    case "firstByte":
      return numbers?.ttfb_seconds ?? -1;
    case "failures":
      return numbers?.total_failures ?? 0;
    case "total":
      return (numbers?.prompt_tokens_total ?? 0) + (numbers?.completion_tokens_total ?? 0);
  }
}

/** Null: nobody knows yet. */
export function modelCount(endpoint: EndpointConfig, numbers: EndpointNumbers | undefined): number | null {
  if (endpoint.models.length) return endpoint.models.length;
  return numbers?.discovered_models?.length ?? null;
}
