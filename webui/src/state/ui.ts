// What this operator looks at: selection, views, dialogs, toasts. Nothing here is saved but the theme and the drawer.

import { createStore } from "zustand/vanilla";
import type { Toast } from "../design/Toasts";
import type { Theme } from "../design/theme";
import type { Act, Question } from "../logic/acts";
import { endpointIdOf } from "../logic/graph";
import type { Place } from "../logic/layout";
import type { Suggestion } from "../logic/loadtest";

export type View = "canvas" | "table";
export type DrawerTab = "requests" | "charts" | "changes" | "tokens" | "settings";
export type { Theme, Toast };

export interface ConflictChoice {
  act: Act;
  /** What both changed, by the names of the API: "endpoints.1.token_quota_percent". */
  fields: { name: string; mine: string; theirs: string }[];
  decide: (choice: "mine" | "theirs") => void;
}

/** What has to be decided before something can go on. */
export type Asked = { id: number } & (
  | { kind: "ask"; question: Question; decide: (yes: boolean) => void }
  | { kind: "conflict"; choice: ConflictChoice }
);

export type Dialog =
  | { kind: "mode"; mode: string }
  | { kind: "add"; at?: Place; connect: boolean; pasted?: string }
  | { kind: "import"; text: string }
  | { kind: "help" }
  | { kind: "palette" };

export interface Menu {
  x: number;
  y: number;
  /** What it is about: a node's id, a wire's id, or null for the canvas. */
  target: string | null;
  at: Place;
}

export interface UiState {
  view: View;
  drawer: DrawerTab | null;
  /** Only requests and charts of this endpoint; null: all. */
  drawerEndpoint: number | null;
  /** Ids of nodes ("endpoint-7") and wires ("wire-7"). */
  selection: ReadonlySet<string>;
  /** The node the keyboard is at. */
  cursor: string | null;
  inspecting: boolean;
  dialog: Dialog | null;
  /** One after the other above any dialog, which keeps what was typed into it. */
  asked: readonly Asked[];
  menu: Menu | null;
  toasts: readonly Toast[];
  /** An act that is being considered: its consequences are shown, nothing is done yet. */
  preview: Act | null;
  /** The node a wire is being drawn from by clicks or keys. */
  wiringFrom: string | null;
  /** The node that the arrow keys move, and where it was. */
  grabbed: { node: string; from: Place } | null;
  /** What the load tester proposes for an endpoint. */
  suggestion: Suggestion | null;
  snap: boolean;
  filter: string;
  theme: Theme;
  /** The last thing a screen reader is told. */
  announcement: string;
}

export function createUiStore(theme: Theme) {
  return createStore<UiState>(() => ({
    view: "canvas",
    drawer: null,
    drawerEndpoint: null,
    selection: new Set(),
    cursor: null,
    inspecting: false,
    dialog: null,
    asked: [],
    menu: null,
    toasts: [],
    preview: null,
    wiringFrom: null,
    grabbed: null,
    suggestion: null,
    snap: true,
    filter: "",
    theme,
    announcement: "",
  }));
}

/** Ids of the endpoints in a selection, whether by node or by wire; each once. */
export function selectedEndpoints(selection: ReadonlySet<string>): number[] {
  return [...new Set([...selection].flatMap((each) => endpointIdOf(each) ?? []))];
}
