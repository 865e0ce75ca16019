// The editor without its views against a balancer in memory: saving, conflicts, undo.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { connect } from "../src/logic/acts";
import { endpoint } from "./made";
import { asked, askedOf, change, meet, one, settle, toastsOf } from "./met";
import type { Seen } from "./server";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("saving", () => {
  test("an act is one request with the revision that was seen; the view shows it at once", async () => {
    const { server, editor } = await meet(endpoint(1, { connected: false }));
    const done = editor.submit(connect([1], true));
    expect(one(editor)?.connected).toBe(true);
    expect(editor.flow.getState().saving).toBe("saving");
    expect(await done).toBe(true);
    expect(server.writes).toEqual(["PATCH /endpoints"]);
    expect(server.seen[0]?.headers.get("if-match")).toBe('"1"');
    expect(server.of(1).connected).toBe(true);
    expect(editor.flow.getState()).toMatchObject({ saving: "saved", pending: [] });
    expect(editor.revision).toBe(2);
    expect(toastsOf(editor)).toEqual(["gpu-1 connected"]);
    expect(editor.ui.getState().announcement).toBe("gpu-1 connected");
  });

  test("acts are saved one after the other, each on what the one before made", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2), endpoint(3));
    let running = 0;
    let most = 0;
    server.before = async ({ method }: Seen) => {
      if (method === "GET") return;
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 10));
    };
    server.after = ({ method }) => {
      if (method !== "GET") running -= 1;
    };
    const acts = [1, 2, 3].map((id) => editor.submit(change(id, { weight: id + 1 })));
    expect(editor.structure.endpoints.map((each) => each.weight)).toEqual([2, 3, 4]);
    await vi.advanceTimersByTimeAsync(100);
    expect(await Promise.all(acts)).toEqual([true, true, true]);
    expect(most).toBe(1);
    expect(server.seen.filter((each) => each.method !== "GET").map((each) => each.headers.get("if-match"))).toEqual([
      '"1"',
      '"2"',
      '"3"',
    ]);
    expect(askedOf(editor)).toBe(null);
  });

  test("several at once are one request and one revision", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2), endpoint(3));
    await editor.submit(connect([1, 2], false));
    expect(server.writes).toEqual(["PATCH /endpoints"]);
    expect(server.state.revision).toBe(2);
  });

  test("nothing to change is done already", async () => {
    const { server, editor } = await meet(endpoint(1));
    expect(await editor.submit({ kind: "change", updates: [] })).toBe(true);
    expect(server.seen).toEqual([]);
    expect(toastsOf(editor)).toEqual([]);
  });

  test("a refused field is told to whoever asked, and the view goes back", async () => {
    const { editor } = await meet(endpoint(1));
    const done = editor.submit(change(1, { weight: -1 }));
    expect(one(editor)?.weight).toBe(-1);
    await expect(done).rejects.toMatchObject({
      status: 422,
      fields: [{ field: "weight", message: "must be positive" }],
    });
    expect(one(editor)?.weight).toBe(1);
    expect(editor.flow.getState()).toMatchObject({ saving: "failed", pending: [] });
    expect(editor.canUndo).toBe(false);
    expect(await editor.submit(change(1, { weight: 2 }))).toBe(true);
    expect(editor.flow.getState().saving).toBe("saved");
  });

  test("offline: it waits, is seen meanwhile, and is done when the balancer is there again", async () => {
    const { server, editor } = await meet(endpoint(1));
    server.down = true;
    const done = editor.submit(change(1, { name: "a long name that was typed" }));
    await settle();
    expect(editor.flow.getState().saving).toBe("waiting");
    expect(one(editor)?.name).toBe("a long name that was typed");
    server.down = false;
    await editor.refresh();
    expect(await done).toBe(true);
    expect(server.of(1).name).toBe("a long name that was typed");
    expect(editor.flow.getState()).toMatchObject({ saving: "saved", pending: [] });
  });

  test("an answer that was lost: what it did is not done twice, and is no conflict with oneself", async () => {
    const { server, editor } = await meet(endpoint(1));
    server.after = ({ method }) => {
      if (method === "PATCH") server.down = true;
    };
    const done = editor.submit(change(1, { weight: 2 }));
    await settle();
    expect(server.of(1).weight).toBe(2);
    server.after = () => {};
    server.down = false;
    await editor.refresh();
    expect(await done).toBe(true);
    expect(askedOf(editor)).toBe(null);
    expect(server.state.revision).toBe(2);
  });

  test("a lost answer to a create: it is there, and nobody is told that its name is taken", async () => {
    const { server, editor } = await meet(endpoint(1, { token_quota_percent: 100 }));
    server.after = ({ method }) => {
      if (method === "POST") server.down = true;
    };
    const made = { name: "new", base_url: "http://new", connected: true, token_quota_percent: 40, api_key: "k" };
    const updates = [{ id: 1, fields: { token_quota_percent: 60 } }];
    const done = editor.submit({ kind: "create", endpoints: [made], updates });
    await settle();
    server.after = () => {};
    server.down = false;
    await editor.refresh();
    expect(await done).toBe(true);
    expect(server.state.endpoints.map((each) => each.name)).toEqual(["gpu-1", "new"]);
    expect(server.writes).toEqual(["POST /batch"]);
    await editor.undo();
    expect(server.state.endpoints.map((each) => [each.name, each.token_quota_percent])).toEqual([["gpu-1", 100]]);
  });

  test("a lost answer to a delete is no deletion by somebody else", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2, { connected: true }));
    server.after = ({ method }) => {
      if (method === "DELETE") server.down = true;
    };
    const done = editor.submit({ kind: "delete", ids: [1] }, { asked: true });
    await settle();
    server.after = () => {};
    server.down = false;
    await editor.refresh();
    expect(await done).toBe(true);
    expect(editor.ui.getState().toasts.map((each) => each.text)).toEqual(["gpu-1 deleted"]);
  });

  test("what was carried out is done, even when the look after it fails", async () => {
    const { server, editor } = await meet(endpoint(1));
    server.before = ({ method }) => {
      if (method === "GET") server.down = true;
    };
    expect(await editor.submit(change(1, { weight: 2 }))).toBe(true);
    server.before = () => {};
    server.down = false;
    expect(editor.canUndo).toBe(true);
    await editor.undo();
    expect(server.of(1).weight).toBe(1);
  });

  test("what has to be asked is asked first", async () => {
    const { server, editor } = await meet(endpoint(1));
    const done = editor.submit(connect([1], false));
    const dialog = await asked(editor, "ask");
    expect(dialog.question.title).toBe("Disconnect the last endpoint?");
    expect(one(editor)?.connected).toBe(true);
    dialog.decide(false);
    expect(await done).toBe(false);
    expect(server.writes).toEqual([]);
    const again = editor.submit(connect([1], false));
    (await asked(editor, "ask")).decide(true);
    expect(await again).toBe(true);
    expect(askedOf(editor)).toBe(null);
    expect(server.of(1).connected).toBe(false);
    expect(await editor.submit(connect([1], true), { asked: true, says: "" })).toBe(true);
    expect(toastsOf(editor)).toEqual(["gpu-1 disconnected"]);
  });
});

