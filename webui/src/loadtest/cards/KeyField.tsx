// The API key: typed here, held by the server's memory, known to the page by its id alone.

import { useState } from "react";
import { Button, Field } from "../../design/parts";
import { usePage, usePageState } from "../context";
import type { Editing } from "./fields";

export function KeyField({ edit }: { edit: Editing }) {
  const page = usePage();
  const keys = usePageState((state) => state.keys);
  const [typed, setTyped] = useState("");
  const [problem, setProblem] = useState<string>();
  const held = keys.find((each) => each.id === edit.form.keyId);
  const hold = async () => {
    const key = typed.trim();
    if (!key) return;
    // Gone from here before it is sent.
    setTyped("");
    try {
      await page.holdKey(edit.form.uid, key);
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    }
  };
  if (held) {
    return (
      <div className="field">
        <span className="label">API key</span>
        <div className="row key-held">
          <code className="mono truncate grow">{held.preview}</code>
          <Button tight onClick={() => edit.onChange({ keyId: "" })}>
            Another
          </Button>
          <Button tight onClick={() => void page.forgetKey(held.id)}>
            Forget
          </Button>
        </div>
        <span className="hint">Held until the load tester stops; never shown, stored or exported.</span>
      </div>
    );
  }
  return (
    <Field
      label="API key"
      hint={keys.length ? "Typed anew, or one that is held." : "Empty: none is sent."}
      problem={problem}
    >
      {(control) => (
        <div className="row">
          <input
            {...control}
            className="input mono"
            type="password"
            autoComplete="off"
            data-field="key"
            value={typed}
            onChange={({ target }) => {
              setTyped(target.value);
              setProblem(undefined);
            }}
            onBlur={() => void hold()}
            onKeyDown={(event) => {
              if (event.key === "Enter") void hold();
            }}
          />
          {keys.length > 0 && (
            <select
              className="input key-choice"
              aria-label="A key that is held"
              value=""
              onChange={({ target }) => edit.onChange({ keyId: target.value })}
            >
              <option value="">held …</option>
              {keys.map((each) => (
                <option key={each.id} value={each.id}>
                  {[each.label, each.preview].filter(Boolean).join(" · ")}
                </option>
              ))}
            </select>
          )}
        </div>
      )}
    </Field>
  );
}
