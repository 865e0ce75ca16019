// Two operators and a balancer that comes and goes, at random: whatever happens, in the end everybody sees the same.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Act } from "../src/logic/acts";
import type { Editor } from "../src/state/editor";
import { endpoint, generator } from "./made";
import { meet } from "./met";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

type Random = ReturnType<typeof generator>;

function anyAct(editor: Editor, random: Random): Act {
  const { endpoints } = editor.structure;
  const ids = endpoints.map((each) => each.id);
  const some = ids.filter(() => random.next() < 0.4);
  const fields = () =>
    random.pick([
      { connected: random.next() < 0.5 },
      { enabled: random.next() < 0.7 },
      { token_quota_percent: random.whole(0, 100) },
      { priority_order: random.whole(1, 5), weight: random.whole(1, 9) },
      { weight: -1 },
    ]);
  return random.pick<() => Act>([
    () => ({ kind: "change", updates: some.map((id) => ({ id, fields: fields() })) }),
    () => ({ kind: "change", updates: some.map((id) => ({ id, fields: fields() })) }),
    () => ({ kind: "delete", ids: endpoints.length > 2 ? [random.pick(ids)] : [] }),
    () => ({ kind: "create", endpoints: [{ name: `new-${random.whole(0, 1e9)}`, base_url: "http://new/v1" }] }),
    () => ({ kind: "mode", mode: random.pick(["percentage", "priority", "random"]) }),
  ])();
}

/** Answers every question that stands, one way or the other. */
function decide(editor: Editor, random: Random): void {
  for (const asked of editor.ui.getState().asked) {
    if (asked.kind === "ask") asked.decide(random.next() < 0.7);
    else asked.choice.decide(random.pick(["mine", "theirs"] as const));
  }
}

test.each(Array.from({ length: 30 }, (_, seed) => seed))("seed %i", async (seed) => {
  const random = generator(seed);
  const { server, editor } = await meet(endpoint(1), endpoint(2), endpoint(3), endpoint(4));
  server.before = () => new Promise((resolve) => setTimeout(resolve, random.whole(0, 30)));
  const results: Promise<unknown>[] = [];
  for (let round = 0; round < 40; round += 1) {
    const what = random.next();
    if (what < 0.55) results.push(editor.submit(anyAct(editor, random)).catch(() => null));
    else if (what < 0.65) results.push(editor.undo());
    else if (what < 0.72) results.push(editor.redo());
    else if (what < 0.8) {
      const there = server.state.endpoints;
      if (there.length) server.change(random.pick(there).id, { weight: random.whole(1, 9), name: `their-${round}` });
    } else if (what < 0.84) server.down = true;
    else if (what < 0.9) {
      const { id } = random.pick(editor.structure.endpoints);
      editor.move({ [`endpoint-${id}`]: { x: random.whole(0, 900), y: random.whole(0, 900) } });
    } else {
      server.down = false;
      results.push(editor.refresh().catch(() => null));
    }
    await vi.advanceTimersByTimeAsync(random.whole(0, 60));
    decide(editor, random);
  }
  server.down = false;
  for (let round = 0; round < 60; round += 1) {
    results.push(editor.refresh().catch(() => null));
    await vi.advanceTimersByTimeAsync(200);
    decide(editor, random);
  }
  server.before = () => {};
  await Promise.all(results);
  await editor.refresh();
  expect(editor.flow.getState().pending).toEqual([]);
  expect(editor.flow.getState().moves).toEqual({});
  expect(editor.ui.getState().asked).toEqual([]);
  expect(editor.revision).toBe(server.state.revision);
  const seen = editor.structure.endpoints.map(({ id, name, weight, connected, enabled, pos_x, pos_y }) => ({
    ...{ id, name, weight, connected, enabled, pos_x, pos_y },
  }));
  expect(server.state.endpoints).toMatchObject(seen);
  expect(editor.structure.mode).toBe(server.state.routing_mode);
  expect(["saved", "failed"]).toContain(editor.flow.getState().saving);
});
