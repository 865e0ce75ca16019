import { describe, expect, test } from "vitest";
import type { SeriesView } from "../src/api/types";
import { pathOf, recentLines } from "../src/logic/recent";

describe("the last minutes", () => {
  const series = (at: number[], tokens: number[]): SeriesView =>
    ({ at, prompt_tokens: tokens, completion_tokens: tokens.map(() => 0) }) as unknown as SeriesView;
  const seconds = Array.from({ length: 900 }, (_, place) => 1000 + place);
  test("are averaged, the target is its part of all", () => {
    const own = series(
      seconds,
      seconds.map(() => 10),
    );
    const all = series(
      seconds,
      seconds.map(() => 40),
    );
    const lines = recentLines(own, all, 900, 50);
    expect(lines.actual).toHaveLength(60);
    expect(new Set(lines.actual)).toEqual(new Set([10]));
    expect(new Set(lines.target)).toEqual(new Set([20]));
    expect(lines.most).toBe(20);
  });
  test("without traffic they are nothing, without a target there is none", () => {
    const lines = recentLines(series([], []), series([], []), 900, null);
    expect(lines.actual.every((value) => value === 0)).toBe(true);
    expect(lines.target).toEqual([]);
    expect(pathOf(lines.actual, lines.most, 280, 80)).toMatch(/^M0\.0 78\.0L/);
  });
  test("corrections below nothing are not drawn", () => {
    expect(Math.min(...recentLines(series([1899], [-50]), series([1899], [-50]), 900, 10).actual)).toBe(0);
  });
});
