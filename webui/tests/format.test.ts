import { describe, expect, test } from "vitest";
import { ago, clock, compact, count, countdown, duration, hostOf, percent, rate } from "../src/logic/format";
import { generator } from "./made";

describe("compact", () => {
  test.each([
    [0, "0"],
    [0.04, "<0.1"],
    [0.05, "0.1"],
    [1, "1.0"],
    [9.96, "10.0"],
    [99.9, "99.9"],
    [99.95, "100"],
    [999.4, "999"],
    [999.5, "1.0k"],
    [12_345, "12.3k"],
    [999_949, "1000k"],
    [999_950, "1.0M"],
    [1_234_567, "1.2M"],
    [999_950_000, "1.0G"],
    [-12_345, "-12.3k"],
    [null, "–"],
    [undefined, "–"],
    [Number.NaN, "–"],
    [Infinity, "–"],
  ])("%s is %s", (value, text) => {
    expect(compact(value)).toBe(text);
  });

  test("is never long and never a NaN, whatever the size", () => {
    const { next, whole } = generator(1);
    for (let round = 0; round < 2000; round += 1) {
      const text = compact(next() * 10 ** whole(-6, 11));
      expect(text.length).toBeLessThanOrEqual(5);
      expect(text).toMatch(/^(<?\d+(\.\d)?)[kMG]?$/);
    }
  });

  test("a rate that is small is not nothing", () => {
    expect(rate(0)).toBe("0");
    expect(rate(0.001)).toBe("<0.1");
  });
});

test.each([
  [0, "0 %"],
  [38.44, "38.4 %"],
  [100, "100 %"],
  [99.96, "100 %"],
  [99.94, "99.9 %"],
  [33.333_333, "33.3 %"],
  [null, "– %"],
  [Number.NaN, "– %"],
])("percent of %s is %s", (value, text) => {
  expect(percent(value)).toBe(text);
});

test.each([
  [0.000_08, "0.08 ms"],
  [0.212, "212 ms"],
  [0.9996, "1.0 s"],
  [3.42, "3.4 s"],
  [99.96, "2 min"],
  [120, "2 min"],
  [7200, "2.0 h"],
  [null, "–"],
  [Infinity, "–"],
])("%s seconds last %s", (seconds, text) => {
  expect(duration(seconds)).toBe(text);
});

test.each([
  [-3, "0 s"],
  [0, "0 s"],
  [0.2, "1 s"],
  [12, "12 s"],
  [99, "99 s"],
  [100, "1:40"],
  [185, "3:05"],
])("%s seconds run down as %s", (seconds, text) => {
  expect(countdown(seconds)).toBe(text);
});

describe("times", () => {
  const now = Date.parse("2026-01-02T00:00:00Z");
  test.each([
    [null, "never"],
    ["2026-01-02T00:00:05Z", "just now"],
    ["2026-01-01T23:59:56Z", "4 s ago"],
    ["2026-01-01T23:50:00Z", "10 min ago"],
    ["2026-01-01T20:00:00Z", "4 h ago"],
    ["2025-12-20T00:00:00Z", "13 days ago"],
  ])("%s was %s", (iso, text) => {
    expect(ago(iso, now)).toBe(text);
  });

  test("the clock has tenths and steady width", () => {
    expect(clock("2026-01-02T03:04:05.678Z")).toMatch(/^\d\d:\d\d:05\.6$/);
    expect(clock("2026-01-02T03:04:05Z")).toMatch(/^\d\d:\d\d:05\.0$/);
  });
});

test("counting things", () => {
  expect(count(1, "request")).toBe("1 request");
  expect(count(0, "request")).toBe("0 requests");
  expect(count(12_000, "request")).toBe("12,000 requests");
  expect(count(2, "reply", "replies")).toBe("2 replies");
});

test("the host of an address, the whole of what is none", () => {
  expect(hostOf("http://gpu-1:8000/v1")).toBe("gpu-1:8000");
  expect(hostOf("https://user:pass@api.example.com/v1")).toBe("api.example.com");
  expect(hostOf("no address")).toBe("no address");
});
