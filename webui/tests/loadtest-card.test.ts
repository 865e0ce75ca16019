// Cards as people type them and as the API takes them; where its problems belong.

import { describe, expect, test } from "vitest";
import { type CardForm, cardOf, changesOf, formOf, placeOf, problemAt } from "../src/loadtest/logic/card";
import { readStages, stagesText } from "../src/loadtest/logic/stages";
import type { Card, Load } from "../src/loadtest/types";

export const CARD: Card = {
  name: "Direct",
  url: "http://127.0.0.1:9001/v1",
  model: "m",
  system_prompt: "",
  prompt: { kind: "fixed", text: "Hello" },
  load: { kind: "closed", concurrency: 8 },
  stop: { seconds: 60, requests: 0, errors: 0, tokens: 0 },
  warmup_seconds: 0,
  drain_seconds: 30,
  timeout_seconds: 120,
  max_tokens: 60,
  temperature: null,
  priority: 0,
  stream: true,
  include_usage: true,
  ignore_eos: false,
  verify_tls: true,
  unique_prefix: true,
  shared_prefix_tokens: 0,
  shared_prefix_groups: 1,
  seed: 1,
  slo: { ttft_p95: "500ms" },
};

const LOADS: Load[] = [
  { kind: "closed", concurrency: 3 },
  { kind: "constant", rate: 2.5, max_in_flight: 0 },
  { kind: "poisson", rate: 20, max_in_flight: 50 },
  { kind: "batch", batch: 5, delay_ms: 1000, max_in_flight: 0 },
  { kind: "ramp", of: "rate", start: 1, end: 50, seconds: 30, arrivals: "poisson", max_in_flight: 0 },
  { kind: "stages", of: "rate", stages: [{ seconds: 30, start: 0, end: 20 }], arrivals: "constant", max_in_flight: 0 },
  { kind: "sweep", of: "concurrency", most: 64, steps: 8, step_seconds: 2, arrivals: "constant" },
];

const form = (changes: Partial<CardForm> = {}) => ({ ...formOf(CARD, "c1"), ...changes });

describe("a card and its form", () => {
  test.each(LOADS.map((load) => [load.kind, load] as const))("%s is the same both ways", (_, load) => {
    const card = { ...CARD, load };
    expect(cardOf(formOf(card, "c1"))).toEqual({ card, problems: {} });
  });

  test("prompts of every kind are the same both ways", () => {
    for (const prompt of [
      { kind: "fixed", text: "Why?" },
      { kind: "synthetic", lengths: "D(100,1000)" },
      { kind: "set", set: "abc" },
    ] as const) {
      expect(cardOf(formOf({ ...CARD, prompt }, "c1")).card.prompt).toEqual(prompt);
    }
  });

  test("what is empty is no limit, or is not sent", () => {
    const { card, problems } = cardOf(form({ stopSeconds: " ", max_tokens: "", temperature: "", priority: "" }));
    expect(problems).toEqual({});
    expect([card.stop.seconds, card.max_tokens, card.temperature, card.priority]).toEqual([0, 0, null, null]);
    expect(cardOf(form({ temperature: "0" })).card.temperature).toBe(0);
  });

  test("no key is part of a card", () => {
    expect(JSON.stringify(cardOf(form({ keyId: "k-secret" })).card)).not.toContain("k-secret");
  });

  test("what is no number is told at its field", () => {
    const found = cardOf(form({ concurrency: "many", stopSeconds: "1e999", seed: "x", timeout_seconds: "" }));
    expect(found.problems).toEqual({
      "load.concurrency": "expected a number",
      "stop.seconds": "expected a number",
      seed: "expected a number",
      timeout_seconds: "needs a number",
    });
  });

  test("fields of another kind of load do not matter", () => {
    expect(cardOf(form({ rate: "nonsense" })).problems).toEqual({});
    expect(cardOf(form({ loadKind: "poisson", rate: "nonsense" })).problems).toEqual({
      "load.rate": "expected a number",
    });
  });

  test("objectives: empty rows are left out, half ones and doubles are told", () => {
    const slo = (...rows: [string, string][]) => cardOf(form({ slo: rows.map(([name, limit]) => ({ name, limit })) }));
    expect(slo(["", ""], ["ttft_p95", "500ms"]).card.slo).toEqual({ ttft_p95: "500ms" });
    expect(slo(["ttft_p95", ""]).problems.slo).toMatch(/a figure and a limit/);
    expect(slo(["ttft_p95", "1s"], ["ttft_p95", "2s"]).problems.slo).toMatch(/twice/);
  });
});

describe("stages as text", () => {
  test("both ways", () => {
    const stages = readStages("30s@0-20, 2m@20");
    expect(stages).toEqual([
      { seconds: 30, start: 0, end: 20 },
      { seconds: 120, end: 20 },
    ]);
    expect(readStages(stagesText(stages))).toEqual(stages);
  });

  test.each(["", "fast", "30s", "@20", "30s@-5"])("%j is told", (text) => {
    expect(() => readStages(text)).toThrow(/30s@0-20/);
  });
});

describe("problems of the API", () => {
  test("lead to their card and field", () => {
    expect(placeOf("cards.1.load.rate")).toEqual([1, "load.rate"]);
    expect(placeOf("card.url")).toEqual([0, "url"]);
    expect(placeOf("cards.0")).toEqual([0, ""]);
    expect(placeOf("paired")).toBeNull();
    expect(placeOf("cards")).toBeNull();
  });

  test("inside of a field they say where", () => {
    expect(problemAt({ "load.stages.0.end": "too much" }, "load.stages")).toBe("0.end: too much");
    expect(problemAt({ url: "no URL" }, "url")).toBe("no URL");
    expect(problemAt({ "load.rate": "no" }, "load.max_in_flight")).toBeUndefined();
  });
});

test("only what changed is changed while it runs, whatever the order of its fields", () => {
  const load: Load = { kind: "constant", rate: 5, max_in_flight: 0 };
  const same: Load = { max_in_flight: 0, rate: 5, kind: "constant" } as Load;
  const before = { ...CARD, load };
  expect(changesOf(before, { ...before, load: same, seed: 7 })).toEqual({});
  expect(changesOf(before, { ...before, load: { ...load, rate: 9 }, max_tokens: 5 })).toEqual({
    load: { ...load, rate: 9 },
    max_tokens: 5,
  });
});
