import { describe, expect, it } from "vitest";
import type { SeriesView } from "../src/api/types";
import { isEmpty, pointsOf, seriesPath, summaryInWords, summaryOf } from "../src/logic/series";

function view(from: number, length: number, fields: Partial<SeriesView> = {}): SeriesView {
  const each = <T>(value: T) => Array.from({ length }, () => value);
  return {
    endpoint: null,
    step_seconds: 1,
    at: Array.from({ length }, (_, place) => from + place),
    requests: each(2),
    failures: each(0),
    prompt_tokens: each(100),
    completion_tokens: each(10),
    ttfb_seconds: each(null),
    latency_ms: each(null),
    ...fields,
  };
}

describe("points of a chart", () => {
  it("are rates over whole steps at steady borders", () => {
    const points = pointsOf(view(1003, 20), 5);
    // 1000 is not whole, 1020 has not ended.
    expect(points.at).toEqual([1005, 1010, 1015]);
    expect(points.promptTokens).toEqual([100, 100, 100]);
    expect(points.completionTokens).toEqual([10, 10, 10]);
    expect(points.requests).toEqual([2, 2, 2]);
  });

  it("stay where they are as time goes on", () => {
    const one = pointsOf(view(1000, 60), 5).at;
    const later = pointsOf(view(1002, 60), 5).at;
    expect(later).toEqual(expect.arrayContaining(one.slice(1)));
  });

  it("leave out a step until it has ended", () => {
    expect(pointsOf(view(1000, 5), 5).at).toEqual([]);
    expect(pointsOf(view(1000, 6), 5).at).toEqual([1000]);
  });

  it("weigh times by requests and leave gaps open", () => {
    const points = pointsOf(
      view(0, 6, { requests: [1, 3, 0, 0, 0, 0], ttfb_seconds: [1, 2, null, null, null, null] }),
      2,
    );
    expect(points.wait).toEqual([1.75, null]);
  });

  it("take whole answers where no first byte was kept", () => {
    const points = pointsOf(view(0, 3, { latency_ms: [500, 500, null] }), 2);
    expect(points.wait).toEqual([0.5]);
  });

  it("never fall below zero by a correction", () => {
    const points = pointsOf(view(0, 3, { completion_tokens: [-50, 10, 0] }), 2);
    expect(points.completionTokens).toEqual([0]);
  });

  it("know when nothing happened", () => {
    expect(isEmpty(pointsOf(view(0, 9, { requests: Array(9).fill(0) }), 2))).toBe(true);
    expect(isEmpty(pointsOf(view(0, 9), 2))).toBe(false);
  });
});

describe("a summary", () => {
  it("passes over gaps", () => {
    expect(summaryOf([1, null, 3])).toEqual({ least: 1, mean: 2, most: 3 });
    expect(summaryInWords([1, null, 3], String)).toBe("min 1 · mean 2 · max 3");
    expect(summaryInWords([null], String)).toBe("no values");
  });
});

it("asks for seconds or minutes, of all or of one", () => {
  expect(seriesPath("minutes", null)).toBe("/series?seconds=900");
  expect(seriesPath("day", 3)).toBe("/series?minutes=1440&endpoint=3");
});
