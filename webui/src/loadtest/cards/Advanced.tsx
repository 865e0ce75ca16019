// What a card rarely needs: folded, and unfolded by itself where it has a problem.

import { useState } from "react";
import { problemAt } from "../logic/card";
import { CheckField, type Editing, TextField } from "./fields";

const FOLDED = [
  "system_prompt",
  "temperature",
  "priority",
  "warmup_seconds",
  "drain_seconds",
  "timeout_seconds",
  "stop.errors",
  "stop.tokens",
  "shared_prefix_tokens",
  "shared_prefix_groups",
  "seed",
];

/** `running`: only what can be changed while the card runs. */
export function Advanced({ edit, running }: { edit: Editing; running?: boolean }) {
  const [open, setOpen] = useState(false);
  const troubled = FOLDED.some((path) => problemAt(edit.problems, path));
  return (
    <details
      className="card-more"
      open={open || troubled}
      onToggle={({ currentTarget }) => setOpen(currentTarget.open)}
    >
      <summary>Advanced</summary>
      <div className="card-group">
        <TextField edit={edit} name="system_prompt" label="System prompt" lines={2} />
        <div className="card-pair">
          <TextField edit={edit} name="temperature" label="Temperature" placeholder="not sent" numeric />
          <TextField edit={edit} name="priority" label="Priority" placeholder="not sent" numeric />
          <TextField
            edit={edit}
            name="stopErrors"
            path="stop.errors"
            label="Stop after failures"
            placeholder="never"
            numeric
          />
          <TextField
            edit={edit}
            name="stopTokens"
            path="stop.tokens"
            label="Stop after output tokens"
            placeholder="never"
            numeric
          />
        </div>
        {!running && <Fixed edit={edit} />}
      </div>
    </details>
  );
}

/** What stays as it is once the card runs. */
function Fixed({ edit }: { edit: Editing }) {
  return (
    <>
      <div className="card-pair">
        <TextField edit={edit} name="warmup_seconds" label="Warm-up, in seconds" numeric />
        <TextField edit={edit} name="drain_seconds" label="Drain, in seconds" numeric />
        <TextField edit={edit} name="timeout_seconds" label="Longest silence, in seconds" numeric />
        <TextField edit={edit} name="seed" label="Seed" numeric />
        <TextField
          edit={edit}
          name="shared_prefix_tokens"
          label="Shared prefix, in tokens"
          placeholder="none"
          numeric
        />
        <TextField edit={edit} name="shared_prefix_groups" label="Groups of it" numeric />
      </div>
      <div className="card-checks">
        <CheckField edit={edit} name="unique_prefix" label="Unique prefix, so that no cache answers" />
        <CheckField edit={edit} name="verify_tls" label="Verify the certificate" />
        <CheckField edit={edit} name="include_usage" label="Ask streams for token counts" />
        <CheckField edit={edit} name="ignore_eos" label="Ignore end of text (vLLM)" />
      </div>
    </>
  );
}
