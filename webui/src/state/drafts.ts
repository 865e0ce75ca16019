// The drafts of all fields: see logic/drafts.ts.

import { createStore } from "zustand/vanilla";
import type { Draft, Drafts } from "../logic/drafts";

export interface DraftsState {
  drafts: Drafts;
}

export type DraftsStore = ReturnType<typeof createDraftsStore>;

export function createDraftsStore() {
  return createStore<DraftsState>(() => ({ drafts: new Map() }));
}

/** Null takes it away. */
export function setDraft(store: DraftsStore, key: string, draft: Draft | null): void {
  const drafts = new Map(store.getState().drafts);
  if (draft) drafts.set(key, draft);
  else drafts.delete(key);
  store.setState({ drafts });
}
