// Two tests side by side: every figure both have, the difference, and whether it is better.

import { type ReactNode, useEffect, useState } from "react";
import { Button, Icon } from "../../design/parts";
import { usePage } from "../context";
import { figure, metricName, signed, statisticName, titleOf } from "../logic/words";
import { Scroll } from "../results/Scroll";
import type { Compared, ComparedStep, CompareLine } from "../types";
import "./library.css";

/** Less than this says nothing: two runs of the same differ by as much. */
const SAME_PERCENT = 2;

export function Compare({ first, second }: { first: string; second: string }) {
  const page = usePage();
  const [compared, setCompared] = useState<Compared | null>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let stale = false;
    setCompared(null);
    const runs = [first, second].map(encodeURIComponent).join(",");
    page.client
      .get<Compared>(`/compare?runs=${runs}`)
      .then((value) => {
        if (!stale) setCompared(value);
      })
      .catch((error: unknown) => {
        if (!stale) setProblem(error instanceof Error ? error.message : String(error));
      });
    return () => {
      stale = true;
    };
  }, [page, first, second]);
  const [one, two] = (compared?.runs ?? []).map((each) => each.name || new Date(each.started_at).toLocaleString());
  return (
    <main className="page" aria-label="Comparison">
      <header className="run-head">
        <h1 className="run-title grow">
          <span className="truncate">
            {two ?? "…"} <span className="muted">compared with</span> {one ?? "…"}
          </span>
        </h1>
        <Button icon="redo" onClick={() => page.show({ kind: "compare", first: second, second: first })}>
          Swap
        </Button>
        <Button icon="left" onClick={() => page.show({ kind: "history" })}>
          History
        </Button>
      </header>
      {problem && <p className="note warn">{problem}</p>}
      {compared?.cards.length === 0 && <p className="note">These tests have no cards with figures in common.</p>}
      {compared?.cards.map((card) => (
        <section key={card.card} className="card result-part" aria-label={titleOf(card.second, card.card)}>
          <h2>{titleOf(card.second, card.card)}</h2>
          {differs(card.first, card.second) && (
            <p className="note warn">The cards are not alike: {differs(card.first, card.second)}.</p>
          )}
          {card.lines.length > 0 && <Figures lines={card.lines} one={one} two={two} />}
          {card.steps.length > 0 && <Steps steps={card.steps} one={one} two={two} />}
        </section>
      ))}
    </main>
  );
}

interface Names {
  one: string | undefined;
  two: string | undefined;
}

/** The headings above `Line`s; `steps`: behind a column that names the step. */
function Columns({ one, two, steps = false }: Names & { steps?: boolean }) {
  return (
    <tr>
      {steps && <th>Step</th>}
      <th>Figure</th>
      <th className="number">{one}</th>
      <th className="number">{two}</th>
      <th className="number">Difference</th>
      <th className="number">In percent</th>
      <th>Which is</th>
    </tr>
  );
}

function Figures({ lines, one, two }: Names & { lines: readonly CompareLine[] }) {
  return (
    <Scroll label="Figures compared">
      <table className="table" data-testid="compare">
        <thead>
          <Columns one={one} two={two} />
        </thead>
        <tbody>
          {lines.map((line) => (
            <Line key={`${line.metric} ${line.statistic}`} line={line} />
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

/** What is shown of each step: throughput, and how long its requests took. */
const OF_A_STEP = ["requests_per_second ", "output_tokens_per_second ", "ttft p95", "e2e mean", "error_percent "];

/** One line for each step and figure, so that two tests stand in two columns as above. */
function Steps({ steps, one, two }: Names & { steps: readonly ComparedStep[] }) {
  return (
    <>
      <h3>Step by step</h3>
      <Scroll label="Steps compared">
        <table className="table" data-testid="compare-steps">
          <thead>
            <Columns one={one} two={two} steps />
          </thead>
          {steps.map((step) => (
            <tbody key={step.label}>
              {figuresOf(step).map((line, place, all) => (
                <Line key={`${line.metric} ${line.statistic}`} line={line}>
                  {place === 0 && (
                    <th scope="rowgroup" rowSpan={all.length} className="compare-step">
                      {step.label}
                    </th>
                  )}
                </Line>
              ))}
            </tbody>
          ))}
        </table>
      </Scroll>
    </>
  );
}

function figuresOf(step: ComparedStep): readonly CompareLine[] {
  return step.lines.filter((line) => OF_A_STEP.includes(`${line.metric} ${line.statistic}`));
}

function Line({ line, children }: { line: CompareLine; children?: ReactNode }) {
  const percent = line.delta_percent;
  const same = percent !== null && Math.abs(percent) < SAME_PERCENT;
  return (
    <tr>
      {children}
      <th scope="row">
        {metricName(line.metric)} {line.statistic && statisticName(line.statistic)}
      </th>
      <td className="number">{figure(line.first, line.unit)}</td>
      <td className="number">{figure(line.second, line.unit)}</td>
      <td className="number">{line.delta === 0 ? "none" : signed(line.delta, line.unit)}</td>
      <td className="number">{!percent ? "–" : signed(Number(percent.toFixed(1)), "%")}</td>
      <td>
        {line.better !== null && same && <span className="muted">about the same</span>}
        {line.better !== null && !same && (
          <span className={`row tone-${line.better ? "good" : "bad"}`}>
            <Icon name={line.better ? "check" : "warning"} />
            {line.better ? "better" : "worse"}
          </span>
        )}
      </td>
    </tr>
  );
}

/** In what two cards differ that changes what their figures mean. */
function differs(one: Compared["cards"][number]["first"], two: Compared["cards"][number]["first"]): string {
  const names = ["url", "model", "load", "prompt", "max_tokens", "stream"] as const;
  return names
    .filter((name) => JSON.stringify(one[name]) !== JSON.stringify(two[name]))
    .map((name) => `${name.replace("_", " ")} differs`)
    .join(", ");
}
