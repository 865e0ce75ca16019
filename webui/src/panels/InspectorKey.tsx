// The API key: only ever sent. What is there shows by its ends; it can be replaced or removed.

import { useState } from "react";
import { Button, Field } from "../design/parts";
import { type Act, named } from "../logic/acts";
import type { EndpointConfig } from "../logic/structure";
import { useEditor } from "../state/context";
import { problemIn } from "./InspectorEdit";

export function ApiKey({ endpoint, onTyped }: { endpoint: EndpointConfig; onTyped: (key: string | null) => void }) {
  const editor = useEditor();
  const [typed, setTyped] = useState<string | null>(null);
  const [problem, setProblem] = useState<string>();
  const [base, setBase] = useState(0);
  const [busy, setBusy] = useState(false);
  const type = (text: string | null) => {
    setTyped(text);
    setProblem(undefined);
    onTyped(text || null);
  };
  const begin = () => {
    setBase(editor.revision);
    type("");
  };
  const save = async (key: string, seen: number) => {
    setBusy(true);
    const says = `Key of ${named([endpoint.id], editor.structure)} ${key ? "replaced" : "removed"}`;
    try {
      const act: Act = { kind: "change", updates: [{ id: endpoint.id, fields: { api_key: key } }] };
      // What was typed stays where the question was answered with no.
      if (await editor.submit(act, { base: seen, says })) type(null);
    } catch (error) {
      setProblem(problemIn(error, "api_key"));
    } finally {
      setBusy(false);
    }
  };
  if (typed !== null) {
    return (
      <form
        className="edit"
        onSubmit={(event) => {
          event.preventDefault();
          if (typed.trim()) void save(typed.trim(), base);
          else setProblem("Type the new key, or cancel.");
        }}
      >
        <Field label="API key" problem={problem} hint="Sent once and never shown again.">
          {(control) => (
            <div className="row">
              <input
                {...control}
                className="input mono"
                type="password"
                autoComplete="off"
                // biome-ignore lint/a11y/noAutofocus: it takes the place of the button that was pressed
                autoFocus
                value={typed}
                onChange={(event) => type(event.target.value)}
                onKeyDown={(event) => {
                  if (event.key !== "Escape") return;
                  event.stopPropagation();
                  type(null);
                }}
              />
              <Button type="submit" disabled={busy}>
                Save
              </Button>
              <Button tone="quiet" icon="cross" aria-label="Keep the key as it is" onClick={() => type(null)} />
            </div>
          )}
        </Field>
      </form>
    );
  }
  return (
    <div className="field" role="group" aria-label="API key">
      <span className="label">API key</span>
      <div className="key-row">
        <span className={`grow truncate${endpoint.has_api_key ? " mono" : " muted"}`}>
          {endpoint.has_api_key ? endpoint.api_key_preview : "none"}
        </span>
        <Button tight tone="quiet" aria-label={endpoint.has_api_key ? "Replace the key" : "Set a key"} onClick={begin}>
          {endpoint.has_api_key ? "Replace" : "Set"}
        </Button>
        {endpoint.has_api_key && (
          <Button
            tight
            tone="quiet"
            aria-label="Remove the key"
            disabled={busy}
            onClick={() => void save("", editor.revision)}
          >
            Remove
          </Button>
        )}
      </div>
      {problem && (
        <span className="problem" role="alert">
          {problem}
        </span>
      )}
    </div>
  );
}
