// Running an action from a view: with the present selection, the canvas if there is one, and a word when it cannot be.

import { createStore } from "zustand/vanilla";
import type { Action, ActionContext, CanvasPort } from "../actions/registry";
import type { Place } from "../logic/layout";
import { useEditor } from "../state/context";
import type { Editor } from "../state/editor";
import { selectedEndpoints } from "../state/ui";

/** The canvas that is shown, null while there is none. It announces itself. `fitted` counts how often all was shown. */
export const canvasPort = createStore<{ port: CanvasPort | null; fitted: number }>(() => ({ port: null, fitted: 0 }));

export function contextOf(editor: Editor, ids?: readonly number[], at?: Place): ActionContext {
  const { selection, cursor } = editor.ui.getState();
  const structure = editor.structure;
  const selected = selectedEndpoints(selection.size || !cursor ? selection : new Set([cursor]));
  const known = new Set(structure.endpoints.map((each) => each.id));
  return {
    editor,
    structure,
    ids: (ids ?? selected).filter((id) => known.has(id)),
    canvas: canvasPort.getState().port,
    ...(at ? { at } : {}),
  };
}

export async function runAction(action: Action, context: ActionContext): Promise<void> {
  const applies = action.applies(context);
  if (applies !== true) {
    context.editor.announce(applies);
    return;
  }
  try {
    await action.run(context);
  } catch (error) {
    context.editor.complain(error);
  }
}

export function useAct() {
  const editor = useEditor();
  return {
    run: (action: Action, ids?: readonly number[], at?: Place) => void runAction(action, contextOf(editor, ids, at)),
    context: (ids?: readonly number[]) => contextOf(editor, ids),
  };
}
