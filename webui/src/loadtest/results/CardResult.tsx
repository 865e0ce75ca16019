// What came of one card: whether it met its objectives, how fast, how much, who served it, what failed.

import { Icon, type IconName } from "../../design/parts";
import { compact, count, hostOf } from "../../logic/format";
import { figure, loadInWords, reasonInWords, titleOf, verdictInWords } from "../logic/words";
import type { Badge, Outcome, Verdict } from "../types";
import { Endpoints } from "./Endpoints";
import { Errors } from "./Errors";
import { Figures, Latencies } from "./Figures";
import { Steps } from "./Steps";

export function CardResult({ outcome, place, running }: { outcome: Outcome; place: number; running: boolean }) {
  const { card, summary, problem } = outcome;
  const title = titleOf(card, place);
  return (
    <section className="card result" aria-label={`Result of ${title}`} data-testid="card-result">
      <header className="result-head">
        <div className="grow">
          <h2 className="truncate">{title}</h2>
          <p className="small muted">
            {[hostOf(card.url), card.model, loadInWords(card.load), outcome.reason && reasonInWords(outcome.reason)]
              .filter(Boolean)
              .join(" · ")}
          </p>
        </div>
        {!running && <Met met={outcome.slo_met} />}
      </header>
      {problem && <p className="note bad">{problem}</p>}
      {!running && <Headline outcome={outcome} />}
      {outcome.slo.length > 0 && !running && <Objectives verdicts={outcome.slo} />}
      {!running && outcome.badges.length > 0 && <Badges badges={outcome.badges} />}
      {(outcome.segments.length > 0 || outcome.sweep) && <Steps outcome={outcome} />}
      {!running && summary && (
        <>
          {summary.errors.length > 0 && (
            <section className="result-part">
              <h3>{count(summary.failed, "failure")}</h3>
              <Errors errors={summary.errors} />
            </section>
          )}
          {summary.ok > 0 && <Latencies summary={summary} />}
          <Figures summary={summary} outcome={outcome} />
          <Endpoints parts={summary.endpoints} url={card.url} />
        </>
      )}
      <Limits headers={outcome.limit_headers} />
    </section>
  );
}

function Met({ met }: { met: boolean | null }) {
  if (met === null) return null;
  return (
    <span className={`badge tone-${met ? "good" : "bad"}`} data-testid="slo-met">
      <Icon name={met ? "check" : "cross"} />
      {met ? "objectives met" : "objectives missed"}
    </span>
  );
}

/** The figures people quote. A sweep has none of its own: its steps have. */
function Headline({ outcome }: { outcome: Outcome }) {
  const { summary, totals } = outcome;
  const ttft = summary?.latencies.ttft;
  const tiles: [string, string][] = summary
    ? [
        ["output tok/s", compact(summary.output_tokens_per_second)],
        ["requests/s", compact(summary.requests_per_second)],
        ["TTFT p50", figure(ttft?.p50, "ms")],
        ["TTFT p95", figure(ttft?.p95, "ms")],
        ["E2E p95", figure(summary.latencies.e2e.p95, "ms")],
        ["errors", figure(summary.error_percent, "%")],
        ["in the window", `${summary.window_seconds.toFixed(1)} s`],
      ]
    : [
        ["answered", totals.ok.toLocaleString("en")],
        ["failed", totals.failed.toLocaleString("en")],
        ["output tokens", compact(totals.tokens_out)],
      ];
  return (
    <dl className="tiles">
      {tiles.map(([name, value]) => (
        <div key={name}>
          <dd className="kpi-value">{value}</dd>
          <dt className="small muted">{name}</dt>
        </div>
      ))}
    </dl>
  );
}

function Objectives({ verdicts }: { verdicts: readonly Verdict[] }) {
  return (
    <ul className="objectives" aria-label="Objectives">
      {verdicts.map((each) => {
        const tone = each.met === null ? "warn" : each.met ? "good" : "bad";
        const icon: IconName = each.met === null ? "question" : each.met ? "check" : "cross";
        const word = each.met === null ? "not measured" : each.met ? "met" : "missed";
        return (
          <li key={each.name}>
            <span className={`badge tone-${tone}`}>
              <Icon name={icon} />
              {word}
            </span>
            <span>{verdictInWords(each)}</span>
            <strong className="number">{figure(each.actual, each.unit)}</strong>
          </li>
        );
      })}
    </ul>
  );
}

const LEVELS: Record<Badge["level"], [IconName, string, string]> = {
  ok: ["check", "good", "fine"],
  note: ["dot", "idle", "note"],
  warning: ["warning", "warn", "beware"],
};

/** Warnings first: they decide whether the rest is worth reading. */
function Badges({ badges }: { badges: readonly Badge[] }) {
  const order = ["warning", "note", "ok"];
  const sorted = [...badges].sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
  return (
    <ul className="honesty" aria-label="What to know about these figures">
      {sorted.map((each) => {
        const [icon, tone, word] = LEVELS[each.level];
        return (
          <li key={each.id} data-badge={each.id}>
            <span className={`tone-${tone}`} title={word}>
              <Icon name={icon} />
              <span className="visually-hidden">{word}: </span>
            </span>
            <span className={each.level === "warning" ? "" : "muted"}>{each.text}</span>
          </li>
        );
      })}
    </ul>
  );
}

/** What the target said about its limits. */
function Limits({ headers }: { headers: Record<string, string> }) {
  const entries = Object.entries(headers);
  if (!entries.length) return null;
  return (
    <section className="result-part">
      <h3>Limits the target named</h3>
      <dl className="definitions">
        {entries.map(([name, value]) => (
          <div key={name}>
            <dt className="mono small">{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
