// What a change did, field by field, in words: for the log of revisions and for an import before it is done.

import type { ChangeView } from "../api/types";
import { labelOf, valueInWords } from "./clash";
import { modeOf } from "./modes";

export interface Difference {
  field: string;
  label: string;
  /** Null: there was none, as the whole is new. */
  before: string | null;
  after: string | null;
}

export type ChangeKind = "added" | "deleted" | "changed";

type Fields = Readonly<Record<string, unknown>>;

const PLACE_FIELDS = ["pos_x", "pos_y"];
/** Of a whole endpoint these stand elsewhere: its name above, its place on the canvas. */
const TOLD_ELSEWHERE = [...PLACE_FIELDS, "name"];

export function kindOf(change: ChangeView): ChangeKind {
  return change.before === null ? "added" : change.after === null ? "deleted" : "changed";
}

/** The fields of one change. Of what was added or deleted, only those that say something. */
export function differences(change: ChangeView): Difference[] {
  const { before, after } = change;
  if (before && after) return changedFields(before, after).map((field) => difference(field, before, after));
  const whole = before ?? after ?? {};
  return Object.keys(whole)
    .filter((field) => !TOLD_ELSEWHERE.includes(field) && !saysNothing(field, whole[field]))
    .map((field) => difference(field, before, after));
}

/** The names of the fields that `after` gives another value than `before`. */
export function changedFields(before: Fields, after: Fields): string[] {
  return Object.keys(after).filter((field) => !same(before[field], after[field]));
}

/** As `differences`, of a part of an endpoint's fields; its place on the canvas is one of them. */
export function differencesBetween(before: Fields, after: Fields): Difference[] {
  const fields = changedFields(before, after);
  const moved = fields.some((field) => PLACE_FIELDS.includes(field));
  const shown = fields.filter((field) => !PLACE_FIELDS.includes(field)).map((each) => difference(each, before, after));
  return moved ? [...shown, { field: "place", label: "Place", before: "as it is", after: "as in the file" }] : shown;
}

function difference(field: string, before: Fields | null, after: Fields | null): Difference {
  return {
    field,
    label: labelOf(field),
    before: before && shownValue(field, before[field]),
    after: after && shownValue(field, after[field]),
  };
}

function shownValue(field: string, value: unknown): string {
  if (field === "routing_mode") return modeOf(String(value)).label;
  if (field === "api_key") return value ? "a key" : "no key";
  return valueInWords(field, value);
}

function saysNothing(field: string, value: unknown): boolean {
  if (field === "discovered" && value === false) return true;
  if (value === null || value === undefined || value === "") return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

function same(one: unknown, other: unknown): boolean {
  return canonical(one) === canonical(other);
}

/** The same text for the same value, whatever the order of its keys. */
function canonical(value: unknown): string {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return JSON.stringify(value ?? null);
  const entries = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
  return JSON.stringify(entries);
}

/** Pages of revisions put together, newest first, each once; what came last wins. */
export function merged<T extends { number: number }>(known: readonly T[], fetched: readonly T[]): T[] {
  const byNumber = new Map([...known, ...fetched].map((each) => [each.number, each]));
  return [...byNumber.values()].sort((one, other) => other.number - one.number);
}

const NAMED_FIELD = /\bendpoints\.(\d+)(?:\.(\w+))?/g;

/** A message of the server that names fields as the API does ("endpoints.1.weight"), in the words of the page. */
export function withNames(message: string, endpoints: readonly { id: number; name: string }[]): string {
  return message
    .replace(NAMED_FIELD, (_, id: string, field: string | undefined) => {
      const name = endpoints.find((each) => each.id === Number(id))?.name ?? `endpoint ${id}`;
      return field ? `${labelOf(field)} of ${name}` : name;
    })
    .replace("routing_mode", "the mode");
}
