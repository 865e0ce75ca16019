import { describe, expect, test } from "vitest";
import type { Conflict, EndpointView } from "../src/api/types";
import {
  type Act,
  applied,
  type Changes,
  callOf,
  clashes,
  connect,
  questionBefore,
  saying,
  touches,
  withoutGone,
} from "../src/logic/acts";
import { describeClash, labelOf, valueInWords } from "../src/logic/clash";
import { endpoint, FIELDS, numbersFor, state, structure } from "./made";

const change = (id: number, fields: Changes): Act => ({ kind: "change", updates: [{ id, fields }] });
const NEW = { name: "new", base_url: "http://new/v1" };

describe("one act is one request", () => {
  test.each<[Act, string, string, unknown]>([
    [{ kind: "create", endpoints: [NEW] }, "POST", "/endpoints", [NEW]],
    [connect([1, 2], true), "PATCH", "/endpoints", [1, 2].map((id) => ({ id, fields: { connected: true } }))],
    [{ kind: "delete", ids: [3] }, "DELETE", "/endpoints", [3]],
    [{ kind: "mode", mode: "priority" }, "PATCH", "/routing", { routing_mode: "priority" }],
    [{ kind: "restore", number: 4 }, "POST", "/revisions/4/restore", undefined],
  ])("%j", (act, method, path, body) => {
    expect(callOf(act, 9)).toEqual({ method, path, ...(body ? { body } : {}), ifMatch: 9 });
    expect(callOf(act, null).ifMatch).toBe(null);
  });

  test("taking back a revision needs no If-Match: the server looks for itself", () => {
    expect(callOf({ kind: "revert", number: 7 }, 9)).toEqual({ method: "POST", path: "/revisions/7/revert" });
  });
});

describe("what an act would overwrite", () => {
  const conflict = (...names: string[]): Conflict => ({
    detail: "changed",
    revision: 5,
    state: state(),
    changed: Object.fromEntries(names.map((name) => [name, { before: 1, after: name === "routing_mode" ? "b" : 2 }])),
  });

  test.each<[Act, string[]]>([
    [{ kind: "create", endpoints: [NEW] }, []],
    [{ kind: "revert", number: 1 }, []],
    [change(1, { name: "x", weight: 2 }), ["endpoints.1", "endpoints.1.name", "endpoints.1.weight"]],
    [{ kind: "delete", ids: [1, 2] }, ["endpoints.1", "endpoints.2"]],
    [{ kind: "mode", mode: "random" }, ["routing_mode"]],
    [{ kind: "restore", number: 1 }, ["*"]],
  ])("%j touches %j", (act, names) => {
    expect(touches(act)).toEqual(names);
  });

  test.each<[string, Act, string[], string[]]>([
    ["another field", change(1, { weight: 2 }), ["endpoints.1.name"], []],
    ["another endpoint", change(1, { weight: 2 }), ["endpoints.11.weight", "endpoints.2"], []],
    ["the same field", change(1, { weight: 3 }), ["endpoints.1.weight", "endpoints.1.name"], ["endpoints.1.weight"]],
    [
      "the same value",
      change(1, { weight: 2, name: "x" }),
      ["endpoints.1.weight", "endpoints.1.name"],
      ["endpoints.1.name"],
    ],
    ["the same mode", { kind: "mode", mode: "b" }, ["routing_mode"], []],
    ["deleted meanwhile", change(1, { weight: 2 }), ["endpoints.1"], ["endpoints.1"]],
    [
      "delete what was changed",
      { kind: "delete", ids: [1] },
      ["endpoints.1.name", "endpoints.12.name"],
      ["endpoints.1.name"],
    ],
    ["delete what was deleted", { kind: "delete", ids: [1] }, ["endpoints.1"], ["endpoints.1"]],
    ["the mode beside fields", { kind: "mode", mode: "random" }, ["endpoints.1.weight"], []],
    ["the mode twice", { kind: "mode", mode: "random" }, ["routing_mode"], ["routing_mode"]],
    ["adding overwrites nothing", { kind: "create", endpoints: [NEW] }, ["endpoints.1"], []],
    ["going back overwrites all", { kind: "restore", number: 1 }, ["endpoints.1"], ["endpoints.1"]],
    ["an unknown past may hold anything", change(1, { weight: 2 }), [], ["*"]],
    ["and still adding overwrites nothing", { kind: "create", endpoints: [NEW] }, [], []],
  ])("%s", (_, act, theirs, both) => {
    expect(clashes(act, conflict(...theirs))).toEqual(both);
  });
});

