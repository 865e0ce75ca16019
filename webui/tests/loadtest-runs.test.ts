// What the history lists.

import { expect, test } from "vitest";
import { listed } from "../src/loadtest/logic/runs";
import type { Headline } from "../src/loadtest/types";

const run = (id: string, state: Headline["state"]) => ({ id, state }) as Headline;

test("a test that has just ended is listed once, as it is now", () => {
  const active = [run("c", "running"), run("b", "running")];
  const past = [run("b", "done"), run("a", "done")];
  expect(listed(active, past).map(({ id, state }) => `${id} ${state}`)).toEqual(["c running", "b done", "a done"]);
});
