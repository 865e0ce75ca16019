// The ways between the editor and the load tester: a tab that no browser holds back, and links that lead home.

import { afterEach, describe, expect, test, vi } from "vitest";
import { openLoadTester } from "../src/actions/load-test";
import type { ActionContext } from "../src/actions/registry";
import { editorOf, editorsOf } from "../src/loadtest/logic/links";

const SETTINGS = [{ name: "LB_LOAD_TESTER_URL", value: "http://tester:8088" }];

function scene(tab: object | null, get: () => Promise<unknown>) {
  const open = vi.fn((_url: string, _target: string, _features?: string) => tab);
  const toast = vi.fn();
  vi.stubGlobal("window", { open });
  vi.stubGlobal("location", { origin: "http://lb:8090", pathname: "/admin" });
  const context = { editor: { client: { get }, toast } } as unknown as ActionContext;
  return { open, toast, context };
}

afterEach(() => vi.unstubAllGlobals());

describe("from the editor", () => {
  test("the tab opens within the act, before anything is asked, and cannot reach back", async () => {
    const tab = { opener: "the editor", location: { replace: vi.fn() }, close: vi.fn() };
    let answer = (_: unknown) => {};
    const { open, context } = scene(tab, () => new Promise((resolve) => (answer = resolve)));
    const done = openLoadTester(context, null);
    expect(open).toHaveBeenCalledTimes(1);
    answer(SETTINGS);
    await done;
    expect(tab.opener).toBeNull();
    expect(tab.location.replace.mock.calls[0]?.[0]).toMatch(
      /^http:\/\/tester:8088\/#\/new\?url=http%3A%2F%2Flb%3A8090/,
    );
  });

  test("where the settings cannot be had no empty tab is left", async () => {
    const tab = { close: vi.fn() };
    const { context } = scene(tab, () => Promise.reject(new Error("gone")));
    await expect(openLoadTester(context, null)).rejects.toThrow("gone");
    expect(tab.close).toHaveBeenCalled();
  });

  test("a browser that keeps the tab back gets a button to press", async () => {
    const { open, toast, context } = scene(null, async () => SETTINGS);
    await openLoadTester(context, null);
    toast.mock.calls[0]?.[0].action.run();
    expect(open.mock.calls[1]?.[0]).toContain("http://tester:8088/#/new");
    expect(open.mock.calls[1]?.[2]).toBe("noopener");
  });
});

describe("to the editor", () => {
  test("where the settings say, else at the target's address", () => {
    expect(editorOf("http://lb:8090/v1", "")).toBe("http://lb:8090/admin");
    expect(editorOf("http://lb:8090/v1", "https://ops.example/admin")).toBe("https://ops.example/admin");
  });

  test("each once", () => {
    const link = { editor: "http://lb:8090/admin", endpoint: 1 };
    expect(editorsOf({ a: link, b: { ...link, endpoint: null } }, "")).toEqual(["http://lb:8090/admin"]);
    expect(editorsOf({ a: link }, "http://lb:8090/admin")).toEqual(["http://lb:8090/admin"]);
    expect(editorsOf({}, undefined)).toEqual([]);
  });
});
