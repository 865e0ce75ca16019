import { describe, expect, test } from "vitest";
import { applied } from "../src/logic/acts";
import {
  byRank,
  moved,
  proportional,
  quotaSum,
  ranked,
  rescale,
  targets,
  withBorder,
  withQuota,
} from "../src/logic/shares";
import { receivers, type Structure } from "../src/logic/structure";
import { endpoint, generator, quotas, structure } from "./made";

const ROUNDS = 120;
const sumOf = (parts: readonly number[]) => parts.reduce((total, each) => total + each, 0);
const after = (before: Structure, updates: ReturnType<typeof rescale>) => applied({ kind: "change", updates }, before);
const quotasOf = (of: Structure) => of.endpoints.map((each) => each.token_quota_percent);

/** Some endpoints, of which some serve, with quotas of every kind. */
function anyStructure(seed: number) {
  const random = generator(seed);
  const endpoints = Array.from({ length: random.whole(1, 60) }, (_, place) =>
    endpoint(place + 1, {
      connected: random.next() < 0.8,
      enabled: random.next() < 0.9,
      token_quota_percent: random.pick([0, 0, 100, 33.333, random.whole(0, 100), random.next() * 100]),
      priority_order: random.whole(1, 5),
    }),
  );
  return { random, made: structure(endpoints) };
}

describe("proportional", () => {
  test.each([
    [[], []],
    [[7], [100]],
    [[0], [100]],
    [
      [1, 1, 1],
      [34, 33, 33],
    ],
    [
      [0, 0, 0],
      [34, 33, 33],
    ],
    [
      [50, 50],
      [50, 50],
    ],
    [
      [0, 3],
      [0, 100],
    ],
    [
      [60, 60, 30],
      [40, 40, 20],
    ],
  ])("%j becomes %j", (parts, wanted) => {
    expect(proportional(parts)).toEqual(wanted);
  });

  test("keeps the sum exactly, with whole parts, in order of size", () => {
    const random = generator(7);
    for (let round = 0; round < ROUNDS; round += 1) {
      const parts = Array.from({ length: random.whole(1, 60) }, () =>
        random.next() < 0.2 ? 0 : random.next() * 10 ** random.whole(-3, 4),
      );
      const whole = random.pick([100, 100, 0, 1, random.whole(0, 100)]);
      const found = proportional(parts, whole);
      expect(sumOf(found)).toBe(whole);
      expect(found.every((each) => Number.isInteger(each) && each >= 0)).toBe(true);
      for (const [place, part] of parts.entries()) {
        const exact = sumOf(parts) > 0 ? (whole * part) / sumOf(parts) : whole / parts.length;
        expect(Math.abs((found[place] ?? 0) - exact)).toBeLessThan(1 + 1e-9);
      }
    }
  });
});

