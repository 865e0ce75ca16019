// One test: how it goes on, then what came of it.

import { useEffect, useState } from "react";
import { Menu, MenuItem } from "../../design/Menu";
import { Button, Icon, type IconName } from "../../design/parts";
import { usePage, usePageState } from "../context";
import { elapsed, STATES, testName, titleOf } from "../logic/words";
import type { Watched } from "../state/watching";
import type { RunState } from "../types";
import { CardResult } from "./CardResult";
import { Charts } from "./Charts";
import { Definitions } from "./Definitions";
import { Live } from "./Live";
import { Overview } from "./Overview";
import { PairedResult } from "./PairedResult";
import { Requests } from "./Requests";
import "./results.css";

export function Run() {
  const run = usePageState((state) => state.run);
  if (!run) {
    return (
      <main className="page" aria-label="Test">
        <p className="empty">Loading the test …</p>
      </main>
    );
  }
  const running = run.result.state === "running";
  return (
    <main className="page" aria-label="Test">
      <Head run={run} running={running} />
      {run.lost && (
        <p className="note warn" role="status">
          The line to the load tester is lost; the test goes on without it. Trying again …
        </p>
      )}
      {running && <Live run={run} />}
      {run.result.comparison && !running && <PairedResult result={run.result} />}
      {!running && run.result.cards.length > 1 && <Overview outcomes={run.result.cards} />}
      <Charts run={run} running={running} />
      {run.result.cards.map((outcome, place) =>
        // While it runs its figures are those above; what is over already is told.
        running && !outcome.segments.length && !outcome.problem ? null : (
          <CardResult key={place} outcome={outcome} place={place} running={running} />
        ),
      )}
      {!running && (
        <Requests
          key={`requests of ${run.result.id}`}
          id={run.result.id}
          titles={run.result.cards.map(({ card }, place) => titleOf(card, place))}
        />
      )}
      <Notes key={run.result.id} run={run} />
      <Definitions />
    </main>
  );
}

const STATE_ICONS: Record<RunState, [IconName, string]> = {
  running: ["clock", "busy"],
  done: ["check", "good"],
  stopped: ["pause", "warn"],
  failed: ["cross", "bad"],
};

export function StateBadge({ state }: { state: RunState }) {
  const [icon, tone] = STATE_ICONS[state];
  return (
    <span className={`badge tone-${tone}`} data-testid="run-state">
      <Icon name={icon} />
      {STATES[state]}
    </span>
  );
}

function Head({ run, running }: { run: Watched; running: boolean }) {
  const page = usePage();
  const { result, tick } = run;
  const seconds = tick
    ? Math.max(...tick.cards.map((each) => each.elapsed_seconds))
    : result.ended_at
      ? (Date.parse(result.ended_at) - Date.parse(result.started_at)) / 1000
      : 0;
  return (
    <header className="run-head">
      <div className="grow">
        <h1 className="run-title">
          <span className="truncate">
            {testName(
              result.name,
              result.cards.map((each) => each.card),
            )}
          </span>
          <StateBadge state={result.state} />
        </h1>
        <p className="small muted">
          {new Date(result.started_at).toLocaleString()} · {elapsed(seconds)}
          {result.paired && " · paired"}
          {result.order === "in_turn" && " · one card after the other"}
        </p>
      </div>
      {running ? (
        <>
          <Button icon="pause" title="Stop sending, wait for what is under way (X)" onClick={() => void page.stop()}>
            Stop
          </Button>
          <Button
            tone="danger"
            icon="cut"
            title="Stop, and cut off what is under way"
            onClick={() => void page.stop({ abort: true })}
          >
            Cut off
          </Button>
        </>
      ) : (
        <>
          <Button
            icon="undo"
            onClick={() =>
              page.again(
                result.cards.map((each) => each.card),
                result.paired,
              )
            }
          >
            Run again …
          </Button>
          <Export id={result.id} />
        </>
      )}
    </header>
  );
}

function Export({ id }: { id: string }) {
  const [open, setOpen] = useState(false);
  const file = (name: string) => () => {
    setOpen(false);
    download(id, name);
  };
  return (
    <Menu
      open={open}
      onOpen={setOpen}
      label="Export"
      alignEnd
      button={(props) => (
        <Button {...props} icon="external">
          Export ▾
        </Button>
      )}
    >
      <MenuItem keys="E" hint="Everything; can be imported again" onChoose={file("export.json")}>
        JSON
      </MenuItem>
      <MenuItem hint="A line for each request" onChoose={file("export.csv")}>
        CSV
      </MenuItem>
      <MenuItem hint="One file to pass on; needs no network" onChoose={file("report.html")}>
        HTML report
      </MenuItem>
    </Menu>
  );
}

/** The server names the file. */
export function download(id: string, name: string): void {
  const link = document.createElement("a");
  link.href = `/api/runs/${encodeURIComponent(id)}/${name}`;
  link.download = "";
  link.click();
}

/** Saved when they are left. */
function Notes({ run }: { run: Watched }) {
  const page = usePage();
  const { id, name, notes } = run.result;
  const [typedName, setTypedName] = useState(name);
  const [typedNotes, setTypedNotes] = useState(notes);
  useEffect(() => setTypedName(name), [name]);
  useEffect(() => setTypedNotes(notes), [notes]);
  return (
    <section className="card result-part" aria-labelledby="notes-title">
      <h2 id="notes-title">Notes</h2>
      <input
        className="input"
        aria-label="Name of this test"
        placeholder="Name"
        value={typedName}
        onChange={({ target }) => setTypedName(target.value)}
        onBlur={() => {
          if (typedName !== name) void page.annotate(id, { name: typedName });
        }}
      />
      <textarea
        className="input"
        rows={3}
        aria-label="Notes of this test"
        placeholder="What was different this time?"
        value={typedNotes}
        onChange={({ target }) => setTypedNotes(target.value)}
        onBlur={() => {
          if (typedNotes !== notes) void page.annotate(id, { notes: typedNotes });
        }}
      />
    </section>
  );
}
