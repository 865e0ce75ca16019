// Keys for the whole page: from the registry, unless somebody is typing or a dialog is open. And what is pasted.

import { useLayoutEffect } from "react";
import { ACTIONS } from "../actions/list";
import { actionFor } from "../actions/registry";
import { copies, readExport } from "../logic/export";
import { readPasted } from "../logic/paste";
import { useEditor } from "../state/context";
import type { Editor } from "../state/editor";
import { contextOf, runAction } from "./acting";

export function useKeys(): void {
  const editor = useEditor();
  // Not useEffect: a page that can be seen takes keys.
  useLayoutEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.isComposing || busy(editor, event.target)) return;
      const action = actionFor(event, ACTIONS);
      if (!action || (onControl(event) && ["Enter", "Space"].includes(event.key === " " ? "Space" : event.key))) return;
      // Text that is selected is what Ctrl+C means then.
      if (action.id === "copy" && !getSelection()?.isCollapsed) return;
      event.preventDefault();
      void runAction(action, contextOf(editor));
    };
    const onPaste = (event: ClipboardEvent) => {
      if (busy(editor, event.target)) return;
      const text = event.clipboardData?.getData("text/plain") ?? "";
      if (paste(editor, text)) event.preventDefault();
    };
    document.addEventListener("keydown", onKey);
    document.addEventListener("paste", onPaste);
    return () => {
      document.removeEventListener("keydown", onKey);
      document.removeEventListener("paste", onPaste);
    };
  }, [editor]);
}

function busy(editor: Editor, target: EventTarget | null): boolean {
  if (editor.session.getState().phase !== "ready" || document.querySelector("dialog[open]")) return true;
  return target instanceof HTMLElement && target.closest("input, textarea, select, [contenteditable]") !== null;
}

function onControl(event: KeyboardEvent): boolean {
  return event.target instanceof HTMLElement && event.target.closest("button, a, summary, [role=button]") !== null;
}

/** Endpoints that were copied, or an address. */
function paste(editor: Editor, text: string): boolean {
  if (text.trimStart().startsWith("{")) {
    try {
      const endpoints = copies(readExport(text).endpoints, editor.structure);
      editor.submit({ kind: "create", endpoints }).catch((error) => editor.complain(error));
      return true;
    } catch {
      return false;
    }
  }
  if (!readPasted(text)) return false;
  editor.ui.setState({ dialog: { kind: "add", connect: true, pasted: text } });
  return true;
}