describe("two operators", () => {
  test("disjoint changes are put together, with a word", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2));
    server.change(2, { weight: 7 });
    expect(await editor.submit(change(1, { weight: 3 }))).toBe(true);
    expect(server.of(1).weight).toBe(3);
    expect(server.of(2).weight).toBe(7);
    expect(one(editor, 2)?.weight).toBe(7);
    expect(askedOf(editor)).toBe(null);
    expect(toastsOf(editor)).toEqual(["Merged with what another operator changed meanwhile.", "gpu-1 changed"]);
  });

  test("another field of the same endpoint is disjoint", async () => {
    const { server, editor } = await meet(endpoint(1));
    server.change(1, { name: "theirs" });
    expect(await editor.submit(change(1, { weight: 3 }))).toBe(true);
    expect(server.of(1)).toMatchObject({ name: "theirs", weight: 3 });
  });

  test("the same field: mine holds when that is chosen", async () => {
    const { server, editor } = await meet(endpoint(1));
    server.change(1, { token_quota_percent: 30 });
    const done = editor.submit(change(1, { token_quota_percent: 40 }));
    const { choice } = await asked(editor, "conflict");
    expect(choice.fields).toEqual([{ name: "gpu-1: Token quota", mine: "40 %", theirs: "30 %" }]);
    expect(server.of(1).token_quota_percent).toBe(30);
    choice.decide("mine");
    expect(await done).toBe(true);
    expect(server.of(1).token_quota_percent).toBe(40);
    expect(askedOf(editor)).toBe(null);
    await editor.undo();
    expect(server.of(1).token_quota_percent).toBe(30);
  });

  test("the same field, beside something new: the question says both, and theirs leaves nothing half done", async () => {
    const { server, editor } = await meet(endpoint(1, { token_quota_percent: 100 }));
    server.change(1, { token_quota_percent: 90 });
    const updates = [{ id: 1, fields: { token_quota_percent: 60 } }];
    const add = () =>
      editor.submit({ kind: "create", endpoints: [{ name: "new", base_url: "http://new" }], updates }, { base: 1 });
    const refused = add();
    await settle();
    const asked = askedOf(editor);
    expect(asked?.kind === "conflict" && asked.choice.fields).toEqual([
      { name: "gpu-1: Token quota", mine: "60 %", theirs: "90 %" },
    ]);
    if (asked?.kind === "conflict") asked.choice.decide("theirs");
    expect(await refused).toBe(false);
    expect(server.state.endpoints).toHaveLength(1);
    const done = add();
    await settle();
    const again = askedOf(editor);
    if (again?.kind === "conflict") again.choice.decide("mine");
    expect(await done).toBe(true);
    expect(server.state.endpoints.map((each) => each.token_quota_percent)).toEqual([60, 0]);
  });

  test("the same field: theirs holds when that is chosen", async () => {
    const { server, editor } = await meet(endpoint(1));
    server.change(1, { token_quota_percent: 30 });
    const done = editor.submit(change(1, { token_quota_percent: 40 }));
    (await asked(editor, "conflict")).choice.decide("theirs");
    expect(await done).toBe(false);
    expect(server.of(1).token_quota_percent).toBe(30);
    expect(one(editor)?.token_quota_percent).toBe(30);
    expect(editor.flow.getState()).toMatchObject({ saving: "saved", pending: [] });
    expect(editor.canUndo).toBe(false);
    expect(toastsOf(editor)).toEqual([]);
  });

  test("changed once more while the question stands: asked again", async () => {
    const { server, editor } = await meet(endpoint(1));
    server.change(1, { weight: 2 });
    const done = editor.submit(change(1, { weight: 9 }));
    const first = await asked(editor, "conflict");
    server.change(1, { weight: 3 });
    first.choice.decide("mine");
    const second = await asked(editor, "conflict");
    expect(second.choice.fields[0]?.theirs).toBe("3");
    second.choice.decide("mine");
    expect(await done).toBe(true);
    expect(server.of(1).weight).toBe(9);
  });

  test("a form that was opened before a change is measured by what it had seen", async () => {
    const { server, editor } = await meet(endpoint(1));
    const base = editor.revision;
    server.change(1, { weight: 5 });
    await editor.refresh();
    expect(one(editor)?.weight).toBe(5);
    const done = editor.submit(change(1, { weight: 2 }), { base });
    (await asked(editor, "conflict")).choice.decide("theirs");
    expect(await done).toBe(false);
    expect(server.of(1).weight).toBe(5);
  });

  test("what was deleted meanwhile is told, not asked: there is nothing to choose", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2));
    server.remove(1);
    expect(await editor.submit(change(1, { weight: 5 }))).toBe(false);
    expect(askedOf(editor)).toBe(null);
    expect(toastsOf(editor)).toEqual(["gpu-1 was deleted by another operator meanwhile."]);
    expect(editor.flow.getState()).toMatchObject({ saving: "saved", pending: [] });
  });

  test("of several, what was deleted meanwhile does not hold up the others", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2), endpoint(3));
    server.remove(1);
    expect(await editor.submit(connect([1, 2], false))).toBe(true);
    expect(server.of(2).connected).toBe(false);
    await editor.refresh();
    server.remove(2);
    expect(await editor.submit({ kind: "delete", ids: [2] })).toBe(false);
    expect(askedOf(editor)).toBe(null);
  });

  test("a question stands above a dialog, which stays as it is; several are asked one after the other", async () => {
    const { server, editor } = await meet(endpoint(1));
    const typing = { kind: "import", text: "half typed" } as const;
    editor.ui.setState({ dialog: typing });
    server.change(1, { weight: 2 });
    const first = editor.submit(change(1, { weight: 9 }));
    await settle();
    const second = editor.submit(connect([1], false));
    (await asked(editor, "conflict")).choice.decide("theirs");
    (await asked(editor, "ask")).decide(true);
    expect(await Promise.all([first, second])).toEqual([false, true]);
    expect(editor.ui.getState()).toMatchObject({ dialog: typing, asked: [] });
  });

  test("an act behind a question waits for it", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2));
    server.change(1, { weight: 2 });
    const first = editor.submit(change(1, { weight: 9 }));
    const second = editor.submit(change(2, { weight: 4 }));
    const { choice } = await asked(editor, "conflict");
    expect(server.of(2).weight).toBe(1);
    choice.decide("theirs");
    expect(await Promise.all([first, second])).toEqual([false, true]);
    expect([server.of(1).weight, server.of(2).weight]).toEqual([2, 4]);
  });
});

