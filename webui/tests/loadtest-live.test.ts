// A run as it comes: rows that replace, events that follow each other; ways between the two pages.

import { describe, expect, test } from "vitest";
import { histogramOf } from "../src/loadtest/logic/histogram";
import { editorAddress, readNewCard } from "../src/loadtest/logic/links";
import { column, joined, merged, NO_SERIES } from "../src/loadtest/logic/series";
import { differenceInWords, elapsed, figure, testName, verdictInWords } from "../src/loadtest/logic/words";
import { after } from "../src/loadtest/state/watching";
import type { Difference, RunResult, SeriesPart, Tick } from "../src/loadtest/types";
import { clientsAddress, loadTestAddress, readSuggestion } from "../src/logic/loadtest";

const part = (from: number, rows: number[], generation = 0): SeriesPart => ({
  columns: ["seconds", "ok_per_second"],
  step_seconds: 1,
  generation,
  from,
  rows: rows.map((value, place) => [from + place + 1, value]),
});

describe("rows of a series", () => {
  test("follow those that were there", () => {
    const known = merged(merged(NO_SERIES, part(0, [1, 2])), part(2, [3]));
    expect(column(known, "ok_per_second")).toEqual([1, 2, 3]);
    expect(column(known, "nothing")).toEqual([]);
  });

  test("replace those from their place on: the first tick has all of them", () => {
    const known = merged(merged(NO_SERIES, part(0, [1, 2])), part(0, [1, 2, 3]));
    expect(column(known, "ok_per_second")).toEqual([1, 2, 3]);
    expect(column(merged(known, part(1, [9])), "ok_per_second")).toEqual([1, 9]);
  });

  test("of another generation are all there is", () => {
    const known = merged(NO_SERIES, part(0, [1, 2, 3, 4]));
    expect(column(merged(known, part(0, [1.5, 3.5], 1)), "ok_per_second")).toEqual([1.5, 3.5]);
  });

  test("without news nothing is made anew", () => {
    const known = merged(NO_SERIES, part(0, [1]));
    expect(merged(known, part(1, [])).rows).toBe(known.rows);
  });

  test("of several cards share one axis", () => {
    const one = merged(NO_SERIES, part(0, [1, 2]));
    const two = merged(NO_SERIES, part(1, [7, 8]));
    const wanted = [one, two].map((series) => ({ series, column: "ok_per_second" }));
    expect(joined(wanted)).toEqual({
      at: [1, 2, 3],
      values: [
        [1, 2, null],
        [null, 7, 8],
      ],
    });
  });
});

describe("events of a run", () => {
  const result = (state: string, rows: number[]) =>
    ({ id: "r1", state, cards: [{ series: part(0, rows) }] }) as unknown as RunResult;
  const tick = (from: number, rows: number[], id = "r1") =>
    ({ id, state: "running", cards: [{ series: part(from, rows) }] }) as unknown as Tick;
  const points = (run: ReturnType<typeof after>) => run && column(run.series[0] ?? NO_SERIES, "ok_per_second");

  test("whoever comes back has everything at first, then what is new, then the end", () => {
    const begun = after(null, { event: "run", value: result("running", [1]) });
    const first = after(begun, { event: "tick", value: tick(0, [1, 2]) });
    const second = after(first, { event: "tick", value: tick(2, [3]) });
    expect(points(second)).toEqual([1, 2, 3]);
    expect(second?.tick).not.toBeNull();
    const ended = after(second, { event: "end", value: result("done", [1, 2, 3, 4]) });
    expect([points(ended), ended?.tick, ended?.result.state]).toEqual([[1, 2, 3, 4], null, "done"]);
  });

  test("ticks of another run are none of ours", () => {
    const begun = after(null, { event: "run", value: result("running", [1]) });
    expect(after(begun, { event: "tick", value: tick(0, [9], "r2") })).toBe(begun);
    expect(after(null, { event: "tick", value: tick(0, [9]) })).toBeNull();
  });
});

