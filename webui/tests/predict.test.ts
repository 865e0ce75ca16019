import { describe, expect, test } from "vitest";
import type { EndpointView } from "../src/api/types";
import { applied, connect } from "../src/logic/acts";
import { predict } from "../src/logic/predict";
import { endpoint, generator, numbersFor, state, structure } from "./made";

/** Serves so many tokens a second with a place taken 10 ms per token: 100 tok/s for each place. */
function busy(id: number, tokensPerSecond: number, given: Partial<EndpointView> = {}): EndpointView {
  return endpoint(id, {
    tokens_per_second: tokensPerSecond,
    requests_per_second: tokensPerSecond / 100,
    avg_latency_ms: 1000,
    share_percent: 0,
    ...given,
  });
}

function split(endpoints: EndpointView[], mode: string) {
  const found = predict(structure(endpoints, { routing_mode: mode }), numbersFor(endpoints));
  return { ...found, rounded: Object.fromEntries([...found.shares].map(([id, share]) => [id, Math.round(share)])) };
}

describe("percentage", () => {
  test("by quota, whether there is traffic or not", () => {
    const quiet = [endpoint(1, { token_quota_percent: 60 }), endpoint(2, { token_quota_percent: 20 })];
    expect(split(quiet, "percentage")).toMatchObject({ rounded: { 1: 75, 2: 25 }, basis: "settings", warnings: [] });
    const traffic = [busy(1, 300, { token_quota_percent: 60 }), busy(2, 100, { token_quota_percent: 40 })];
    expect(split(traffic, "percentage")).toMatchObject({ rounded: { 1: 60, 2: 40 }, basis: "traffic" });
  });

  test("what one has no room for goes to the others, with a word", () => {
    const found = split(
      [
        busy(1, 300, { token_quota_percent: 80, max_concurrent: 1 }),
        busy(2, 100, { token_quota_percent: 15 }),
        busy(3, 0, { token_quota_percent: 5 }),
      ],
      "percentage",
    );
    expect(found.rounded).toEqual({ 1: 25, 2: 56, 3: 19 });
    expect(found.overflowing).toEqual([1]);
    expect(found.warnings).toEqual(["gpu-1 would be full and overflow to the others."]);
  });

  test("a quota of zero is the reserve", () => {
    const some = [busy(1, 100, { token_quota_percent: 100 }), busy(2, 0)];
    expect(split(some, "percentage").rounded).toEqual({ 1: 100, 2: 0 });
    const full = [busy(1, 400, { token_quota_percent: 100, max_concurrent: 1 }), busy(2, 0)];
    expect(split(full, "percentage").rounded).toEqual({ 1: 25, 2: 75 });
  });

  test("all zero: equal parts", () => {
    expect(split([endpoint(1), endpoint(2)], "percentage").rounded).toEqual({ 1: 50, 2: 50 });
  });

  test("an endpoint that is down gets nothing and is shown so", () => {
    const down = { eligible: false, reason: "unhealthy" };
    const found = split(
      [busy(1, 100, { token_quota_percent: 50 }), busy(2, 0, { token_quota_percent: 50, ...down })],
      "percentage",
    );
    expect(found.rounded).toEqual({ 1: 100, 2: 0 });
  });

  test("one that is full or cooling now counts: it is so because of the present split", () => {
    for (const reason of ["full", "throttled", "cooling down"]) {
      const other = busy(2, 0, { token_quota_percent: 50, eligible: false, reason });
      expect(split([busy(1, 100, { token_quota_percent: 50 }), other], "percentage").rounded).toEqual({ 1: 50, 2: 50 });
    }
  });
});

describe("priority", () => {
  test("the first takes all while it has room", () => {
    expect(split([busy(1, 100), busy(2, 50)], "priority").rounded).toEqual({ 1: 100, 2: 0 });
  });

  test("then it overflows to the next, in order of rank", () => {
    const found = split(
      [
        busy(1, 250, { priority_order: 2, max_concurrent: 1 }),
        busy(2, 250, { priority_order: 1, max_concurrent: 3 }),
        busy(3, 0, { priority_order: 3 }),
      ],
      "priority",
    );
    expect(found.rounded).toEqual({ 1: 20, 2: 60, 3: 20 });
    expect(found.overflowing.sort()).toEqual([1, 2]);
  });

  test("what nobody has room for is refused, and said", () => {
    const found = split([busy(1, 300, { max_concurrent: 1 }), busy(2, 100, { max_concurrent: 1 })], "priority");
    expect(found.refusedPercent).toBeCloseTo(50);
    expect(found.warnings).toEqual(["About 50 % of the traffic finds no room: it waits or gets 429."]);
    expect(found.rounded).toEqual({ 1: 50, 2: 50 });
  });

  test("without traffic caps do not bind", () => {
    const found = split([endpoint(1, { max_concurrent: 1 }), endpoint(2)], "priority");
    expect(found).toMatchObject({ rounded: { 1: 100, 2: 0 }, overflowing: [], warnings: [], basis: "settings" });
  });

  test("cost goes by price; no price is the last", () => {
    const found = split(
      [busy(1, 100), busy(2, 0, { price_per_million_output: 9 }), busy(3, 0, { price_per_million_output: 1 })],
      "cost",
    );
    expect(found.rounded).toEqual({ 1: 0, 2: 0, 3: 100 });
  });
});

