// Acts behind other acts: one's own changes are no conflict, and nobody else's are overwritten unseen.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { endpoint } from "./made";
import { asked, askedOf, change, meet, settle, toastsOf } from "./met";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("a field changed again before the first change is saved is no conflict with oneself", async () => {
  const { server, editor } = await meet(endpoint(1));
  const base = editor.revision;
  const acts = [2, 3, 4].map((weight) => editor.submit(change(1, { weight }), { base }));
  await settle();
  expect(askedOf(editor)).toBe(null);
  expect(await Promise.all(acts)).toEqual([true, true, true]);
  expect(server.of(1).weight).toBe(4);
  expect(toastsOf(editor).join()).not.toContain("another operator");
});

test("an act that waited behind another is measured by what was seen when it began", async () => {
  const { server, editor } = await meet(endpoint(1), endpoint(2));
  server.down = true;
  const first = editor.submit(change(1, { weight: 2 }));
  const second = editor.submit(change(2, { weight: 3 }));
  await settle();
  server.change(2, { weight: 7 });
  server.down = false;
  await editor.refresh();
  expect(await first).toBe(true);
  const question = await asked(editor, "conflict");
  expect(question.choice.fields).toEqual([{ name: "gpu-2: Weight", mine: "3", theirs: "7" }]);
  question.choice.decide("theirs");
  expect(await second).toBe(false);
  expect(server.of(2).weight).toBe(7);
});

test("behind a merge, what one wrote oneself is still no conflict", async () => {
  const { server, editor } = await meet(endpoint(1), endpoint(2));
  server.change(2, { name: "theirs" });
  const acts = [2, 3].map((weight) => editor.submit(change(1, { weight })));
  await settle();
  expect(askedOf(editor)).toBe(null);
  expect(await Promise.all(acts)).toEqual([true, true]);
  expect(server.of(1).weight).toBe(3);
  expect(server.of(2).name).toBe("theirs");
});
