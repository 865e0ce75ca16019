// Whether somebody is signed in, how the line to the balancer is, and what can be undone.

import { createStore } from "zustand/vanilla";
import type { Link } from "../api/live";

export interface SessionState {
  phase: "starting" | "signedOut" | "ready";
  link: Link;
  canUndo: boolean;
  canRedo: boolean;
}

export function createSessionStore() {
  return createStore<SessionState>(() => ({
    phase: "starting",
    link: { kind: "connecting" },
    canUndo: false,
    canRedo: false,
  }));
}
