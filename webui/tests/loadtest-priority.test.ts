import { describe, expect, test } from "vitest";
import { type Prioritised, priorityCheck } from "../src/loadtest/logic/priority";

const card = (priority: number | null, p50: number | null): Prioritised => ({
  card: { priority },
  summary: { latencies: { e2e: { p50 } } },
});

describe("the check of priorities", () => {
  test("needs two of them, with answers", () => {
    expect(priorityCheck([])).toBe(null);
    expect(priorityCheck([card(null, 100), card(null, 300)])).toBe(null);
    expect(priorityCheck([card(0, 100), card(0, 300)])).toBe(null);
    expect(priorityCheck([card(0, 100), card(5, null), { card: { priority: 9 }, summary: null }])).toBe(null);
  });

  test("holds the highest against the lowest, whatever lies between", () => {
    expect(priorityCheck([card(9, 400), card(4, 1), card(0, 150), card(0, 250), card(null, 5)])).toBe(
      "The higher priority was served faster: E2E p50 200 ms at priority 0 (highest), 400 ms at 9 (lowest).",
    );
    expect(priorityCheck([card(1, 500), card(2, 400)])).toMatch(/^The higher priority was served slower/);
  });

  test("takes a tenth for chance", () => {
    expect(priorityCheck([card(1, 105), card(2, 100)])).toMatch(/^Priority made no difference/);
    expect(priorityCheck([card(1, 100), card(2, 109)])).toMatch(/^Priority made no difference/);
  });
});
