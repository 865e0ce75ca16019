// What was typed into a field and is not saved: it outlives errors, ticks, selections and the end of a session, and
// knows what was there when it began, so that nobody is silently overwritten.

import { sameValue } from "./fields";

export interface Draft {
  text: string;
  /** What the field held when editing began, of every endpoint it is about. */
  from: readonly unknown[];
  /** The revision that was seen then. */
  revision: number;
  problem?: string;
  /** On its way to the server. */
  saving: boolean;
}

/** By endpoints and field: "7.name", "1,2,3.weight". */
export type Drafts = ReadonlyMap<string, Draft>;

export function draftKey(ids: readonly number[], field: string): string {
  return `${ids.join(",")}.${field}`;
}

/** What is typed now, on top of what was; a new draft remembers where it began. */
export function typed(
  before: Draft | undefined,
  text: string,
  seen: { values: readonly unknown[]; revision: number },
): Draft {
  return {
    text,
    from: before?.from ?? seen.values,
    revision: before?.revision ?? seen.revision,
    saving: before?.saving ?? false,
  };
}

/** Whether somebody else changed the field since the draft began, to something the draft does not say itself. */
export function changedMeanwhile(draft: Draft | undefined, now: readonly unknown[], wanted: unknown): boolean {
  if (!draft || draft.saving) return false;
  return now.some((value, place) => !sameValue(value, draft.from[place]) && !sameValue(value, wanted));
}

/** The draft goes on from what is there now: the operator has seen it. */
export function rebased(draft: Draft, seen: { values: readonly unknown[]; revision: number }): Draft {
  const { problem: _, ...rest } = draft;
  return { ...rest, from: seen.values, revision: seen.revision };
}
