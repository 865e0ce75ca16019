// Two operators changed the same: what each of them wants, in words for the question "mine or theirs?".

import type { Conflict } from "../api/types";
import { type Act, updatesOf } from "./acts";
import { modeOf } from "./modes";

export interface Clash {
  name: string;
  mine: string;
  theirs: string;
}

const FIELD = /^endpoints\.(\d+)(?:\.(.+))?$/;

export function describeClash(name: string, act: Act, conflict: Conflict): Clash {
  return { name: shownName(name, conflict), mine: wanted(name, act), theirs: found(name, conflict) };
}

function shownName(name: string, conflict: Conflict): string {
  if (name === "*") return "The configuration";
  if (name === "routing_mode") return "Mode";
  const match = FIELD.exec(name);
  const id = Number(match?.[1]);
  const endpoint = conflict.state.endpoints.find((each) => each.id === id)?.name ?? `endpoint ${id}`;
  return match?.[2] ? `${endpoint}: ${labelOf(match[2])}` : endpoint;
}

function wanted(name: string, act: Act): string {
  if (act.kind === "mode") return modeOf(act.mode).label;
  if (act.kind === "delete") return "delete it";
  if (act.kind === "restore") return `back to revision ${act.number}`;
  const match = FIELD.exec(name);
  if (!match?.[2]) return "change it";
  const update = updatesOf(act).find((each) => each.id === Number(match[1]));
  const fields = update?.fields as Record<string, unknown> | undefined;
  return valueInWords(match[2], fields?.[match[2]]);
}

function found(name: string, conflict: Conflict): string {
  const change = conflict.changed[name];
  const match = FIELD.exec(name);
  if (!change) return "changed since";
  if (match && !match[2]) return change.after === null ? "was deleted" : "was added";
  return valueInWords(match?.[2] ?? name, change.after);
}

/** A field's value as people say it. */
export function valueInWords(field: string, value: unknown): string {
  if (value === null || value === undefined) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (field === "token_quota_percent") return `${value} %`;
  if (field === "max_concurrent" && value === 0) return "no cap";
  if (field === "api_key") return value ? "another key" : "no key";
  if (Array.isArray(value)) return value.length ? value.join(", ") : "none";
  if (typeof value === "object") {
    const entries = Object.entries(value);
    return entries.length ? entries.map(([one, other]) => `${one} → ${other}`).join(", ") : "none";
  }
  return String(value) || "none";
}

const LABELS: Record<string, string> = {
  name: "Name",
  base_url: "Base URL",
  api_key: "API key",
  timeout: "Timeout",
  verify_tls: "Verify certificate",
  enabled: "Enabled",
  connected: "Connected",
  token_quota_percent: "Token quota",
  priority_order: "Rank",
  max_concurrent: "Most at once",
  weight: "Weight",
  models: "Models",
  model_aliases: "Aliases",
  include_usage: "Ask for usage",
  price_per_million_input: "Price per million, input",
  price_per_million_output: "Price per million, output",
  tags: "Tags",
  health_check: "Health checks",
  routing_mode: "Mode",
  discovered: "Discovered",
};

export function labelOf(field: string): string {
  return LABELS[field] ?? field;
}
