import { describe, expect, test } from "vitest";
import type { EndpointNumbers } from "../src/api/types";
import type { EndpointConfig, Structure } from "../src/logic/structure";
import { columnsOf, nextSorting, passes, sortedIds } from "../src/logic/table";

const endpoint = (id: number, more: Partial<EndpointConfig> = {}): EndpointConfig =>
  ({
    id,
    name: `gpu-${id}`,
    base_url: `http://host-${id}:8000/v1`,
    connected: true,
    enabled: true,
    token_quota_percent: 10 * id,
    priority_order: id,
    weight: 1,
    models: [],
    tags: [],
    max_concurrent: 0,
    ...more,
  }) as EndpointConfig;
const live = (more: Partial<EndpointNumbers>): EndpointNumbers =>
  ({ eligible: true, inflight: 0, requests_per_second: 0, health: { reason: null }, ...more }) as EndpointNumbers;
const structure = (...endpoints: EndpointConfig[]): Structure => ({
  revision: 1,
  mode: "percentage",
  endpoints,
  incoming: { x: 0, y: 0 },
  clients: [],
  open: true,
});

describe("columns", () => {
  const ids = (mode: string) => columnsOf(mode).map((each) => each.id);
  test.each([
    ["percentage", "quota"],
    ["priority", "rank"],
    ["weighted", "weight"],
    ["least_loaded", "weight"],
    ["cost", "price"],
  ])("%s shows %s, and of the steering ones nothing else", (mode, own) => {
    expect(ids(mode).filter((id) => ["quota", "rank", "weight", "price"].includes(id))).toEqual([own]);
  });
  test("modes without a field show none", () => {
    expect(ids("random").filter((id) => ["quota", "rank", "weight", "price"].includes(id))).toEqual([]);
  });
});

describe("the filter", () => {
  const one = endpoint(1, { name: "Big box", tags: ["h100"], models: ["llama"] });
  test.each(["", "  ", "big", "BOX host-1", "h100 llama", "connected"])("%j lets it through", (text) => {
    expect(passes(text, { ...one, connected: false }, undefined)).toBe(true);
  });
  test.each(["bigger", "big gpu-9"])("%j does not", (text) => expect(passes(text, one, undefined)).toBe(false));
  test("looks at the models that were found", () => {
    expect(passes("qwen", one, live({ discovered_models: ["qwen3"] }))).toBe(true);
  });
});

describe("the order", () => {
  const all = structure(endpoint(1, { name: "gpu-10" }), endpoint(2), endpoint(3, { connected: false }));
  const numbers = new Map([
    [1, live({ tokens_per_second: 5 })],
    [2, live({ tokens_per_second: 50 })],
  ]);

  test("of age at first", () => expect(sortedIds(all, numbers, null)).toEqual([1, 2, 3]));
  test("of names counts digits as numbers", () => {
    expect(sortedIds(all, numbers, { by: "name", descending: false })).toEqual([2, 3, 1]);
  });
  test("of figures, those without any last", () => {
    expect(sortedIds(all, numbers, { by: "tokens", descending: true })).toEqual([2, 1, 3]);
  });
  test("of equal ones goes by name, whichever way", () => {
    expect(sortedIds(all, numbers, { by: "weight", descending: true })).toEqual([2, 3, 1]);
    expect(sortedIds(all, numbers, { by: "weight", descending: false })).toEqual([2, 3, 1]);
  });
  test("of states: trouble first", () => {
    const down = new Map([...numbers, [2, live({ eligible: false, reason: "unhealthy" })]]);
    expect(sortedIds(all, down, { by: "status", descending: false })[0]).toBe(2);
  });
  test("a header asks for the greatest first, then the other way", () => {
    const tokens = columnsOf("percentage").find((each) => each.id === "tokens");
    const rank = columnsOf("priority").find((each) => each.id === "rank");
    if (!tokens || !rank) throw new Error("columns are missing");
    const first = nextSorting(null, tokens);
    expect(first).toEqual({ by: "tokens", descending: true });
    expect(nextSorting(first, tokens).descending).toBe(false);
    expect(nextSorting(first, rank)).toEqual({ by: "rank", descending: false });
  });
});
