// What just happened, with a way back.

import { Button } from "../design/parts";
import { useEditor, useUi } from "../state/context";

export function Toasts() {
  const editor = useEditor();
  const toasts = useUi((state) => state.toasts);
  return (
    <section className="toasts" aria-label="Notices">
      {toasts.map((toast) => (
        <div key={toast.id} className={`toast ${toast.tone}`}>
          <span className="grow">{toast.text}</span>
          {toast.action && (
            <Button
              tight
              onClick={() => {
                editor.dismiss(toast.id);
                toast.action?.run();
              }}
            >
              {toast.action.label}
            </Button>
          )}
          <Button tone="quiet" icon="cross" tight aria-label="Dismiss" onClick={() => editor.dismiss(toast.id)} />
        </div>
      ))}
    </section>
  );
}
