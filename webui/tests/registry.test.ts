// Every act can be reached in every way: that is what the registry is for.

import { describe, expect, test, vi } from "vitest";
import { ACTIONS, action } from "../src/actions/list";
import { type ActionContext, actionFor, type KeyPress, nameOf, shownKeys } from "../src/actions/registry";
import { AdminClient } from "../src/api/client";
import type { EndpointView, State } from "../src/api/types";
import { structureOf } from "../src/logic/structure";
import { Editor } from "../src/state/editor";
import { endpoint, state } from "./made";

vi.stubGlobal("navigator", { clipboard: { writeText: async () => {} } });

const POINTER = ["node", "wire", "canvas", "toolbar"];
/** The top bar stands above the table as it does above the canvas. */
const TABLE = ["table", "toolbar"];
const press = (key: string, ...held: ("ctrl" | "meta" | "shift" | "alt")[]): KeyPress => ({
  key,
  ctrlKey: held.includes("ctrl"),
  metaKey: held.includes("meta"),
  shiftKey: held.includes("shift"),
  altKey: held.includes("alt"),
});

describe("the list", () => {
  test.each(ACTIONS.map((each) => [each.id, each] as const))(
    "%s has all that help, menus and palette show",
    (_, each) => {
      expect(each.title).toMatch(/^[A-Z]/);
      expect(each.does).toMatch(/^[A-Z].*\.$/);
      expect(each.keys.length).toBeGreaterThan(0);
      expect(each.spots.length).toBeGreaterThan(0);
    },
  );

  test("ids and keys are unique", () => {
    const ids = ACTIONS.map((each) => each.id);
    const keys = ACTIONS.flatMap((each) => each.keys);
    expect(new Set(ids).size).toBe(ids.length);
    expect(new Set(keys).size).toBe(keys.length);
  });

  test.each(
    ACTIONS.filter((each) => ["Endpoints", "Traffic"].includes(each.group)).map((each) => [each.id, each] as const),
  )("%s is reached by key, by pointer and beside the table", (_, { keys, spots }) => {
    expect(keys[0]).toBeTruthy();
    expect(spots.filter((each) => POINTER.includes(each))).not.toEqual([]);
    expect(spots.filter((each) => TABLE.includes(each))).not.toEqual([]);
  });

  test("whatever is about one endpoint is in the table itself", () => {
    const about = ACTIONS.filter((each) => each.spots.includes("node"));
    expect(about.filter((each) => !each.spots.includes("table")).map((each) => each.id)).toEqual([]);
  });

  test("an unknown one is a mistake of ours", () => {
    expect(action("cut").title).toBe("Cut the wire");
    expect(() => action("nothing")).toThrow('no action "nothing"');
  });
});

describe("keys", () => {
  test.each<[KeyPress, string]>([
    [press("c"), "C"],
    [press("C"), "C"],
    [press("C", "shift"), "Shift+C"],
    [press("c", "ctrl"), "Ctrl+C"],
    [press("z", "meta"), "Ctrl+Z"],
    [press("Z", "ctrl", "shift"), "Ctrl+Shift+Z"],
    [press("r", "ctrl", "alt"), "Ctrl+Alt+R"],
    [press("?", "shift"), "?"],
    [press("/", "shift"), "/"],
    [press("+"), "+"],
    [press("1", "alt"), "Alt+1"],
    [press("Delete", "shift"), "Shift+Delete"],
    [press("ArrowUp", "alt"), "Alt+ArrowUp"],
    [press(" "), "Space"],
    [press(" ", "shift"), "Shift+Space"],
  ])("%j is %s", (given, name) => {
    expect(nameOf(given)).toBe(name);
  });

  test.each<[KeyPress, string | undefined]>([
    [press("c"), "connect"],
    [press("c", "ctrl"), "copy"],
    [press("Delete"), "cut"],
    [press("Backspace"), "cut"],
    [press("Delete", "shift"), "delete"],
    [press("z", "ctrl"), "undo"],
    [press("Z", "ctrl", "shift"), "redo"],
    [press("y", "ctrl"), "redo"],
    [press("k", "meta"), "palette"],
    [press("?", "shift"), "help"],
    [press("Q"), undefined],
    [press("c", "alt"), undefined],
  ])("%j does %s", (given, id) => {
    expect(actionFor(given, ACTIONS)?.id).toBe(id);
  });

  test("every key that is listed is one that a press can have", () => {
    for (const name of ACTIONS.flatMap((each) => each.keys)) {
      const parts = name === "+" ? ["+"] : name.split("+");
      const key = parts.at(-1) ?? "";
      const held = parts.slice(0, -1).map((each) => each.toLowerCase() as "ctrl");
      expect(
        nameOf(press(held.includes("shift" as "ctrl") ? key : key.length === 1 ? key.toLowerCase() : key, ...held)),
      ).toBe(name);
    }
  });

  test("as the reader's system writes them", () => {
    expect(shownKeys("Ctrl+Shift+Z", false)).toBe("Ctrl+Shift+Z");
    expect(shownKeys("Ctrl+Shift+Z", true)).toBe("⌘⇧Z");
    expect(shownKeys("Shift+Delete", false)).toBe("Shift+Del");
    expect(shownKeys("Alt+ArrowUp", true)).toBe("⌥ArrowUp");
  });
});

