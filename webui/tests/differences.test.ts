import { describe, expect, it } from "vitest";
import { changedFields, differences, differencesBetween, kindOf, merged, withNames } from "../src/logic/differences";

const change = (before: Record<string, unknown> | null, after: Record<string, unknown> | null) => ({
  endpoint_id: 1,
  name: "gpu-1",
  before,
  after,
});

describe("a change, field by field", () => {
  it("has labels and words", () => {
    expect(
      differences(change({ token_quota_percent: 40, api_key: "" }, { token_quota_percent: 35, api_key: "***" })),
    ).toEqual([
      { field: "token_quota_percent", label: "Token quota", before: "40 %", after: "35 %" },
      { field: "api_key", label: "API key", before: "no key", after: "a key" },
    ]);
  });

  it("says modes by their names", () => {
    const [mode] = differences(change({ routing_mode: "least_loaded" }, { routing_mode: "priority" }));
    expect(mode).toMatchObject({ label: "Mode", before: "Least loaded", after: "Priority" });
  });

  it("of something new tells only what says something", () => {
    const after = {
      name: "gpu-1",
      base_url: "http://a/v1",
      tags: [],
      price_per_million_input: null,
      pos_x: 3,
      discovered: false,
    };
    expect(kindOf(change(null, after))).toBe("added");
    expect(differences(change(null, after))).toEqual([
      { field: "base_url", label: "Base URL", before: null, after: "http://a/v1" },
    ]);
    expect(kindOf(change(after, null))).toBe("deleted");
    expect(differences(change(after, null))[0]).toMatchObject({ before: "http://a/v1", after: null });
  });
});

describe("fields of a file against those here", () => {
  it("does not mind the order of keys", () => {
    const here = { model_aliases: { a: "1", b: "2" }, weight: 1 };
    expect(changedFields(here, { model_aliases: { b: "2", a: "1" } })).toEqual([]);
    expect(changedFields(here, { model_aliases: { a: "1" }, weight: 2 })).toEqual(["model_aliases", "weight"]);
  });

  it("tells a move in one line", () => {
    const found = differencesBetween({ pos_x: 1, pos_y: 2, weight: 1 }, { pos_x: 5, pos_y: 6, weight: 1 });
    expect(found.map((each) => each.label)).toEqual(["Place"]);
  });
});

it("puts pages together, newest first, the last fetched wins", () => {
  const rows = merged(
    [
      { number: 2, text: "old" },
      { number: 1, text: "old" },
    ],
    [
      { number: 3, text: "new" },
      { number: 2, text: "new" },
    ],
  );
  expect(rows.map((each) => `${each.number} ${each.text}`)).toEqual(["3 new", "2 new", "1 old"]);
});

it("says the fields of a refusal as the page does", () => {
  const refusal =
    "changed again since: endpoints.1.token_quota_percent, endpoints.9, endpoints.1.api_key, routing_mode";
  expect(withNames(refusal, [{ id: 1, name: "gpu-1" }])).toBe(
    "changed again since: Token quota of gpu-1, endpoint 9, API key of gpu-1, the mode",
  );
});