describe("quotas", () => {
  test("only receivers count", () => {
    const made = structure([
      endpoint(1, { token_quota_percent: 60 }),
      endpoint(2, { token_quota_percent: 30, enabled: false }),
      endpoint(3, { token_quota_percent: 10, connected: false }),
    ]);
    expect(quotaSum(made)).toBe(60);
    expect([...targets(made)]).toEqual([[1, 100]]);
    expect(rescale(made)).toEqual([{ id: 1, fields: { token_quota_percent: 100 } }]);
  });

  test("targets are parts of what serves; equal where all are zero", () => {
    expect([...targets(quotas(30, 30)).values()]).toEqual([50, 50]);
    expect([...targets(quotas(0, 0, 0, 0)).values()]).toEqual([25, 25, 25, 25]);
    expect(targets(structure()).size).toBe(0);
  });

  test("sums of tenths are sums of tenths", () => {
    expect(quotaSum(quotas(0.1, 0.2, 99.7))).toBe(100);
  });

  test("rescaling makes 100 of anything and touches receivers only", () => {
    for (let seed = 0; seed < ROUNDS; seed += 1) {
      const { made } = anyStructure(seed);
      const updates = rescale(made);
      const serving = new Set(receivers(made).map((each) => each.id));
      expect(updates.every((each) => serving.has(each.id))).toBe(true);
      if (serving.size) expect(quotaSum(after(made, updates))).toBe(100);
      else expect(updates).toEqual([]);
      expect(rescale(after(made, updates))).toEqual([]);
    }
  });

  test("what sums to 100 in whole numbers is left alone", () => {
    expect(rescale(quotas(50, 30, 20))).toEqual([]);
  });

  test("one quota set: the others share the rest in proportion", () => {
    expect(quotasOf(after(quotas(50, 30, 20), withQuota(quotas(50, 30, 20), 1, 60)))).toEqual([60, 24, 16]);
    expect(quotasOf(after(quotas(100, 0, 0), withQuota(quotas(100, 0, 0), 1, 40)))).toEqual([40, 30, 30]);
  });

  test("a single receiver has everything, whatever is asked", () => {
    expect(withQuota(quotas(40), 1, 10)).toEqual([{ id: 1, fields: { token_quota_percent: 100 } }]);
    expect(withQuota(quotas(100), 1, 10)).toEqual([]);
  });

  test("a quota outside of 0 to 100 is brought in", () => {
    expect(quotasOf(after(quotas(50, 50), withQuota(quotas(50, 50), 1, 250)))).toEqual([100, 0]);
    expect(quotasOf(after(quotas(50, 50), withQuota(quotas(50, 50), 1, -3)))).toEqual([0, 100]);
  });

  test("whatever quota is set, the sum is 100", () => {
    for (let seed = 0; seed < ROUNDS; seed += 1) {
      const { random, made } = anyStructure(seed);
      const serving = receivers(made);
      if (!serving.length) continue;
      const { id } = random.pick(serving);
      const then = after(made, withQuota(made, id, random.next() * 120 - 10));
      expect(quotaSum(then)).toBe(100);
      expect(receivers(then).every((each) => each.token_quota_percent >= 0)).toBe(true);
    }
  });

  test("a border moves only its two neighbours and keeps the sum of both", () => {
    for (let seed = 0; seed < ROUNDS; seed += 1) {
      const { random, made } = anyStructure(seed);
      const serving = receivers(made);
      if (serving.length < 2) continue;
      const place = random.whole(0, serving.length - 2);
      const [left, right] = [serving[place], serving[place + 1]];
      if (!left || !right) continue;
      const updates = withBorder(made, left.id, right.id, random.next() * 140 - 20);
      expect(updates.every((each) => [left.id, right.id].includes(each.id))).toBe(true);
      const then = after(made, updates);
      expect(quotaSum(then)).toBeCloseTo(quotaSum(made), 2);
      expect(receivers(then).every((each) => each.token_quota_percent >= 0)).toBe(true);
    }
  });

  test("a border stops at the neighbours' ends", () => {
    expect(quotasOf(after(quotas(30, 20, 50), withBorder(quotas(30, 20, 50), 1, 2, 90)))).toEqual([50, 0, 50]);
    expect(quotasOf(after(quotas(30, 20, 50), withBorder(quotas(30, 20, 50), 1, 2, -5)))).toEqual([0, 50, 50]);
    expect(withBorder(quotas(30, 20), 1, 2, 30)).toEqual([]);
    expect(withBorder(quotas(0, 0), 1, 2, 40)).toEqual([]);
  });
});

describe("ranks", () => {
  test("ranks are given in order, only where they differ", () => {
    const made = structure([endpoint(1), endpoint(2), endpoint(3)]);
    expect(ranked(made, [1, 2, 3])).toEqual([]);
    expect(ranked(made, [2, 1, 3])).toEqual([
      { id: 2, fields: { priority_order: 1 } },
      { id: 1, fields: { priority_order: 2 } },
    ]);
    expect(ranked(made, [9, 1])).toEqual([{ id: 1, fields: { priority_order: 2 } }]);
  });

  test("ties are by age", () => {
    const tied = [endpoint(3, { priority_order: 1 }), endpoint(1, { priority_order: 1 }), endpoint(2)];
    expect(byRank(structure(tied))).toEqual([1, 3, 2]);
  });

  test("one place up or down, never over an end", () => {
    expect(moved([1, 2, 3], 2, -1)).toEqual([2, 1, 3]);
    expect(moved([1, 2, 3], 2, 1)).toEqual([1, 3, 2]);
    expect(moved([1, 2, 3], 1, -1)).toEqual([1, 2, 3]);
    expect(moved([1, 2, 3], 3, 1)).toEqual([1, 2, 3]);
    expect(moved([1, 2, 3], 9, 1)).toEqual([1, 2, 3]);
    expect(moved([], 1, 1)).toEqual([]);
  });

  test("a new order is the order that is seen then", () => {
    for (let seed = 0; seed < ROUNDS; seed += 1) {
      const { random, made } = anyStructure(seed);
      const order = byRank(made);
      const wanted = moved(order, random.pick(order), random.pick([-1, 1] as const));
      expect(byRank(after(made, ranked(made, wanted)))).toEqual(wanted);
    }
  });
});
