// Past tests: opened, annotated, compared two at a time, taken in from files.

import { useEffect, useRef, useState } from "react";
import { Button, Icon } from "../../design/parts";
import { ago, compact, hostOf } from "../../logic/format";
import { usePage, usePageState } from "../context";
import { listed } from "../logic/runs";
import { milliseconds, testName } from "../logic/words";
import { StateBadge } from "../results/Run";
import { Scroll } from "../results/Scroll";
import type { Headline, RunList } from "../types";
import "./library.css";

const PAGE = 50;

export function History() {
  const page = usePage();
  const changes = usePageState((state) => state.historyChanges);
  const active = usePageState((state) => state.active);
  const keep = usePageState((state) => state.library?.about.keep_runs ?? 0);
  const [past, setPast] = useState<readonly Headline[] | null>(null);
  const [total, setTotal] = useState(0);
  const [shown, setShown] = useState(PAGE);
  const [problem, setProblem] = useState("");
  const [chosen, setChosen] = useState<readonly string[]>([]);
  useEffect(() => {
    let stale = false;
    page.client
      .get<RunList>(`/runs?limit=${Math.min(500, shown)}`)
      .then((list) => {
        if (stale) return;
        setPast(list.past);
        setTotal(list.total);
        setProblem("");
      })
      .catch((error: unknown) => {
        if (!stale) setProblem(error instanceof Error ? error.message : String(error));
      });
    return () => {
      stale = true;
    };
  }, [page, shown, changes]);
  const toggle = (id: string) =>
    setChosen((before) => (before.includes(id) ? before.filter((each) => each !== id) : [...before, id].slice(-2)));
  const [second, first] = chosen.length === 2 ? inOrder(chosen, past ?? []) : [];
  return (
    <main className="page" aria-label="History">
      <header className="run-head">
        <h1 className="run-title grow">History</h1>
        <Button
          icon="sliders"
          why={first && second ? undefined : "Choose two tests to compare"}
          onClick={() => first && second && page.show({ kind: "compare", first, second })}
        >
          Compare
        </Button>
        <Import />
      </header>
      {problem && <p className="note warn">{problem}</p>}
      {past && past.length + active.length === 0 ? (
        <div className="card empty">
          <p>No test was run yet.</p>
          <Button tone="primary" onClick={() => page.show({ kind: "cards" })}>
            Set one up
          </Button>
        </div>
      ) : (
        <div className="card history">
          <Scroll label="Tests">
            <table className="table" data-testid="history">
              <thead>
                <tr>
                  <th>
                    <span className="visually-hidden">Compare</span>
                  </th>
                  <th>Test</th>
                  <th>Targets</th>
                  <th className="number">Answered</th>
                  <th className="number">Failed</th>
                  <th className="number">Output tok/s</th>
                  <th className="number">Requests/s</th>
                  <th className="number">TTFT p95</th>
                  <th>Objectives</th>
                  <th>
                    <span className="visually-hidden">Acts</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {listed(active, past ?? []).map((run) => (
                  <Row key={run.id} run={run} chosen={chosen.includes(run.id)} onToggle={() => toggle(run.id)} />
                ))}
              </tbody>
            </table>
          </Scroll>
        </div>
      )}
      {past && past.length < total && (
        <div>
          <Button onClick={() => setShown(shown + PAGE)}>Show more of {total}</Button>
        </div>
      )}
      {keep > 0 && total > 0.8 * keep && (
        <p className="small muted">
          The newest {keep.toLocaleString("en")} tests are kept; older ones go as new ones come. Export what is to stay.
        </p>
      )}
    </main>
  );
}

/** The newer one is compared with the older. */
function inOrder(chosen: readonly string[], past: readonly Headline[]): readonly string[] {
  const at = (id: string) => past.find((each) => each.id === id)?.started_at ?? "";
  return [...chosen].sort((a, b) => at(b).localeCompare(at(a)));
}

function Row({ run, chosen, onToggle }: { run: Headline; chosen: boolean; onToggle: () => void }) {
  const page = usePage();
  const running = run.state === "running";
  const name = testName(run.name, run.cards);
  const sum = (of: "ok" | "failed") => run.cards.reduce((total, each) => total + each[of], 0);
  const each = (value: (card: Headline["cards"][number]) => string) => (
    <td className="number">
      {run.cards.map((card, place) => (
        <div key={place}>{value(card)}</div>
      ))}
    </td>
  );
  return (
    <tr aria-selected={chosen || undefined}>
      <td>
        <input type="checkbox" aria-label={`Compare ${name}`} checked={chosen} disabled={running} onChange={onToggle} />
      </td>
      <td className="history-test">
        <span className="row">
          <a href={`#/run/${encodeURIComponent(run.id)}`} className="truncate">
            {name}
          </a>
          {run.state !== "done" && <StateBadge state={run.state} />}
        </span>
        <span className="small muted" title={new Date(run.started_at).toLocaleString()}>
          {ago(run.started_at, Date.now())}
          {run.paired && " · paired"}
        </span>
        {run.notes && <p className="small history-notes">{run.notes}</p>}
      </td>
      <td>
        {run.cards.map((card, place) => (
          <div key={place} className="truncate history-target" title={card.url}>
            {card.name || card.model || hostOf(card.url)} <span className="muted">{card.load}</span>
          </div>
        ))}
      </td>
      <td className="number">{sum("ok").toLocaleString("en")}</td>
      <td className={`number${sum("failed") ? " tone-bad" : ""}`}>{sum("failed").toLocaleString("en")}</td>
      {each((card) => compact(card.output_tokens_per_second))}
      {each((card) => compact(card.requests_per_second))}
      {each((card) => milliseconds(card.ttft_p95_ms))}
      <td>
        {run.cards.map((card, place) => (
          <SloWord key={place} met={card.slo_met} />
        ))}
      </td>
      <td>
        <Button
          tone="quiet"
          tight
          icon="trash"
          aria-label={`Forget ${name}`}
          why={running ? "Under way: stop it first" : undefined}
          onClick={() => void page.forget(run.id, name)}
        />
      </td>
    </tr>
  );
}

function SloWord({ met }: { met: boolean | null }) {
  if (met === null) return <div className="muted">none set</div>;
  return (
    <div className={`row tone-${met ? "good" : "bad"}`}>
      <Icon name={met ? "check" : "cross"} />
      {met ? "met" : "missed"}
    </div>
  );
}

export function Import() {
  const page = usePage();
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <Button icon="plus" onClick={() => input.current?.click()}>
        Import …
      </Button>
      <input
        ref={input}
        type="file"
        accept=".json,application/json"
        hidden
        aria-label="File of a test"
        onChange={({ target }) => {
          const file = target.files?.[0];
          if (file) void page.importFile(file);
          target.value = "";
        }}
      />
    </>
  );
}
