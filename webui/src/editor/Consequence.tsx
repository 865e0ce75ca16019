// What an act would do to the traffic of the last minute, before it is done: the split now and then, and warnings.

import { useMemo } from "react";
import { Icon } from "../design/parts";
import { type Act, applied } from "../logic/acts";
import { percent } from "../logic/format";
import { predict } from "../logic/predict";
import { endpointOf } from "../logic/structure";
import { useNumbers, useStructure, useUi } from "../state/context";

/** The prediction for what is being considered; null while nothing is. */
export function usePrediction(act: Act | null) {
  const structure = useStructure();
  const numbers = useNumbers((state) => state.numbers);
  return useMemo(() => (act ? predict(applied(act, structure), numbers) : null), [act, structure, numbers]);
}

export function Consequence({ act }: { act: Act }) {
  const structure = useStructure();
  const numbers = useNumbers((state) => state.numbers.endpoints);
  const prediction = usePrediction(act);
  if (!prediction) return null;
  const now = new Map(structure.endpoints.map((each) => [each.id, numbers.get(each.id)?.share_percent ?? 0]));
  const rows = structure.endpoints.filter((each) => prediction.shares.has(each.id) || (now.get(each.id) ?? 0) > 0.05);
  return (
    <div className="consequence stack">
      <p className="small muted">
        {prediction.basis === "traffic"
          ? "Expected split, from the traffic of the last 60 s"
          : "Expected split by the settings (no traffic in the last 60 s)"}
      </p>
      <ul className="consequence-rows">
        {rows.map((each) => {
          const then = prediction.shares.get(each.id) ?? 0;
          const full = prediction.overflowing.includes(each.id);
          return (
            <li key={each.id} className="consequence-row">
              <span className="truncate">{endpointOf(structure, each.id)?.name}</span>
              <span className="consequence-bar" aria-hidden="true">
                <Bar part={(now.get(each.id) ?? 0) / 100} className="now" />
                <Bar part={then / 100} className="then" />
              </span>
              <span className="number muted">{percent(round(now.get(each.id) ?? 0))}</span>
              <span aria-hidden="true">→</span>
              <span className="number">
                <strong>{percent(round(then))}</strong>
                {full && <span className="small tone-busy"> full</span>}
              </span>
            </li>
          );
        })}
      </ul>
      {prediction.warnings.map((each) => (
        <p key={each} className="note warn row" role="status">
          <Icon name="warning" />
          {each}
        </p>
      ))}
    </div>
  );
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function Bar({ part, className }: { part: number; className: string }) {
  return (
    <svg className={`bar ${className}`} viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      <rect width={Math.max(0, Math.min(1, part)) * 100} height="6" rx="1" />
    </svg>
  );
}

/** The same, floating over the stage while something is dragged or hovered. */
export function FloatingConsequence() {
  const preview = useUi((state) => state.preview);
  const dialog = useUi((state) => state.dialog !== null || state.asked.length > 0);
  if (!preview || dialog) return null;
  return (
    <aside className="floating-consequence card" aria-label="What this would do" data-testid="consequence">
      <Consequence act={preview} />
    </aside>
  );
}
