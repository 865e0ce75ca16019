// What an action is, and how keys name it. The list itself is in list.ts; keys, buttons, menus, palette, table and help
// are all made from it, so that every act can be reached in every way.

import type { Place } from "../logic/layout";
import type { Structure } from "../logic/structure";
import type { Editor } from "../state/editor";

/** Where it can be found with a pointer, beside the palette and the help, which hold all. */
export type Spot = "toolbar" | "node" | "wire" | "canvas" | "table" | "inspector";
export type Group = "Endpoints" | "Traffic" | "Canvas" | "Views" | "Editor";

/** What the canvas can be asked to do; nothing while the table is shown. */
export interface CanvasPort {
  fit: () => void;
  zoomIn: () => void;
  zoomOut: () => void;
  /** Bring a node into view. */
  show: (nodeId: string) => void;
  /** The middle of what is seen, in the canvas's own measure. */
  centre: () => Place;
}

export interface ActionContext {
  editor: Editor;
  structure: Structure;
  /** The endpoints it is about: those selected, or the one under the pointer. */
  ids: readonly number[];
  canvas: CanvasPort | null;
  /** Where on the canvas the pointer is, when it is there. */
  at?: Place;
}

export interface Action {
  id: string;
  title: string;
  group: Group;
  /** One sentence for the help. */
  does: string;
  /** As people write them: "Ctrl+Z", "Shift+Delete", "?". */
  keys: readonly string[];
  spots: readonly Spot[];
  /** True, or why not now. */
  applies: (context: ActionContext) => true | string;
  run: (context: ActionContext) => unknown;
  danger?: boolean;
}

export interface KeyPress {
  key: string;
  ctrlKey: boolean;
  metaKey: boolean;
  shiftKey: boolean;
  altKey: boolean;
}

/** A key press in the words of `Action.keys`. Ctrl stands for the Mac's command key too. */
export function nameOf(press: KeyPress): string {
  const key = press.key === " " ? "Space" : press.key.length === 1 ? press.key.toUpperCase() : press.key;
  const isLetter = /^[A-Z]$/.test(key) || press.key.length > 1;
  return [
    press.ctrlKey || press.metaKey ? "Ctrl" : "",
    press.altKey ? "Alt" : "",
    // The shift of "?" is part of the character.
    press.shiftKey && (isLetter || key === "Space") ? "Shift" : "",
    key,
  ]
    .filter(Boolean)
    .join("+");
}

export function actionFor(press: KeyPress, actions: readonly Action[]): Action | undefined {
  const name = nameOf(press);
  return actions.find((each) => each.keys.includes(name));
}

/** Keys as the reader's system writes them. */
export function shownKeys(keys: string, mac: boolean): string {
  if (!mac) return keys.replace("Delete", "Del");
  return keys.replace("Ctrl+", "⌘").replace("Shift+", "⇧").replace("Alt+", "⌥").replace("Delete", "⌦");
}
