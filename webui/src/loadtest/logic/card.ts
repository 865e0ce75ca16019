// A card as people type it, and as the API takes it: both ways, and where what was typed is no number.

import type { Arrivals, Card, Load, LoadKind, Of, Prompt, Stage } from "../types";
import { readStages, stagesText } from "./stages";

export type PromptKind = Prompt["kind"];

/** Everything as text, so that nothing typed is lost. */
export interface CardForm {
  /** Of this card on this page. */
  uid: string;
  name: string;
  url: string;
  /** Of a key that the server holds; empty: none. */
  keyId: string;
  model: string;
  system_prompt: string;
  promptKind: PromptKind;
  text: string;
  lengths: string;
  set: string;
  loadKind: LoadKind;
  concurrency: string;
  rate: string;
  max_in_flight: string;
  batch: string;
  delay_ms: string;
  of: Of;
  arrivals: Arrivals;
  start: string;
  end: string;
  seconds: string;
  stages: string;
  most: string;
  steps: string;
  step_seconds: string;
  stopSeconds: string;
  stopRequests: string;
  stopErrors: string;
  stopTokens: string;
  warmup_seconds: string;
  drain_seconds: string;
  timeout_seconds: string;
  max_tokens: string;
  temperature: string;
  priority: string;
  stream: boolean;
  include_usage: boolean;
  ignore_eos: boolean;
  verify_tls: boolean;
  unique_prefix: boolean;
  shared_prefix_tokens: string;
  shared_prefix_groups: string;
  seed: string;
  slo: { name: string; limit: string }[];
}

/** Problems by the API's way to the field, within the card: "load.rate". */
export type Problems = Readonly<Record<string, string>>;

/** What the fields of other kinds of load begin with. */
const LOAD_FIELDS = {
  concurrency: "8",
  rate: "5",
  max_in_flight: "",
  batch: "1",
  delay_ms: "1000",
  of: "concurrency" as Of,
  arrivals: "constant" as Arrivals,
  start: "1",
  end: "16",
  seconds: "30",
  stages: "30s@0-20, 60s@20",
  most: "256",
  steps: "8",
  step_seconds: "15",
};

export function formOf(card: Card, uid: string, keyId = ""): CardForm {
  const { prompt, load, stop } = card;
  return {
    uid,
    keyId,
    name: card.name,
    url: card.url,
    model: card.model,
    system_prompt: card.system_prompt,
    promptKind: prompt.kind,
    text: prompt.kind === "fixed" ? prompt.text : "Say hello in one short sentence.",
    lengths: prompt.kind === "synthetic" ? prompt.lengths : "D(100,100)",
    set: prompt.kind === "set" ? prompt.set : "",
    loadKind: load.kind,
    ...LOAD_FIELDS,
    ...loadFields(load),
    stopSeconds: orEmpty(stop.seconds),
    stopRequests: orEmpty(stop.requests),
    stopErrors: orEmpty(stop.errors),
    stopTokens: orEmpty(stop.tokens),
    warmup_seconds: String(card.warmup_seconds),
    drain_seconds: String(card.drain_seconds),
    timeout_seconds: String(card.timeout_seconds),
    max_tokens: orEmpty(card.max_tokens),
    temperature: card.temperature === null ? "" : String(card.temperature),
    priority: card.priority === null ? "" : String(card.priority),
    stream: card.stream,
    include_usage: card.include_usage,
    ignore_eos: card.ignore_eos,
    verify_tls: card.verify_tls,
    unique_prefix: card.unique_prefix,
    shared_prefix_tokens: orEmpty(card.shared_prefix_tokens),
    shared_prefix_groups: String(card.shared_prefix_groups),
    seed: String(card.seed),
    slo: Object.entries(card.slo).map(([name, limit]) => ({ name, limit: String(limit) })),
  };
}

function loadFields(load: Load): Partial<CardForm> {
  if (load.kind === "stages") {
    const { of, arrivals, max_in_flight } = load;
    return { of, arrivals, max_in_flight: orEmpty(max_in_flight), stages: stagesText(load.stages) };
  }
  const fields = Object.entries(load).filter(([name]) => name !== "kind");
  const text = (name: string, value: unknown) => (name === "max_in_flight" ? orEmpty(Number(value)) : String(value));
  return Object.fromEntries(fields.map(([name, value]) => [name, text(name, value)]));
}

/** 0 means "no limit" or "not sent": an empty field says it better. */
function orEmpty(value: number): string {
  return value === 0 ? "" : String(value);
}

export interface ReadCard {
  card: Card;
  problems: Problems;
}

