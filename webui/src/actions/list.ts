// Every act of the editor, once.

import { ENDPOINTS } from "./endpoints";
import type { Action } from "./registry";
import { TRAFFIC } from "./traffic";
import { CANVAS, VIEWS } from "./views";
import { EDITOR } from "./work";

export const ACTIONS: readonly Action[] = [...ENDPOINTS, ...TRAFFIC, ...CANVAS, ...VIEWS, ...EDITOR];

export function action(id: string): Action {
  const found = ACTIONS.find((each) => each.id === id);
  if (!found) throw new Error(`no action "${id}"`);
  return found;
}