describe("undo and redo", () => {
  test("take back the revision the act made, and bring it back", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2));
    await editor.submit(change(1, { weight: 3 }));
    await editor.submit(connect([2], false));
    expect(editor.session.getState()).toMatchObject({ canUndo: true, canRedo: false });
    await editor.undo();
    expect(server.writes.at(-1)).toBe("POST /revisions/3/revert");
    expect([server.of(1).weight, server.of(2).connected]).toEqual([3, true]);
    await editor.undo();
    expect(server.writes.at(-1)).toBe("POST /revisions/2/revert");
    expect(server.of(1).weight).toBe(1);
    expect(editor.session.getState()).toMatchObject({ canUndo: false, canRedo: true });
    await editor.redo();
    expect([server.of(1).weight, server.of(2).connected]).toEqual([3, true]);
    await editor.redo();
    expect(server.of(2).connected).toBe(false);
    expect(editor.session.getState()).toMatchObject({ canUndo: true, canRedo: false });
    expect(toastsOf(editor).at(-1)).toBe("Redone: gpu-2 disconnected");
    await editor.undo();
    expect(server.of(2).connected).toBe(true);
  });

  test("a new act forgets what was undone", async () => {
    const { editor } = await meet(endpoint(1));
    await editor.submit(change(1, { weight: 3 }));
    await editor.undo();
    await editor.submit(change(1, { weight: 4 }));
    expect(editor.canRedo).toBe(false);
  });

  test("a deleted endpoint comes back", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2));
    await editor.submit({ kind: "delete", ids: [2] });
    expect(server.state.endpoints).toHaveLength(1);
    await editor.undo();
    expect(server.of(2).name).toBe("gpu-2");
  });

  test("refused with the reason where somebody changed the same since; other steps go on", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2));
    await editor.submit(change(2, { weight: 8 }));
    await editor.submit(change(1, { weight: 3 }));
    server.change(1, { weight: 5 });
    await editor.undo();
    expect(server.of(1).weight).toBe(5);
    expect(toastsOf(editor).at(-1)).toBe('Cannot undo "gpu-1 changed": changed again since: Weight of gpu-1');
    expect(editor.flow.getState()).toMatchObject({ saving: "saved", pending: [] });
    expect(editor.canRedo).toBe(false);
    await editor.undo();
    expect(server.of(2).weight).toBe(1);
  });

  test("offline it waits", async () => {
    const { server, editor } = await meet(endpoint(1));
    await editor.submit(change(1, { weight: 3 }));
    server.down = true;
    const done = editor.undo();
    await settle();
    expect(server.of(1).weight).toBe(3);
    server.down = false;
    await editor.refresh();
    await done;
    expect(server.of(1).weight).toBe(1);
  });

  test("pressed while the act is still being saved it takes back that act", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2));
    await editor.submit(change(2, { weight: 8 }));
    const done = editor.submit(change(1, { weight: 3 }));
    expect(editor.canUndo).toBe(true);
    await editor.undo();
    await done;
    expect([server.of(1).weight, server.of(2).weight]).toEqual([1, 8]);
  });

  test("pressed twice at once it takes back two", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2));
    await editor.submit(change(1, { weight: 3 }));
    await editor.submit(change(2, { weight: 3 }));
    await Promise.all([editor.undo(), editor.undo()]);
    expect([server.of(1).weight, server.of(2).weight]).toEqual([1, 1]);
    await Promise.all([editor.redo(), editor.redo()]);
    expect([server.of(1).weight, server.of(2).weight]).toEqual([3, 3]);
  });

  test("the button on a toast takes back what the toast tells of, once", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2));
    await editor.submit(change(1, { weight: 3 }));
    const [first] = editor.ui.getState().toasts;
    expect(first?.action?.label).toBe("Undo");
    await editor.submit(change(2, { weight: 4 }));
    expect(toastsOf(editor)).toEqual(["gpu-2 changed"]);
    first?.action?.run();
    await settle();
    expect([server.of(1).weight, server.of(2).weight]).toEqual([1, 4]);
    await editor.undo();
    expect([server.of(1).weight, server.of(2).weight]).toEqual([1, 1]);
    expect(editor.canUndo).toBe(false);
    first?.action?.run();
    await settle();
    expect([server.of(1).weight, server.of(2).weight]).toEqual([1, 1]);
  });

  test("what changed nothing offers no undo", async () => {
    const { editor } = await meet(endpoint(1));
    expect(await editor.submit(change(1, { weight: 1 }))).toBe(true);
    expect(editor.canUndo).toBe(false);
    expect(editor.ui.getState().toasts.some((each) => each.action)).toBe(false);
  });

  test("with nothing to undo nothing happens", async () => {
    const { server, editor } = await meet(endpoint(1));
    await editor.undo();
    await editor.redo();
    expect(server.seen).toEqual([]);
  });
});
