// Lists of tests: those under way and those that are over come by two questions.

import type { Headline } from "../types";

/** Each test once: one that was under way at the first question may be over at the second. */
export function listed(active: readonly Headline[], past: readonly Headline[]): Headline[] {
  const over = new Set(past.map((each) => each.id));
  return [...active.filter((each) => !over.has(each.id)), ...past];
}