describe("in words", () => {
  const difference = (changes: Partial<Difference>): Difference => ({
    unit: "ms",
    n: 100,
    mean: 1.8,
    mean_low: 1.2,
    mean_high: 2.4,
    median: 1.7,
    median_low: 1.1,
    median_high: 2.2,
    baseline_mean: 45,
    clear: true,
    ...changes,
  });

  test("a clear difference is stated with its interval", () => {
    expect(differenceInWords("ttft", difference({}), "The balancer")).toBe(
      "The balancer adds 1.80 ms to TTFT (4 %), 95 % between 1.20 ms and 2.40 ms.",
    );
    const less = difference({ mean: -5, mean_low: -7, mean_high: -3 });
    expect(differenceInWords("e2e", less, "B")).toMatch(/^B takes 5.00 ms off E2E .*between 3.00 ms and 7.00 ms\.$/);
  });

  test("an interval that holds zero is no difference", () => {
    const unclear = difference({ mean: 0.2, mean_low: -0.3, mean_high: 0.7, clear: false });
    expect(differenceInWords("ttft", unclear, "B")).toMatch(/^No clear difference in TTFT: \+0.20 ms on average/);
  });

  test("few pairs, or none, say so", () => {
    const few = difference({ n: 3, mean_low: null, mean_high: null, clear: null });
    expect(differenceInWords("ttft", few, "B")).toMatch(/3 pairs only: too few/);
    expect(differenceInWords("ttft", difference({ n: 0, mean: null }), "B")).toMatch(/Nothing to compare/);
  });

  test("figures, times and names", () => {
    expect([figure(null, "ms"), figure(1234, "ms"), figure(0, "%"), figure(8, "")]).toEqual(["–", "1.2 s", "0 %", "8"]);
    expect([elapsed(7), elapsed(750), elapsed(3723)]).toEqual(["0:07", "12:30", "1:02:03"]);
    const cards = [
      { name: "", model: "m", url: "u" },
      { name: "B", model: "m", url: "u" },
    ];
    expect([testName("", cards), testName("Night", cards)]).toEqual(["m, B", "Night"]);
    expect(
      verdictInWords({
        name: "ttft_p95",
        metric: "ttft",
        statistic: "p95",
        limit: 500,
        at_least: false,
        unit: "ms",
        actual: 1,
        met: true,
      }),
    ).toBe("TTFT p95 at most 500 ms");
  });
});

describe("ways between the pages", () => {
  const target = { url: "http://gpu-1:8000/v1", model: "a/b c", name: "gpu-1 & co", endpoint: 7 };

  test("what the editor asks for is what the load tester reads", () => {
    const address = loadTestAddress("http://127.0.0.1:8088/", target, "http://127.0.0.1:8090/admin");
    expect(address).toMatch(/^http:\/\/127\.0\.0\.1:8088\/#\/new\?/);
    const asked = readNewCard(new URL(address).hash);
    expect(asked).toEqual({
      url: target.url,
      model: target.model,
      name: target.name,
      link: { editor: "http://127.0.0.1:8090/admin", endpoint: 7 },
    });
  });

  test("what a sweep found is what the editor reads", () => {
    const address = editorAddress({ editor: "http://lb/admin", endpoint: 7 }, 18);
    expect(readSuggestion(new URL(address).hash)).toEqual({ endpoint: 7, maxConcurrent: 18 });
    expect(editorAddress({ editor: "http://lb/admin", endpoint: null }, 18)).toBe("http://lb/admin");
  });

  test.each([
    "#/endpoint/7",
    "#/endpoint/x?suggest_max_concurrent=3",
    "#/endpoint/7?suggest_max_concurrent=0",
    "#/endpoint/7?suggest_max_concurrent=10001",
    "#/endpoint/7?suggest_max_concurrent=1e3",
  ])("%s suggests nothing", (hash) => expect(readSuggestion(hash)).toBeNull());

  test("addresses that are not of the web are none", () => {
    expect(readNewCard("#/new?url=javascript:alert(1)")).toBeNull();
    expect(readNewCard("#/cards")).toBeNull();
    const asked = readNewCard("#/new?url=http://a/v1&editor=javascript:alert(1)&endpoint=7");
    expect(asked?.link).toBeNull();
  });

  test("with administration on a port of its own the balancer is elsewhere", () => {
    const settings = (port: string) => [
      { name: "LB_PORT", value: "8090" },
      { name: "LB_ADMIN_PORT", value: port },
    ];
    expect(clientsAddress("http://lb.example:8090", settings(""))).toBe("http://lb.example:8090/v1");
    expect(clientsAddress("http://lb.example:9000", settings("9000"))).toBe("http://lb.example:8090/v1");
  });
});

describe("how figures are spread", () => {
  test("every value is in one bin, the largest together in the last", () => {
    const values = [...Array.from({ length: 199 }, (_, place) => place), 1e6];
    const found = histogramOf(values, 10);
    expect(found?.bins.reduce((sum, each) => sum + each, 0)).toBe(200);
    expect([found?.low, found?.high, found?.beyond]).toEqual([0, 197, 2]);
    expect(found?.bins[0]).toBe(20);
  });

  test("nothing, or always the same, has no spread", () => {
    expect([histogramOf([]), histogramOf([5]), histogramOf([5, 5, 5])]).toEqual([null, null, null]);
  });
});
