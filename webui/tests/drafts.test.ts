import { describe, expect, test } from "vitest";
import { changedMeanwhile, rebased, typed } from "../src/logic/drafts";

const seen = (value: unknown, revision: number) => ({ values: [value], revision });

describe("a draft", () => {
  test("remembers where it began while it is typed on", () => {
    const first = typed(undefined, "a", seen("old", 4));
    const second = typed(first, "ab", seen("theirs", 9));
    expect(second).toEqual({ text: "ab", from: ["old"], revision: 4, saving: false });
  });

  test("typing takes the problem away", () => {
    const refused = { ...typed(undefined, "a", seen("old", 4)), problem: "no" };
    expect(typed(refused, "ab", seen("old", 4))).not.toHaveProperty("problem");
  });

  test("sees that somebody else changed the field", () => {
    const draft = typed(undefined, "mine", seen("old", 4));
    expect(changedMeanwhile(draft, ["old"], "mine")).toBe(false);
    expect(changedMeanwhile(draft, ["theirs"], "mine")).toBe(true);
    expect(changedMeanwhile(undefined, ["theirs"], "mine")).toBe(false);
  });

  test("what is on its way, or the same as mine, is nobody else's", () => {
    const draft = typed(undefined, "mine", seen("old", 4));
    expect(changedMeanwhile({ ...draft, saving: true }, ["mine"], "mine")).toBe(false);
    expect(changedMeanwhile(draft, ["mine"], "mine")).toBe(false);
  });

  test("of several endpoints one is enough", () => {
    const draft = typed(undefined, "3", { values: [1, 2], revision: 4 });
    expect(changedMeanwhile(draft, [1, 2], 3)).toBe(false);
    expect(changedMeanwhile(draft, [1, 5], 3)).toBe(true);
  });

  test("goes on from what is there once that was seen", () => {
    const draft = rebased({ ...typed(undefined, "mine", seen("old", 4)), problem: "x" }, seen("theirs", 9));
    expect(draft).toEqual({ text: "mine", from: ["theirs"], revision: 9, saving: false });
    expect(changedMeanwhile(draft, ["theirs"], "mine")).toBe(false);
  });
});
