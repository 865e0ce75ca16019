// What the page knows and shows, as one store.

import { createStore } from "zustand/vanilla";
import type { Toast } from "../../design/Toasts";
import type { Theme } from "../../design/theme";
import type { CardForm, Problems } from "../logic/card";
import type { EditorLink } from "../logic/links";
import type { About, Definition, Headline, HeldKey, Preset, Profile, PromptSetView } from "../types";
import type { Watched } from "./watching";

export type View =
  | { kind: "cards" }
  | { kind: "run"; id: string }
  | { kind: "history" }
  | { kind: "compare"; first: string; second: string };

export type Dialog =
  | { kind: "help" }
  | { kind: "profile" }
  | { kind: "change"; place: number }
  | { kind: "ask"; title: string; words: string; does: string; decide: (yes: boolean) => void };

export interface Library {
  about: About;
  definitions: readonly Definition[];
  presets: readonly Preset[];
}

export interface PageState {
  phase: "starting" | "signedOut" | "ready";
  /** Why the server is not there; empty: it is. */
  unreachable: string;
  needsToken: boolean;
  library: Library | null;
  profiles: readonly Profile[];
  keys: readonly HeldKey[];
  promptSets: readonly PromptSetView[];
  cards: readonly CardForm[];
  order: "together" | "in_turn";
  paired: boolean;
  runName: string;
  /** Problems of each card by its uid. */
  problems: ReadonlyMap<string, Problems>;
  /** What belongs to no field of any card. */
  problem: string;
  starting: boolean;
  active: readonly Headline[];
  run: Watched | null;
  paused: boolean;
  view: View;
  /** Grows with everything that changes the history. */
  historyChanges: number;
  links: Readonly<Record<string, EditorLink>>;
  dialog: Dialog | null;
  toasts: readonly Toast[];
  announcement: string;
  theme: Theme;
}

export function createPageStore(theme: Theme) {
  return createStore<PageState>(() => ({
    phase: "starting",
    unreachable: "",
    needsToken: false,
    library: null,
    profiles: [],
    keys: [],
    promptSets: [],
    cards: [],
    order: "together",
    paired: false,
    runName: "",
    problems: new Map(),
    problem: "",
    starting: false,
    active: [],
    run: null,
    paused: false,
    view: { kind: "cards" },
    historyChanges: 0,
    links: {},
    dialog: null,
    toasts: [],
    announcement: "",
    theme,
  }));
}

export type PageStore = ReturnType<typeof createPageStore>;
