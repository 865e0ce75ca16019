// The login: the whole page at first, a dialog above the work when a session ends while somebody is at it.

import { type FormEvent, useState } from "react";
import { ApiProblem } from "../api/client";
import { Button, Dialog, Field } from "../design/parts";
import { useEditor } from "../state/context";

export function Login({ again }: { again: boolean }) {
  if (again) {
    return (
      <Dialog title="The session has ended" onClose={() => {}}>
        <p className="muted">Log in again to go on. Nothing you typed is lost.</p>
        <LoginForm />
      </Dialog>
    );
  }
  return (
    <main className="login">
      <section className="card login-card" aria-labelledby="login-title">
        <div className="brand-mark" aria-hidden="true" />
        <h1 id="login-title">LLM balancer</h1>
        <p className="muted">
          Log in with the admin token: <span className="mono">LB_ADMIN_TOKEN</span>, or the one the balancer wrote when
          it first started.
        </p>
        <LoginForm />
      </section>
    </main>
  );
}

function LoginForm() {
  const editor = useEditor();
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<string>();
  const [busy, setBusy] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (!token.trim()) return setProblem("Type the admin token.");
    setBusy(true);
    try {
      await editor.login(token.trim());
    } catch (error) {
      setBusy(false);
      setProblem(wording(error));
    }
  };
  return (
    <form className="stack login-form" onSubmit={submit}>
      <Field label="Admin token" problem={problem}>
        {(control) => (
          <input
            {...control}
            className="input"
            type="password"
            name="token"
            autoComplete="current-password"
            // biome-ignore lint/a11y/noAutofocus: there is nothing else on this page
            autoFocus
            value={token}
            onChange={(event) => {
              setToken(event.target.value);
              setProblem(undefined);
            }}
          />
        )}
      </Field>
      <Button type="submit" tone="primary" disabled={busy}>
        Log in
      </Button>
    </form>
  );
}

function wording(error: unknown): string {
  if (error instanceof ApiProblem && error.status === 401) return "This is not the admin token.";
  return error instanceof Error ? error.message : String(error);
}
