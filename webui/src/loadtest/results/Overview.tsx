// The cards of a test side by side: the figures people quote, sorted by any of them.

import { useState } from "react";
import { Icon } from "../../design/parts";
import { compact } from "../../logic/format";
import { priorityCheck } from "../logic/priority";
import { figure, milliseconds, titleOf } from "../logic/words";
import type { Outcome } from "../types";
import { Scroll } from "./Scroll";

type Read = (outcome: Outcome) => number | null | undefined;

const COLUMNS: readonly [name: string, read: Read, show: (value: number | null | undefined) => string][] = [
  ["Answered", ({ totals }) => totals.ok, (value) => (value ?? 0).toLocaleString("en")],
  ["Errors", ({ summary }) => summary?.error_percent, (value) => figure(value, "%")],
  ["Output tok/s", ({ summary }) => summary?.output_tokens_per_second, compact],
  ["Requests/s", ({ summary }) => summary?.requests_per_second, compact],
  ["Goodput", ({ summary }) => summary?.goodput, compact],
  ["TTFT p50", ({ summary }) => summary?.latencies.ttft.p50, milliseconds],
  ["TTFT p95", ({ summary }) => summary?.latencies.ttft.p95, milliseconds],
  ["TPOT mean", ({ summary }) => summary?.latencies.tpot.mean, milliseconds],
  ["E2E p50", ({ summary }) => summary?.latencies.e2e.p50, milliseconds],
  ["E2E p95", ({ summary }) => summary?.latencies.e2e.p95, milliseconds],
];

interface Order {
  column: number;
  descending: boolean;
}

export function Overview({ outcomes }: { outcomes: readonly Outcome[] }) {
  const [order, setOrder] = useState<Order | null>(null);
  const rows = outcomes.map((outcome, place) => ({ outcome, title: titleOf(outcome.card, place) }));
  const read = order && COLUMNS[order.column]?.[1];
  if (read) {
    const sign = order.descending ? -1 : 1;
    rows.sort((a, b) => sign * ((read(a.outcome) ?? 0) - (read(b.outcome) ?? 0)));
  }
  const choose = (column: number) =>
    setOrder(order?.column === column && !order.descending ? null : { column, descending: order?.column !== column });
  const preferred = priorityCheck(outcomes);
  return (
    <section className="card result-part" aria-labelledby="overview-title">
      <h2 id="overview-title">Cards side by side</h2>
      <Scroll label="Cards side by side">
        <table className="table" data-testid="overview">
          <thead>
            <tr>
              <th>Card</th>
              {COLUMNS.map(([name], column) => {
                const on = order?.column === column;
                const sorted = on ? (order.descending ? "descending" : "ascending") : "none";
                return (
                  <th key={name} className="number" aria-sort={sorted}>
                    <button type="button" className="sort" onClick={() => choose(column)}>
                      {name}
                      {on && <Icon name={order.descending ? "down" : "up"} />}
                    </button>
                  </th>
                );
              })}
            </tr>
          </thead>
          <tbody>
            {rows.map(({ outcome, title }, place) => (
              <tr key={`${title} ${place}`}>
                <th scope="row">{title}</th>
                {COLUMNS.map(([name, value, show]) => (
                  <td key={name} className="number">
                    {show(value(outcome))}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {preferred && <p data-testid="priority-check">{preferred}</p>}
    </section>
  );
}
