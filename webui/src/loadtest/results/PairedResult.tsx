// The second card against the first, pair by pair: in words, with the interval, and as a table.

import { Icon } from "../../design/parts";
import { count } from "../../logic/format";
import { differenceInWords, metricName, signed, titleOf } from "../logic/words";
import type { PairedName, RunResult } from "../types";
import { Scroll } from "./Scroll";

const NAMES: readonly PairedName[] = ["ttft", "e2e", "tpot", "tokens_per_second"];

export function PairedResult({ result }: { result: RunResult }) {
  const { comparison, cards } = result;
  const [first, second] = cards;
  if (!comparison || !first || !second) return null;
  const [base, what] = [titleOf(first.card, 0), titleOf(second.card, 1)];
  const shown = NAMES.filter((name) => comparison[name].n > 0);
  return (
    <section className="card result-part" aria-labelledby="paired-title" data-testid="paired">
      <h2 id="paired-title">
        {what} compared with {base}
      </h2>
      <ul className="paired-words">
        {shown.map((name) => (
          <li key={name} className="row">
            <Icon name={comparison[name].clear ? "right" : "question"} />
            <span>{differenceInWords(name, comparison[name], what)}</span>
          </li>
        ))}
        {!shown.length && <li className="muted">No pair was answered on both ways yet.</li>}
      </ul>
      {shown.length > 0 && (
        <Scroll label="Differences">
          <table className="table">
            <thead>
              <tr>
                <th>Figure</th>
                <th className="number">Mean of {base}</th>
                <th className="number">Mean difference</th>
                <th className="number">95 % interval</th>
                <th className="number">Median difference</th>
                <th className="number">95 % interval</th>
                <th className="number">Pairs</th>
              </tr>
            </thead>
            <tbody>
              {shown.map((name) => {
                const each = comparison[name];
                const value = (of: number | null) => (of === null ? "–" : signed(of, each.unit));
                return (
                  <tr key={name}>
                    <th scope="row">{metricName(name)}</th>
                    <td className="number">{value(each.baseline_mean).replace("+", "")}</td>
                    <td className="number">{value(each.mean)}</td>
                    <td className="number muted">
                      {value(each.mean_low)} … {value(each.mean_high)}
                    </td>
                    <td className="number">{value(each.median)}</td>
                    <td className="number muted">
                      {value(each.median_low)} … {value(each.median_high)}
                    </td>
                    <td className="number">{each.n}</td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </Scroll>
      )}
      {(second.summary?.endpoints.length ?? 0) > 1 && (
        <p className="note warn">
          {what} was served by {count(second.summary?.endpoints.length ?? 0, "endpoint")}: part of the difference is
          theirs. For the balancer's own, leave only the endpoint connected that {base} goes to.
        </p>
      )}
      <p className="small muted">
        {count(comparison.pairs, "pair")} of the same request both ways
        {comparison.unpaired > 0 && `; ${comparison.unpaired} without a partner left out`}. Differences are taken pair
        by pair; percentiles are not subtracted.
      </p>
    </section>
  );
}
