// The login: the whole page at first, a dialog above the work when a session ends while somebody is at it.

import { type FormEvent, type ReactNode, useState } from "react";
import { ApiProblem } from "../api/http";
import { Button, Dialog, Field } from "./parts";

interface Props {
  /** What is logged in to. */
  title: string;
  /** What the token is called: "Admin token". */
  token: string;
  /** Where to find it. */
  children: ReactNode;
  /** Raises ApiProblem: 401 for a wrong token. */
  onLogin: (token: string) => Promise<void>;
  /** A session has ended; what is below stays as it is. */
  again: boolean;
}

export function LoginPage({ title, token, children, onLogin, again }: Props) {
  if (again) {
    return (
      <Dialog title="The session has ended">
        <p className="muted">Log in again to go on. Nothing you typed is lost.</p>
        <LoginForm label={token} onLogin={onLogin} />
      </Dialog>
    );
  }
  return (
    <main className="login">
      <section className="card login-card" aria-labelledby="login-title">
        <div className="brand-mark" aria-hidden="true" />
        <h1 id="login-title">{title}</h1>
        <p className="muted">{children}</p>
        <LoginForm label={token} onLogin={onLogin} />
      </section>
    </main>
  );
}

function LoginForm({ label, onLogin }: { label: string; onLogin: (token: string) => Promise<void> }) {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<string>();
  const [busy, setBusy] = useState(false);
  const name = `the ${label.toLowerCase()}`;
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (!token.trim()) return setProblem(`Type ${name}.`);
    setBusy(true);
    try {
      await onLogin(token.trim());
    } catch (error) {
      setBusy(false);
      const wrong = error instanceof ApiProblem && error.status === 401;
      setProblem(wrong ? `This is not ${name}.` : error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <form className="stack login-form" onSubmit={submit}>
      <Field label={label} problem={problem}>
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
