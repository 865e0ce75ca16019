// What just happened in the editor.

import { ToastList } from "../design/Toasts";
import { useEditor, useUi } from "../state/context";

export function Toasts() {
  const editor = useEditor();
  const toasts = useUi((state) => state.toasts);
  return <ToastList toasts={toasts} onDismiss={(id) => editor.dismiss(id)} />;
}