describe("the other modes", () => {
  test("weighted goes by weight", () => {
    expect(split([busy(1, 100, { weight: 3 }), busy(2, 100)], "weighted").rounded).toEqual({ 1: 75, 2: 25 });
  });

  test("least loaded goes by weight and speed", () => {
    const slow = busy(2, 100, { avg_latency_ms: 3000 });
    expect(split([busy(1, 100), slow], "least_loaded").rounded).toEqual({ 1: 75, 2: 25 });
  });

  test("latency goes to the quick ones; unknown is average", () => {
    const found = split([busy(1, 100, { ttfb_seconds: 0.1 }), busy(2, 100, { ttfb_seconds: 0.3 })], "latency");
    expect(found.rounded).toEqual({ 1: 75, 2: 25 });
    expect(split([busy(1, 100, { ttfb_seconds: 0.1 }), busy(2, 0)], "latency").rounded).toEqual({ 1: 50, 2: 50 });
  });

  test.each(["round_robin", "random", "one nobody knows"])("%s is even", (mode) => {
    expect(split([busy(1, 100), busy(2, 0)], mode).rounded).toEqual({ 1: 50, 2: 50 });
  });
});

describe("nobody", () => {
  test("no receiver is said in words", () => {
    const off = [endpoint(1, { connected: false }), endpoint(2, { enabled: false })];
    expect(split(off, "percentage").warnings).toEqual(["No endpoint receives traffic: clients get 503."]);
    expect(split(off, "percentage")).toMatchObject({ refusedPercent: 100, rounded: {} });
  });

  test("the last one cut", () => {
    const made = [busy(1, 100)];
    const found = predict(applied(connect([1], false), structure(made)), numbersFor(made));
    expect(found.warnings).toEqual(["No endpoint receives traffic: clients get 503."]);
  });

  test("all down is something else", () => {
    const down = [endpoint(1, { eligible: false, reason: "credentials refused" })];
    expect(split(down, "priority").warnings).toEqual(["None of the connected endpoints can take requests now."]);
  });
});

test("whatever comes, shares are parts of 100 and nobody gets more than there is room for", () => {
  const random = generator(3);
  for (let round = 0; round < 120; round += 1) {
    const endpoints = Array.from({ length: random.whole(1, 30) }, (_, place) =>
      busy(place + 1, random.whole(0, 500), {
        connected: random.next() < 0.8,
        enabled: random.next() < 0.9,
        token_quota_percent: random.pick([0, 50, random.next() * 100]),
        priority_order: random.whole(1, 4),
        weight: random.pick([0.1, 1, 10]),
        max_concurrent: random.pick([0, 0, 1, 4]),
        avg_latency_ms: random.pick([0, 100, 3000]),
        ttfb_seconds: random.pick([null, 0, 0.2]),
        price_per_million_output: random.pick([null, 0, 3]),
        ...random.pick([{}, {}, { eligible: false, reason: "unhealthy" }, { eligible: false, reason: "full" }]),
      }),
    );
    const mode = random.pick(["percentage", "priority", "cost", "weighted", "least_loaded", "latency", "random"]);
    const made = state(endpoints, { routing_mode: mode });
    const found = predict(structure(endpoints, { routing_mode: mode }), numbersFor(endpoints));
    const sum = [...found.shares.values()].reduce((total, each) => total + each, 0);
    expect([...found.shares.values()].every((each) => each >= 0 && each <= 100 + 1e-6)).toBe(true);
    expect(found.refusedPercent).toBeGreaterThanOrEqual(0);
    expect(found.refusedPercent).toBeLessThanOrEqual(100 + 1e-6);
    if (found.shares.size && found.refusedPercent < 99.9) expect(sum).toBeCloseTo(100, 4);
    expect(found.basis).toBe(made.stats.tokens_per_second > 0 ? "traffic" : "settings");
  }
});
