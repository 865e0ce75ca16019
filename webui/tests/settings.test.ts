import { describe, expect, it } from "vitest";
import type { SettingView } from "../src/api/types";
import { grouped, shownValue, sourceInWords } from "../src/logic/settings";

const setting = (fields: Partial<SettingView>): SettingView => ({
  name: "LB_PORT",
  group: "Network",
  value: "8090",
  default: "8090",
  source: "default",
  variable: null,
  help: "Port for clients.",
  expected: "a whole number",
  unit: null,
  choices: [],
  secret: false,
  ...fields,
});

const settings = [
  setting({}),
  setting({ name: "LB_ADMIN_TOKEN", group: "Authentication", value: "***", secret: true, source: "environment" }),
  setting({ name: "LB_HOST", value: "0.0.0.0", source: "file", variable: "HOST", help: "Address to listen on." }),
];

const names = (...given: Parameters<typeof grouped>) =>
  grouped(...given).map((each) => [each.name, ...each.settings.map((one) => one.name)]);

describe("the filter", () => {
  it("keeps groups and order", () => {
    expect(names(settings, "", false)).toEqual([
      ["Network", "LB_PORT", "LB_HOST"],
      ["Authentication", "LB_ADMIN_TOKEN"],
    ]);
  });

  it("finds every word, in names, values and help, in any case", () => {
    expect(names(settings, "LISTEN address", false)).toEqual([["Network", "LB_HOST"]]);
    expect(names(settings, "0.0.0.0", false)).toEqual([["Network", "LB_HOST"]]);
    expect(names(settings, "listen clients", false)).toEqual([]);
  });

  it("can leave out the defaults", () => {
    expect(names(settings, "", true)).toEqual([
      ["Authentication", "LB_ADMIN_TOKEN"],
      ["Network", "LB_HOST"],
    ]);
  });
});

it("says values and sources in words", () => {
  expect(shownValue(setting({ unit: "seconds" }), "120")).toBe("120 seconds");
  expect(shownValue(setting({ unit: "seconds" }), "1")).toBe("1 second");
  expect(shownValue(setting({ unit: "seconds" }), "off")).toBe("off");
  expect(shownValue(setting({}), "")).toBe("empty");
  expect(shownValue(setting({ secret: true }), "***")).toBe("set, not shown");
  expect(settings.map(sourceInWords)).toEqual(["default", "environment", ".env file as HOST"]);
  expect(sourceInWords(setting({ source: "generated" }))).toBe("made at the first start");
});
