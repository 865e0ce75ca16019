// What just happened, with a way back.

import { Button } from "./parts";

export interface Toast {
  id: number;
  tone: "plain" | "good" | "bad";
  text: string;
  /** A newer one about the same takes its place: Undo is always of the last act. */
  about?: "act";
  /** A button on it, such as Undo. */
  action?: { label: string; run: () => void };
}

export function ToastList({ toasts, onDismiss }: { toasts: readonly Toast[]; onDismiss: (id: number) => void }) {
  return (
    <section className="toasts" aria-label="Notices">
      {toasts.map((toast) => (
        <div key={toast.id} className={`toast ${toast.tone}`}>
          <span className="grow">{toast.text}</span>
          {toast.action && (
            <Button
              tight
              onClick={() => {
                onDismiss(toast.id);
                toast.action?.run();
              }}
            >
              {toast.action.label}
            </Button>
          )}
          <Button tone="quiet" icon="cross" tight aria-label="Dismiss" onClick={() => onDismiss(toast.id)} />
        </div>
      ))}
    </section>
  );
}
