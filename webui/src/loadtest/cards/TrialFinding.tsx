// What one request, or the question for models, came to: in words, with what to do about it.

import { Button, Icon } from "../../design/parts";
import { count } from "../../logic/format";
import { milliseconds } from "../logic/words";
import type { Models, Trial } from "../types";

export function TrialFinding({ trial }: { trial: Trial }) {
  if (trial.ok) {
    const parts = [
      trial.ttft_ms === null ? "" : `first token after ${milliseconds(trial.ttft_ms)}`,
      trial.e2e_ms === null ? "" : `all of it after ${milliseconds(trial.e2e_ms)}`,
      trial.output_tokens === null ? "" : count(trial.output_tokens, "token"),
      trial.endpoint && `served by ${trial.endpoint}`,
    ].filter(Boolean);
    return (
      <p className="note good finding" role="status" data-testid="trial">
        <Icon name="check" />
        <span>
          <strong>It answers.</strong> {sentence(parts.join(", "))}
        </span>
      </p>
    );
  }
  return (
    <div className="note bad finding" role="alert" data-testid="trial">
      <Icon name="cross" />
      <div className="stack">
        <strong>{sentence(trial.meaning || "It does not answer")}</strong>
        {trial.detail && <span className="finding-detail">{trial.detail}</span>}
        {trial.advice && <span>What to do: {trial.advice}.</span>}
      </div>
    </div>
  );
}

const SHOWN = 8;

export function ModelsFinding({ models, onChoose }: { models: Models; onChoose: (model: string) => void }) {
  if (!models.ok) {
    return (
      <p className="note bad finding" role="alert">
        <Icon name="cross" />
        <span>No list of models: {models.detail}</span>
      </p>
    );
  }
  if (!models.models.length) return <p className="note">The target names no models.</p>;
  return (
    <fieldset className="model-choices">
      <legend className="small muted">{count(models.models.length, "model")}</legend>
      {models.models.slice(0, SHOWN).map((each) => (
        <Button key={each} tight className="mono" onClick={() => onChoose(each)}>
          <span className="truncate">{each}</span>
        </Button>
      ))}
      {models.models.length > SHOWN && <span className="small muted">type for more</span>}
    </fieldset>
  );
}

function sentence(text: string): string {
  const whole = text.trim();
  if (!whole) return "";
  return whole.charAt(0).toUpperCase() + whole.slice(1) + (/[.!?]$/.test(whole) ? "" : ".");
}
