// The kind of load, and the fields that this kind has.

import type { LoadKind } from "../types";
import { ChoiceField, type Editing, TextField } from "./fields";

const KINDS: readonly [LoadKind, string][] = [
  ["closed", "Users, each waits for its answer"],
  ["constant", "Rate, evenly"],
  ["poisson", "Rate, at random (Poisson)"],
  ["batch", "Batches, every so often"],
  ["ramp", "Ramp, then held"],
  ["stages", "Stages, one after another"],
  ["sweep", "Sweep, finds the knee"],
];

const HINTS: Record<LoadKind, string> = {
  closed: "Closed loop: how much comes out with so many in flight.",
  constant: "Open loop: sent by a schedule, whatever the answers do.",
  poisson: "Open loop: what many independent users cause.",
  batch: "So many at once; delay 0 with a limit in flight is a closed loop.",
  ramp: "The rise itself is not measured.",
  stages: "Each has figures of its own; the test ends behind the last.",
  sweep: "Level after level, until more brings no more.",
};

const OF = [
  ["concurrency", "users"],
  ["rate", "requests/s"],
] as const;

const ARRIVALS = [
  ["constant", "evenly"],
  ["poisson", "at random"],
] as const;

export function LoadFields({ edit }: { edit: Editing }) {
  const kind = edit.form.loadKind;
  return (
    <div className="card-group">
      <ChoiceField edit={edit} name="loadKind" path="load" label="Load" choices={KINDS} hint={HINTS[kind]} />
      <div className="card-pair">
        <KindFields edit={edit} kind={kind} />
      </div>
    </div>
  );
}

function KindFields({ edit, kind }: { edit: Editing; kind: LoadKind }) {
  const open = edit.form.of === "rate";
  switch (kind) {
    case "closed":
      return <TextField edit={edit} name="concurrency" path="load.concurrency" label="Users" numeric />;
    case "constant":
    case "poisson":
      return (
        <>
          <TextField edit={edit} name="rate" path="load.rate" label="Requests per second" numeric />
          <InFlight edit={edit} />
        </>
      );
    case "batch":
      return (
        <>
          <TextField edit={edit} name="batch" path="load.batch" label="At once" numeric />
          <TextField edit={edit} name="delay_ms" path="load.delay_ms" label="Every, in ms" numeric />
          <InFlight edit={edit} />
        </>
      );
    case "ramp":
      return (
        <>
          <ChoiceField edit={edit} name="of" path="load.of" label="Of" choices={OF} />
          <TextField edit={edit} name="seconds" path="load.seconds" label="Rise, in seconds" numeric />
          <TextField edit={edit} name="start" path="load.start" label="From" numeric />
          <TextField edit={edit} name="end" path="load.end" label="To" numeric />
          {open && <Arrival edit={edit} />}
          {open && <InFlight edit={edit} />}
        </>
      );
    case "stages":
      return (
        <>
          <div className="card-wide">
            <TextField
              edit={edit}
              name="stages"
              path="load.stages"
              label="Stages"
              mono
              lines={2}
              hint="30s@0-20, 60s@20: thirty seconds from 0 to 20, then sixty at 20."
            />
          </div>
          <ChoiceField edit={edit} name="of" path="load.of" label="Of" choices={OF} />
          {open && <Arrival edit={edit} />}
          {open && <InFlight edit={edit} />}
        </>
      );
    case "sweep":
      return (
        <>
          <ChoiceField edit={edit} name="of" path="load.of" label="Of" choices={OF} />
          <TextField edit={edit} name="most" path="load.most" label="Users at most" numeric />
          <TextField edit={edit} name="step_seconds" path="load.step_seconds" label="Seconds a step" numeric />
          {open && <TextField edit={edit} name="steps" path="load.steps" label="Steps" numeric />}
          {open && <Arrival edit={edit} />}
        </>
      );
  }
}

function InFlight({ edit }: { edit: Editing }) {
  return (
    <TextField
      edit={edit}
      name="max_in_flight"
      path="load.max_in_flight"
      label="In flight at most"
      placeholder="no limit"
      numeric
    />
  );
}

function Arrival({ edit }: { edit: Editing }) {
  return <ChoiceField edit={edit} name="arrivals" path="load.arrivals" label="Arrivals" choices={ARRIVALS} />;
}