describe("what somebody deleted meanwhile", () => {
  const gone: Conflict = {
    detail: "changed",
    revision: 5,
    state: state([endpoint(2)]),
    changed: { "endpoints.1": { before: "gpu-1", after: null }, "endpoints.3": { before: null, after: "gpu-3" } },
  };

  test.each<[Act, Act | null, string[]]>([
    [connect([1, 2], true), connect([2], true), ["gpu-1"]],
    [connect([1], true), null, ["gpu-1"]],
    [connect([2, 3], true), connect([2, 3], true), []],
    [{ kind: "delete", ids: [1, 2] }, { kind: "delete", ids: [2] }, ["gpu-1"]],
    [{ kind: "delete", ids: [1] }, null, ["gpu-1"]],
    [{ kind: "mode", mode: "cost" }, { kind: "mode", mode: "cost" }, []],
    [{ kind: "restore", number: 1 }, { kind: "restore", number: 1 }, []],
  ])("%j becomes %j", (act, left, names) => {
    expect(withoutGone(act, gone)).toEqual({ left, gone: names });
  });
});

describe("the structure as it would be", () => {
  const before = structure([endpoint(1), endpoint(2)]);

  test("changed fields, by id, and never the key", () => {
    const then = applied(change(2, { weight: 5, api_key: "sk-secret" }), before);
    expect(then.endpoints[0]).toBe(before.endpoints[0]);
    expect(then.endpoints[1]).toEqual({ ...before.endpoints[1], weight: 5 });
    expect(JSON.stringify(then)).not.toContain("sk-secret");
    expect(before.endpoints[1]?.weight).toBe(1);
  });

  test("deleted, mode", () => {
    expect(applied({ kind: "delete", ids: [1, 9] }, before).endpoints.map((each) => each.id)).toEqual([2]);
    expect(applied({ kind: "mode", mode: "random" }, before).mode).toBe("random");
  });

  test("what only the server knows is left as it is", () => {
    for (const act of [
      { kind: "create", endpoints: [NEW] },
      { kind: "revert", number: 1 },
      { kind: "restore", number: 1 },
      change(9, { weight: 3 }),
    ] satisfies Act[]) {
      expect(applied(act, before)).toEqual(before);
    }
  });
});

describe("in the words of a toast", () => {
  const before = structure([endpoint(1), endpoint(2), endpoint(3)]);
  test.each<[Act, string]>([
    [connect([1], true), "gpu-1 connected"],
    [connect([1, 2], false), "gpu-1 and gpu-2 disconnected"],
    [connect([1, 2, 3], false), "3 endpoints disconnected"],
    [change(1, { enabled: false }), "gpu-1 disabled"],
    [change(1, { token_quota_percent: 40 }), "Quota of gpu-1 is 40 %"],
    [change(1, { name: "x", weight: 3 }), "gpu-1 changed"],
    [change(9, { weight: 3 }), "endpoint 9 changed"],
    [{ kind: "change", updates: [1, 2].map((id) => ({ id, fields: { token_quota_percent: 50 } })) }, "Quotas changed"],
    [{ kind: "change", updates: [1, 2].map((id) => ({ id, fields: { priority_order: id } })) }, "Ranks changed"],
    [{ kind: "create", endpoints: [NEW] }, "new added"],
    [{ kind: "create", endpoints: [NEW, NEW] }, "2 endpoints added"],
    [{ kind: "delete", ids: [3] }, "gpu-3 deleted"],
    [{ kind: "mode", mode: "least_loaded" }, "Mode is Least loaded"],
    [{ kind: "revert", number: 4 }, "Change 4 taken back"],
    [{ kind: "revert", number: 4, says: "as it was" }, "as it was"],
    [{ kind: "restore", number: 4 }, "Back to revision 4"],
  ])("%j", (act, text) => {
    expect(saying(act, before)).toBe(text);
  });

  test("a wire that was put on another endpoint", () => {
    const act: Act = {
      kind: "change",
      updates: [
        { id: 1, fields: { connected: false } },
        { id: 2, fields: { connected: true } },
      ],
    };
    expect(saying(act, before)).toBe("gpu-2 connected, gpu-1 disconnected");
  });
});

