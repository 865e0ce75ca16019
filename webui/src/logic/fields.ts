// The fields of an endpoint as text in a form: how a value is written, how what was typed is read, and what is wrong
// with it in words. The server decides in the end; here only what it could not make sense of is refused.

import type { FieldProblem } from "../api/client";
import type { Changes, Update } from "./acts";
import type { EndpointConfig } from "./structure";

export type FieldName =
  | "name"
  | "base_url"
  | "timeout"
  | "token_quota_percent"
  | "priority_order"
  | "max_concurrent"
  | "weight"
  | "models"
  | "model_aliases"
  | "price_per_million_input"
  | "price_per_million_output"
  | "tags";
export type SwitchName = "enabled" | "connected" | "verify_tls" | "include_usage" | "health_check";

export type Reading = { value: unknown } | { problem: string };

interface NumberRule {
  least: number;
  most: number;
  whole?: boolean;
  /** Empty stands for null: not known. */
  nullable?: boolean;
  /** Something, however little: zero is refused. */
  positive?: boolean;
}

const NUMBERS: Partial<Record<FieldName, NumberRule>> = {
  timeout: { least: 5, most: 600 },
  token_quota_percent: { least: 0, most: 100 },
  priority_order: { least: 1, most: 100, whole: true },
  max_concurrent: { least: 0, most: 10_000, whole: true },
  weight: { least: 0, most: 1000, positive: true },
  price_per_million_input: { least: 0, most: 1_000_000, nullable: true },
  price_per_million_output: { least: 0, most: 1_000_000, nullable: true },
};

/** Between the halves of an alias and between aliases: names cannot hold either. */
const HALVES = "\t";
const LINES = "\n";

export type AliasRow = readonly [asked: string, sent: string];

/** How a value stands in its field. */
export function textOf(field: FieldName, value: unknown): string {
  if (value === null || value === undefined) return "";
  if (field === "models") return (value as string[]).join("\n");
  if (field === "tags") return (value as string[]).join(", ");
  if (field === "model_aliases") return textOfRows(Object.entries(value as Record<string, string>));
  return String(value);
}

/** What was typed, as a value for the server; or what is wrong with it. */
export function readField(field: FieldName, text: string): Reading {
  const rule = NUMBERS[field];
  if (rule) return readNumber(text, rule);
  if (field === "models") return { value: distinct(text.split(/[\n,]/)) };
  if (field === "tags") return { value: distinct(text.split(",")) };
  if (field === "model_aliases") return readRows(rowsOf(text));
  if (!text.trim()) return { problem: "must not be empty" };
  return { value: text.trim() };
}

function readNumber(text: string, rule: NumberRule): Reading {
  const typed = text.trim().replace(/\s*%$/, "").replace(",", ".");
  if (!typed) return rule.nullable ? { value: null } : { problem: `must be ${range(rule)}` };
  const value = /^[+-]?(\d+\.?\d*|\.\d+)(e\d+)?$/i.test(typed) ? Number(typed) : Number.NaN;
  const fits =
    Number.isFinite(value) &&
    value >= rule.least &&
    value <= rule.most &&
    !(rule.whole && !Number.isInteger(value)) &&
    !(rule.positive && value === 0);
  return fits ? { value } : { problem: `must be ${range(rule)}` };
}

function range(rule: NumberRule): string {
  const what = rule.whole ? "a whole number" : "a number";
  if (rule.positive) return `${what} above 0, at most ${rule.most.toLocaleString("en")}`;
  return `${what} from ${rule.least} to ${rule.most.toLocaleString("en")}${rule.nullable ? ", or empty" : ""}`;
}

function distinct(parts: readonly string[]): string[] {
  return [...new Set(parts.map((each) => each.trim()).filter(Boolean))];
}

/** The rows of aliases as they are being edited; half-filled ones too. */
export function rowsOf(text: string): AliasRow[] {
  return text.split(LINES).flatMap((line): AliasRow[] => {
    if (!line) return [];
    const [asked = "", sent = ""] = line.split(HALVES);
    return [[asked, sent]];
  });
}

export function textOfRows(rows: readonly AliasRow[]): string {
  return rows.map((row) => row.join(HALVES)).join(LINES);
}

function readRows(rows: readonly AliasRow[]): Reading {
  const aliases: Record<string, string> = {};
  for (const [first, second] of rows) {
    const [asked, sent] = [first.trim(), second.trim()];
    if (!asked && !sent) continue;
    if (!asked) return { problem: `needs the name that is asked for, beside "${sent}"` };
    if (!sent) return { problem: `needs the name that is sent on for "${asked}"` };
    if (Object.hasOwn(aliases, asked)) return { problem: `has "${asked}" twice` };
    aliases[asked] = sent;
  }
  return { value: aliases };
}

/** Whether two values of a field are the same; the order of aliases means nothing. */
export function sameValue(one: unknown, other: unknown): boolean {
  return JSON.stringify(ordered(one)) === JSON.stringify(ordered(other));
}

function ordered(value: unknown): unknown {
  if (!value || typeof value !== "object" || Array.isArray(value)) return value ?? null;
  return Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
}

/** What several endpoints have in common in a field. */
export type Common = { same: true; value: unknown } | { same: false };

export function commonValue(endpoints: readonly EndpointConfig[], field: FieldName | SwitchName): Common {
  const [first, ...rest] = endpoints;
  const value = first?.[field];
  return rest.every((each) => sameValue(each[field], value)) ? { same: true, value } : { same: false };
}

/** The same values for all of them, as one change. */
export function sameForAll(ids: readonly number[], fields: Changes): Update[] {
  return ids.map((id) => ({ id, fields }));
}

/** What the server says of this field; undefined: nothing. Parts of it ("models.3") are named. */
export function problemOfField(field: string, problems: readonly FieldProblem[]): string | undefined {
  const own = problems.filter((each) => each.field === field || each.field.startsWith(`${field}.`));
  if (!own.length) return undefined;
  return [...new Set(own.map((each) => `${partOf(field, each.field)}${each.message}`))].join("; ");
}

function partOf(field: string, path: string): string {
  const part = path.slice(field.length + 1).replace(/\.\[key\]$/, "");
  if (!part) return "";
  return /^\d+$/.test(part) ? `entry ${Number(part) + 1} ` : `${part}: `;
}