/** The card of a form; whatever is no number is told, and sent as 0. */
export function cardOf(form: CardForm): ReadCard {
  const problems: Record<string, string> = {};
  const number = (field: string, text: string, empty: number | null = 0): number => {
    const typed = text.trim().replace(",", ".");
    if (!typed && empty !== null) return empty;
    const value = Number(typed);
    if (!typed || !Number.isFinite(value)) {
      problems[field] = typed ? "expected a number" : "needs a number";
      return 0;
    }
    return value;
  };
  const optional = (field: string, text: string) => (text.trim() ? number(field, text) : null);
  const card: Card = {
    name: form.name.trim(),
    url: form.url.trim(),
    model: form.model.trim(),
    system_prompt: form.system_prompt,
    prompt: promptOf(form),
    load: loadOf(form, number, problems),
    stop: {
      seconds: number("stop.seconds", form.stopSeconds),
      requests: number("stop.requests", form.stopRequests),
      errors: number("stop.errors", form.stopErrors),
      tokens: number("stop.tokens", form.stopTokens),
    },
    warmup_seconds: number("warmup_seconds", form.warmup_seconds),
    drain_seconds: number("drain_seconds", form.drain_seconds),
    timeout_seconds: number("timeout_seconds", form.timeout_seconds, null),
    max_tokens: number("max_tokens", form.max_tokens),
    temperature: optional("temperature", form.temperature),
    priority: optional("priority", form.priority),
    stream: form.stream,
    include_usage: form.include_usage,
    ignore_eos: form.ignore_eos,
    verify_tls: form.verify_tls,
    unique_prefix: form.unique_prefix,
    shared_prefix_tokens: number("shared_prefix_tokens", form.shared_prefix_tokens),
    shared_prefix_groups: number("shared_prefix_groups", form.shared_prefix_groups, 1),
    seed: number("seed", form.seed, 1),
    slo: sloOf(form, problems),
  };
  return { card, problems };
}

function promptOf(form: CardForm): Prompt {
  if (form.promptKind === "synthetic") return { kind: "synthetic", lengths: form.lengths.trim() };
  if (form.promptKind === "set") return { kind: "set", set: form.set };
  return { kind: "fixed", text: form.text };
}

type ReadNumber = (field: string, text: string, empty?: number | null) => number;

function loadOf(form: CardForm, number: ReadNumber, problems: Record<string, string>): Load {
  const of = (name: keyof typeof LOAD_FIELDS) => number(`load.${name}`, form[name], null);
  const max_in_flight = number("load.max_in_flight", form.max_in_flight);
  switch (form.loadKind) {
    case "closed":
      return { kind: "closed", concurrency: of("concurrency") };
    case "batch":
      return { kind: "batch", batch: of("batch"), delay_ms: of("delay_ms"), max_in_flight };
    case "ramp":
      return {
        kind: "ramp",
        of: form.of,
        start: of("start"),
        end: of("end"),
        seconds: of("seconds"),
        arrivals: form.arrivals,
        max_in_flight,
      };
    case "stages": {
      let stages: Stage[] = [];
      try {
        stages = readStages(form.stages);
      } catch (error) {
        problems["load.stages"] = error instanceof Error ? error.message : String(error);
      }
      return { kind: "stages", of: form.of, stages, arrivals: form.arrivals, max_in_flight };
    }
    case "sweep":
      return {
        kind: "sweep",
        of: form.of,
        most: of("most"),
        steps: of("steps"),
        step_seconds: of("step_seconds"),
        arrivals: form.arrivals,
      };
    default:
      return { kind: form.loadKind, rate: of("rate"), max_in_flight };
  }
}

function sloOf(form: CardForm, problems: Record<string, string>): Record<string, string> {
  const slo: Record<string, string> = {};
  for (const { name, limit } of form.slo) {
    const [key, value] = [name.trim(), limit.trim()];
    if (!key && !value) continue;
    if (!key || !value) problems.slo = "each objective needs a figure and a limit";
    else if (key in slo) problems.slo = `${key} is there twice`;
    else slo[key] = value;
  }
  return slo;
}

/** A problem of a field, or of anything inside of it; "load" itself is not asked for by the fields of the load. */
export function problemAt(problems: Problems, field: string): string | undefined {
  const exact = problems[field];
  if (exact !== undefined) return exact;
  const inside = Object.entries(problems).find(([name]) => name.startsWith(`${field}.`));
  return inside && `${inside[0].slice(field.length + 1)}: ${inside[1]}`;
}

/** Which card a problem of the API is about, and where in it: "cards.1.load.rate" -> [1, "load.rate"]. */
export function placeOf(field: string): [place: number, within: string] | null {
  const [first, ...rest] = field.split(".");
  if (first === "card" || first === "changes") return [0, rest.join(".")];
  if (first !== "cards" || !/^\d+$/.test(rest[0] ?? "")) return null;
  return [Number(rest[0]), rest.slice(1).join(".")];
}

const CHANGEABLE = [
  "load",
  "stop",
  "slo",
  "max_tokens",
  "temperature",
  "priority",
  "stream",
  "prompt",
  "system_prompt",
] as const;

/** What of a card under way was changed, as the API takes it. */
export function changesOf(before: Card, after: Card): Partial<Card> {
  const changed = CHANGEABLE.filter((name) => stable(before[name]) !== stable(after[name]));
  return Object.fromEntries(changed.map((name) => [name, after[name]]));
}

function stable(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value ?? null);
  if (Array.isArray(value)) return `[${value.map(stable)}]`;
  const entries = Object.entries(value).filter(([, each]) => each !== undefined && each !== null);
  return `{${entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, each]) => `${name}:${stable(each)}`)}}`;
}
