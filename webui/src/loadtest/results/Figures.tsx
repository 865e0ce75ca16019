// The figures of a summary, each with how it is computed.

import { compact } from "../../logic/format";
import { figure, milliseconds } from "../logic/words";
import type { Distribution, LatencyName, Outcome, Summary } from "../types";
import { Formula, Name } from "./Definitions";
import { Scroll } from "./Scroll";

const LATENCIES: readonly LatencyName[] = ["ttft", "ttft_star", "ttfo", "tpot", "icl", "e2e", "e2e_star", "queue"];
const COLUMNS = ["mean", "p50", "p90", "p95", "p99", "p99_9", "max"] as const;
const HEADS: Record<(typeof COLUMNS)[number], string> = {
  mean: "mean",
  p50: "p50",
  p90: "p90",
  p95: "p95",
  p99: "p99",
  p99_9: "p99.9",
  max: "max",
};

export function Latencies({ summary }: { summary: Summary }) {
  const rows = LATENCIES.filter((name) => summary.latencies[name].n > 0);
  const unfirm = rows.some((name) => !summary.latencies[name].p99_is_firm);
  const columns = COLUMNS.filter((each) => each !== "p99_9" || rows.some((name) => summary.latencies[name].p99_9));
  return (
    <section className="result-part">
      <h3>Latency</h3>
      <Scroll label="Latency">
        <table className="table figures-table">
          <thead>
            <tr>
              <th>Figure</th>
              {columns.map((each) => (
                <th key={each} className="number">
                  {HEADS[each]}
                </th>
              ))}
              <th className="number">n</th>
              <th>How it is computed</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((name) => (
              <tr key={name}>
                <th scope="row">
                  <Name of={name} />
                </th>
                {columns.map((each) => (
                  <Cell key={each} of={summary.latencies[name]} column={each} />
                ))}
                <td className="number muted">{summary.latencies[name].n.toLocaleString("en")}</td>
                <td>
                  <Formula of={name} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {unfirm && <p className="small muted">≈ in grey: a p99 of fewer than 100 samples is a guess.</p>}
    </section>
  );
}

function Cell({ of, column }: { of: Distribution; column: (typeof COLUMNS)[number] }) {
  const guess = column === "p99" && !of.p99_is_firm && of.p99 !== null;
  return (
    <td
      className={`number${guess ? " unfirm" : ""}`}
      title={guess ? `Only ${of.n} samples: a guess` : undefined}
      data-firm={column === "p99" ? of.p99_is_firm : undefined}
    >
      {guess && "≈ "}
      {milliseconds(of[column])}
    </td>
  );
}

export function Figures({ summary, outcome }: { summary: Summary; outcome: Outcome }) {
  const spread = (each: Distribution) => `${compact(each.p50)} · ${compact(each.p95)}`;
  const rows: [key: string, value: string, fallback?: string | undefined, formula?: string][] = [
    ["output_tokens_per_second", compact(summary.output_tokens_per_second)],
    ["peak", compact(outcome.peak_tokens_per_second), "Output tok/s, peak", "the best second, by arrival of chunks"],
    ["requests_per_second", compact(summary.requests_per_second)],
    ["offered", compact(summary.offered_per_second), "Requests/s sent", "requests sent in the window / window"],
    ["goodput", compact(summary.goodput)],
    ["good_percent", figure(summary.good_percent, "%")],
    ["error_percent", figure(summary.error_percent, "%")],
    ["in_flight_mean", compact(summary.in_flight_mean)],
    ["in_flight_peak", String(summary.in_flight_peak)],
    ["request_tokens_per_second", spread(summary.request_tokens_per_second), undefined, "p50 · p95 of n_out / E2E"],
    ["input", spread(summary.input_length), "Input tokens a request", "p50 · p95"],
    ["output", spread(summary.output_length), "Output tokens a request", "p50 · p95"],
    [
      "send_interval",
      `${milliseconds(summary.send_interval.p50)} · ${milliseconds(summary.send_interval.p95)}`,
      undefined,
      "p50 · p95 of the time between two sends",
    ],
    ["window", `${summary.window_seconds.toFixed(1)} s`],
  ];
  return (
    <section className="result-part">
      <h3>Throughput and load</h3>
      <dl className="figure-grid">
        {rows.map(([key, value, fallback, formula]) => (
          <div key={key}>
            <dt>
              <Name of={key} {...(fallback ? { fallback } : {})} />
            </dt>
            <dd className="figure-value">{value}</dd>
            <dd>{formula ? <span className="small muted">{formula}</span> : <Formula of={key} />}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