describe("what has to be asked before", () => {
  const ask = (act: Act, ...endpoints: EndpointView[]) =>
    questionBefore(act, structure(endpoints), numbersFor(endpoints).endpoints)?.title ?? null;
  const [one, two] = [endpoint(1), endpoint(2)];

  test("deleting with work in flight", () => {
    const busy = endpoint(1, { inflight: 3 });
    expect(ask({ kind: "delete", ids: [1] }, busy, two)).toBe("Delete gpu-1?");
    expect(
      questionBefore(
        { kind: "delete", ids: [1, 2] },
        structure([busy, two, endpoint(3)]),
        numbersFor([busy, two]).endpoints,
      )?.text,
    ).toBe("3 requests in flight will finish; nothing new goes there.");
    expect(ask({ kind: "delete", ids: [1] }, one, two)).toBe(null);
  });

  test("whatever leaves no receiver", () => {
    const off = endpoint(2, { connected: false });
    expect(ask(connect([1], false), one, off)).toBe("Disconnect the last endpoint?");
    expect(ask(connect([1, 2], false), one, two)).toBe("Disconnect all endpoints that receive traffic?");
    expect(ask(change(1, { enabled: false }), one, off)).toBe("Disable the last endpoint?");
    expect(ask({ kind: "delete", ids: [1] }, one, off)).toBe("Delete gpu-1?");
    expect(ask(connect([1], false), one, two)).toBe(null);
    expect(ask(connect([2], false), off)).toBe(null);
    expect(ask({ kind: "delete", ids: [2] }, off)).toBe(null);
  });

  test("verifying certificates no more", () => {
    expect(ask(change(1, { verify_tls: false }), one, two)).toBe("Stop verifying the certificate of gpu-1?");
    expect(ask(change(1, { verify_tls: true }), endpoint(1, { verify_tls: false }), two)).toBe(null);
    expect(ask(change(1, { verify_tls: false }), endpoint(1, { verify_tls: false }), two)).toBe(null);
  });

  test("another address or key of what is connected", () => {
    expect(ask(change(1, { base_url: "http://other/v1" }), one, two)).toBe("Change where gpu-1 points?");
    expect(ask(change(1, { api_key: "sk" }), one, two)).toBe("Set the key of gpu-1?");
    expect(ask(change(1, { api_key: "" }), one, two)).toBe("Remove the key of gpu-1?");
    expect(ask(change(1, { base_url: one.base_url }), one, two)).toBe(null);
    const off = endpoint(1, { connected: false });
    expect(ask(change(1, { base_url: "http://other/v1", api_key: "sk" }), off, two)).toBe(null);
  });

  test("one of several updates is enough", () => {
    const updates = [
      { id: 1, fields: { weight: 2 } },
      { id: 2, fields: { verify_tls: false } },
    ];
    expect(ask({ kind: "change", updates }, one, two)).toBe("Stop verifying the certificate of gpu-2?");
  });

  test.each<Act>([
    connect([1], true),
    change(1, { token_quota_percent: 3, weight: 2, max_concurrent: 9, models: [], name: "x", enabled: true }),
    { kind: "create", endpoints: [NEW] },
    { kind: "revert", number: 1 },
    { kind: "restore", number: 1 },
  ])("everything else happens, with Undo: %j", (act) => {
    expect(ask(act, one, two)).toBe(null);
  });
});

describe("mine or theirs", () => {
  const conflict = (changed: Conflict["changed"]): Conflict => ({
    detail: "changed",
    revision: 5,
    state: state([endpoint(1)]),
    changed,
  });

  test.each<[string, Act, Conflict["changed"], { name: string; mine: string; theirs: string }]>([
    [
      "endpoints.1.token_quota_percent",
      change(1, { token_quota_percent: 40 }),
      { "endpoints.1.token_quota_percent": { before: 10, after: 30 } },
      { name: "gpu-1: Token quota", mine: "40 %", theirs: "30 %" },
    ],
    [
      "endpoints.7",
      change(7, { weight: 2 }),
      { "endpoints.7": { before: "gpu-7", after: null } },
      { name: "endpoint 7", mine: "change it", theirs: "was deleted" },
    ],
    [
      "endpoints.1.name",
      { kind: "delete", ids: [1] },
      { "endpoints.1.name": { before: "a", after: "b" } },
      { name: "gpu-1: Name", mine: "delete it", theirs: "b" },
    ],
    [
      "routing_mode",
      { kind: "mode", mode: "random" },
      { routing_mode: { before: "priority", after: "cost" } },
      { name: "Mode", mine: "Random", theirs: "cost" },
    ],
    ["*", change(1, { weight: 2 }), {}, { name: "The configuration", mine: "change it", theirs: "changed since" }],
    [
      "endpoints.1.weight",
      { kind: "restore", number: 3 },
      { "endpoints.1.weight": { before: 1, after: 2 } },
      { name: "gpu-1: Weight", mine: "back to revision 3", theirs: "2" },
    ],
  ])("%s", (name, act, changed, words) => {
    expect(describeClash(name, act, conflict(changed))).toEqual(words);
  });

  test.each([
    ["connected", true, "yes"],
    ["connected", false, "no"],
    ["token_quota_percent", 12.5, "12.5 %"],
    ["max_concurrent", 0, "no cap"],
    ["max_concurrent", 8, "8"],
    ["api_key", "***", "another key"],
    ["api_key", "", "no key"],
    ["models", [], "none"],
    ["models", ["a", "b"], "a, b"],
    ["model_aliases", { a: "b" }, "a → b"],
    ["model_aliases", {}, "none"],
    ["name", "", "none"],
    ["name", "<b>x</b>", "<b>x</b>"],
    ["weight", null, "none"],
    ["weight", undefined, "none"],
    ["weight", 0, "0"],
  ])("%s %j is %s", (field, value, text) => {
    expect(valueInWords(field, value)).toBe(text);
  });

  test("every field an operator can set has a name for people", () => {
    for (const field of Object.keys(FIELDS).filter((each) => !each.startsWith("pos_"))) {
      expect(labelOf(field)).not.toBe(field);
    }
    expect(labelOf("something_new")).toBe("something_new");
  });
});