describe("when an act applies", () => {
  function context(endpoints: EndpointView[], ids: number[], given: Partial<State> = {}): ActionContext {
    const editor = new Editor(new AdminClient(), "system");
    const made = state(endpoints, given);
    editor.numbers.setState({
      numbers: { ...editor.numbers.getState().numbers, endpoints: new Map(endpoints.map((each) => [each.id, each])) },
    });
    return { editor, structure: structureOf(made), ids, canvas: null };
  }
  const wired = endpoint(1, { token_quota_percent: 100 });
  const loose = endpoint(2, { connected: false });
  const applies = (id: string, ...given: Parameters<typeof context>) => action(id).applies(context(...given));

  test.each<[string, EndpointView[], number[], true | string]>([
    ["connect", [wired, loose], [2], true],
    ["connect", [wired, loose], [1, 2], true],
    ["connect", [wired, loose], [1], "It is connected already."],
    ["connect", [wired], [], "Select an endpoint first."],
    ["cut", [wired, loose], [1], true],
    ["cut", [wired, loose], [2], "It is not connected."],
    ["cut", [wired, loose], [], "Select an endpoint first."],
    ["inspect", [wired, loose], [1, 2], "Select one endpoint first."],
    ["abort", [wired, loose], [2], "Nothing is draining there."],
    ["abort", [wired, { ...loose, inflight: 1 }], [2], true],
    ["abort", [{ ...wired, inflight: 1 }], [1], "Nothing is draining there."],
    ["rescale", [wired], [], "The quotas sum to 100 % already."],
    ["rescale", [{ ...wired, token_quota_percent: 30 }], [], true],
    ["rescale", [loose], [], "Nothing is connected."],
    ["rank-up", [wired, loose], [1], "It is first already."],
    ["rank-up", [wired, loose], [2], true],
    ["rank-down", [wired, loose], [2], "It is last already."],
    ["rank-down", [wired, loose], [1, 2], "Select one endpoint first."],
    ["mode-percentage", [wired], [], "That is the mode."],
    ["mode-priority", [wired], [], true],
    ["undo", [], [], "Nothing to undo."],
    ["redo", [], [], "Nothing to redo."],
    ["select-all", [], [], "There is no endpoint."],
    ["fit", [], [], "Only on the canvas."],
    ["add", [], [], true],
  ])("%s", (id, endpoints, ids, wanted) => {
    expect(applies(id, endpoints, ids)).toBe(wanted);
  });

  test("every act can say whether it applies, with anything and with nothing", () => {
    for (const each of ACTIONS) {
      for (const given of [context([], []), context([wired, loose], [1]), context([wired, loose], [1, 2])]) {
        expect(["boolean", "string"]).toContain(typeof each.applies(given));
      }
    }
  });

  test("a mode is never switched without its preview", () => {
    const given = context([wired], []);
    action("mode-priority").run(given);
    expect(given.editor.ui.getState().dialog).toEqual({ kind: "mode", mode: "priority" });
  });

  test("bulk acts choose what they are about", () => {
    const given = context([wired, loose], [1, 2]);
    given.editor.submit = vi.fn(async () => true);
    action("connect").run(given);
    action("cut").run(given);
    action("delete").run(given);
    expect(vi.mocked(given.editor.submit).mock.calls.map(([act]) => act)).toEqual([
      { kind: "change", updates: [{ id: 2, fields: { connected: true } }] },
      { kind: "change", updates: [{ id: 1, fields: { connected: false } }] },
      { kind: "delete", ids: [1, 2] },
    ]);
  });

  test("ranks move among all, as one change", () => {
    const three = [endpoint(1), endpoint(2), endpoint(3)];
    const given = context(three, [3]);
    given.editor.submit = vi.fn(async () => true);
    action("rank-up").run(given);
    expect(vi.mocked(given.editor.submit).mock.calls[0]?.[0]).toEqual({
      kind: "change",
      updates: [
        { id: 3, fields: { priority_order: 2 } },
        { id: 2, fields: { priority_order: 3 } },
      ],
    });
  });

  test("copies carry no key", async () => {
    const written = vi.spyOn(navigator.clipboard, "writeText");
    await action("copy").run(context([endpoint(1, { has_api_key: true, api_key_preview: "sk-…9" })], [1]));
    expect(written.mock.calls[0]?.[0]).not.toMatch(/api_key|sk-/);
  });
});
