// Objectives: figures with a limit each. What they are held against stands in the results.

import { useId } from "react";
import { Button } from "../../design/parts";
import { problemAt } from "../logic/card";
import type { Editing } from "./fields";

const FIGURES = [
  "ttft_p95",
  "ttft_p50",
  "ttft_p99",
  "e2e_p95",
  "e2e_p99",
  "tpot_mean",
  "tpot_p95",
  "icl_p99",
  "ttft_star_p95",
  "e2e_star_p95",
  "error_percent",
  "good_percent",
  "goodput",
  "requests_per_second",
  "output_tokens_per_second",
];

/** What a new one begins with: the figures that are asked for most, those that are there already left out. */
const FIRST: readonly [string, string][] = [
  ["ttft_p95", "500ms"],
  ["error_percent", "1%"],
  ["e2e_p95", "10s"],
];

export function SloFields({ edit }: { edit: Editing }) {
  const { slo } = edit.form;
  const id = useId();
  const problem = problemAt(edit.problems, "slo");
  const change = (place: number, changes: { name?: string; limit?: string }) =>
    edit.onChange({ slo: slo.map((each, at) => (at === place ? { ...each, ...changes } : each)) });
  const add = () => {
    const [name, limit] = FIRST.find(([each]) => !slo.some((have) => have.name === each)) ?? ["", ""];
    edit.onChange({ slo: [...slo, { name, limit }] });
  };
  return (
    <fieldset className="card-group slo-group" aria-describedby={problem ? `${id}-problem` : undefined}>
      <legend className="row spread">
        <span>Objectives</span>
      </legend>
      <datalist id={id}>
        {FIGURES.map((each) => (
          <option key={each} value={each} />
        ))}
      </datalist>
      {slo.map(({ name, limit }, place) => (
        <div className="row" key={place}>
          <input
            className="input mono"
            aria-label={`Figure of objective ${place + 1}`}
            aria-invalid={problem ? true : undefined}
            list={id}
            data-field="slo"
            spellCheck={false}
            value={name}
            onChange={({ target }) => change(place, { name: target.value })}
          />
          <input
            className="input mono slo-limit"
            aria-label={`Limit of objective ${place + 1}`}
            aria-invalid={problem ? true : undefined}
            spellCheck={false}
            placeholder="500ms"
            value={limit}
            onChange={({ target }) => change(place, { limit: target.value })}
          />
          <Button
            tone="quiet"
            icon="cross"
            aria-label={`Remove objective ${place + 1}`}
            onClick={() => edit.onChange({ slo: slo.filter((_, at) => at !== place) })}
          />
        </div>
      ))}
      {problem && (
        <span className="problem" id={`${id}-problem`} role="alert">
          {problem}
        </span>
      )}
      <div>
        <Button tight icon="plus" onClick={add}>
          Objective
        </Button>
      </div>
    </fieldset>
  );
}
