// Before an endpoint is added: the expected split with it, beside the present one.

import { useMemo } from "react";
import { Icon } from "../design/parts";
import { percent } from "../logic/format";
import { NEWCOMER, targetChanges } from "../logic/newcomer";
import { predict } from "../logic/predict";
import { quotaSum } from "../logic/shares";
import type { Structure } from "../logic/structure";
import { useNumbers } from "../state/context";

const SHOWN = 5;

export function AddEndpointOutlook({ before, after }: { before: Structure; after: Structure }) {
  const numbers = useNumbers((state) => state.numbers);
  const prediction = useMemo(() => predict(after, numbers), [after, numbers]);
  const quotas = after.mode === "percentage";
  const rows = targetChanges(before, after);
  const hidden = rows.length - SHOWN;
  const now = (id: number) => numbers.endpoints.get(id)?.share_percent ?? 0;
  const sum = quotaSum(after);
  return (
    <section className="outlook" aria-label="What this would do">
      <p className="small muted">
        {quotas ? "Target of each, by the quotas" : "Expected split, from the traffic of the last 60 s"}
      </p>
      <ul>
        {rows.slice(0, SHOWN).map((each) => (
          <li key={each.id} className="outlook-row">
            <span className="truncate">{each.id === NEWCOMER ? each.name || "the new one" : each.name}</span>
            <span className="number muted">
              {each.id === NEWCOMER ? "new" : percent(tenths(quotas ? (each.before ?? 0) : now(each.id)))}
            </span>
            <span aria-hidden="true">→</span>
            <strong className="number">
              {percent(tenths(quotas ? each.after : (prediction.shares.get(each.id) ?? 0)))}
            </strong>
          </li>
        ))}
      </ul>
      {hidden > 0 && <p className="small muted">and {hidden} more</p>}
      {quotas && sum !== 100 && (
        <p className="small tone-warn">The quotas would sum to {percent(sum)}; targets are their proportion.</p>
      )}
      {prediction.warnings.map((each) => (
        <p key={each} className="note warn row">
          <Icon name="warning" />
          {each}
        </p>
      ))}
    </section>
  );
}

function tenths(value: number): number {
  return Math.round(value * 10) / 10;
}
