import { describe, expect, test } from "vitest";
import {
  commonValue,
  type FieldName,
  problemOfField,
  readField,
  rowsOf,
  sameValue,
  textOf,
  textOfRows,
} from "../src/logic/fields";
import type { EndpointConfig } from "../src/logic/structure";

const readAs = (field: FieldName, text: string) => {
  const reading = readField(field, text);
  return "value" in reading ? reading.value : undefined;
};
const problemOf = (field: FieldName, text: string) => {
  const reading = readField(field, text);
  return "problem" in reading ? reading.problem : undefined;
};

describe("reading what was typed", () => {
  test.each<[FieldName, string, unknown]>([
    ["max_concurrent", " 16 ", 16],
    ["max_concurrent", "0", 0],
    ["weight", "0,5", 0.5],
    ["token_quota_percent", "33.3 %", 33.3],
    ["timeout", "120", 120],
    ["price_per_million_input", "", null],
    ["price_per_million_output", "0", 0],
    ["name", "  gpu ", "gpu"],
    ["models", "a\n b ,a\n\n", ["a", "b"]],
    ["tags", "x, y,,x", ["x", "y"]],
  ])("%s: %j is %j", (field, text, value) => expect(readAs(field, text)).toEqual(value));

  test.each<[FieldName, string, RegExp]>([
    ["max_concurrent", "1.5", /whole number from 0 to 10,000/],
    ["max_concurrent", "", /whole number/],
    ["weight", "0", /above 0/],
    ["weight", "1001", /at most 1,000/],
    ["token_quota_percent", "1x", /from 0 to 100/],
    ["token_quota_percent", "-1", /from 0 to 100/],
    ["timeout", "Infinity", /from 5 to 600/],
    ["price_per_million_input", "free", /or empty/],
    ["name", " ", /not be empty/],
  ])("%s: %j is refused in words", (field, text, words) => expect(problemOf(field, text)).toMatch(words));

  test.each<[FieldName, unknown]>([
    ["weight", 0.25],
    ["models", ["a", "b"]],
    ["tags", []],
    ["model_aliases", { "gpt-4": "llama", b: "c" }],
    ["price_per_million_input", null],
  ])("%s: what is shown of %j reads as the same", (field, value) => {
    expect(readAs(field, textOf(field, value))).toEqual(value);
  });
});

describe("aliases", () => {
  test("a row that is begun stays a row", () => {
    expect(rowsOf(textOfRows([["", ""]]))).toEqual([["", ""]]);
    expect(rowsOf("")).toEqual([]);
  });

  test("empty rows say nothing, half ones and doubles are named", () => {
    const text = (...rows: [string, string][]) => textOfRows(rows);
    expect(readAs("model_aliases", text(["a", "b"], ["", " "]))).toEqual({ a: "b" });
    expect(problemOf("model_aliases", text(["a", ""]))).toMatch(/sent on for "a"/);
    expect(problemOf("model_aliases", text(["", "b"]))).toMatch(/beside "b"/);
    expect(problemOf("model_aliases", text(["a", "b"], ["a ", "c"]))).toMatch(/"a" twice/);
  });

  test("their order means nothing", () => {
    expect(sameValue({ a: "1", b: "2" }, { b: "2", a: "1" })).toBe(true);
    expect(sameValue({ a: "1" }, { a: "2" })).toBe(false);
    expect(sameValue(["a", "b"], ["b", "a"])).toBe(false);
    expect(sameValue(null, undefined)).toBe(true);
  });
});

test("what several have in common", () => {
  const of = (weight: number, tags: string[]) => ({ weight, tags }) as unknown as EndpointConfig;
  expect(commonValue([of(1, ["a"]), of(1, ["a"])], "tags")).toEqual({ same: true, value: ["a"] });
  expect(commonValue([of(1, []), of(2, [])], "weight")).toEqual({ same: false });
});

test("the server's problems find their field, parts of it are named", () => {
  const problems = [
    { field: "name", index: 0, message: "must not be blank" },
    { field: "models.3", index: 0, message: "too long" },
    { field: "model_aliases.gpt.[key]", index: 0, message: "too short" },
  ];
  expect(problemOfField("name", problems)).toBe("must not be blank");
  expect(problemOfField("models", problems)).toBe("entry 4 too long");
  expect(problemOfField("model_aliases", problems)).toBe("gpt: too short");
  expect(problemOfField("timeout", problems)).toBeUndefined();
  expect(problemOfField("model", problems)).toBeUndefined();
});
