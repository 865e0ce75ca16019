// The dialog of the action "import": text or a file, what it would do, and then the doing, all or nothing.

import { useId, useMemo, useRef, useState } from "react";
import { ApiProblem } from "../api/client";
import { Button, Dialog, Field, Icon } from "../design/parts";
import { Consequence } from "../editor/Consequence";
import type { Act } from "../logic/acts";
import { NotAnExport } from "../logic/export";
import { begunLarge, count, hostOf } from "../logic/format";
import { actOf, type Import, planned, problemsOf } from "../logic/importing";
import { modeOf } from "../logic/modes";
import type { Structure } from "../logic/structure";
import { useEditor, useStructure } from "../state/context";
import { DifferenceList } from "./DifferenceList";
import "./ImportDialog.css";

const PLACEHOLDER = '{"format": "llm-balancer", "version": 1, "endpoints": [ … ]}';

export function ImportDialog(props: { text: string; onClose: () => void }) {
  const editor = useEditor();
  const structure = useStructure();
  const [text, setText] = useState(props.text);
  const [refused, setRefused] = useState<string[]>([]);
  const [busy, setBusy] = useState(false);
  const { plan, problem } = useMemo(() => read(text, structure), [text, structure]);
  const act = plan && actOf(plan, structure);
  const take = (given: string) => {
    setText(given);
    setRefused([]);
  };
  const carryOut = async (act: Act) => {
    setBusy(true);
    setRefused([]);
    try {
      if (await editor.submit(act, { asked: true })) return props.onClose();
      setRefused(["What others changed meanwhile was kept; look at what is left to import."]);
    } catch (error) {
      editor.flow.setState({ saving: "saved" });
      setRefused(error instanceof ApiProblem ? problemsOf(error, act, editor.structure) : [String(error)]);
    }
    setBusy(false);
  };
  const nothing = plan ? "Nothing in it differs from what is here." : "Choose a file or paste an export first.";
  return (
    <Dialog
      title="Import endpoints"
      wide
      onClose={props.onClose}
      foot={
        <>
          <Button onClick={props.onClose}>Cancel</Button>
          <Button
            tone="primary"
            why={busy ? "It is being imported." : act ? undefined : nothing}
            onClick={() => act && void carryOut(act)}
          >
            {plan && act ? saying(plan) : "Import"}
          </Button>
        </>
      }
    >
      <Source text={text} problem={problem} onText={take} />
      {refused.length > 0 && (
        <div className="note bad" role="alert">
          <strong>The balancer refused it:</strong>
          <ul>
            {refused.map((each) => (
              <li key={each}>{each}</li>
            ))}
          </ul>
        </div>
      )}
      <p className="visually-hidden" role="status">
        {plan && (act ? saying(plan) : nothing)}
      </p>
      {plan && <Plan plan={plan} structure={structure} act={act} />}
    </Dialog>
  );
}

function read(text: string, structure: Structure): { plan: Import | null; problem: string } {
  if (!text.trim()) return { plan: null, problem: "" };
  try {
    return { plan: planned(text, structure), problem: "" };
  } catch (error) {
    if (!(error instanceof NotAnExport)) throw error;
    return { plan: null, problem: error.message };
  }
}

function saying({ plan }: Import): string {
  const parts = [
    plan.create.length ? `Add ${plan.create.length}` : "",
    plan.change.length ? `change ${plan.change.length}` : "",
  ];
  return begunLarge(parts.filter(Boolean).join(", "));
}

function Source(props: { text: string; problem: string; onText: (text: string) => void }) {
  const file = useRef<HTMLInputElement>(null);
  const [unread, setUnread] = useState("");
  const id = useId();
  const choose = async (chosen: File | undefined) => {
    if (!chosen) return;
    try {
      setUnread("");
      props.onText(await chosen.text());
    } catch {
      setUnread(`${chosen.name} cannot be read.`);
    }
  };
  return (
    <>
      <div className="row wrap">
        <Button icon="list" onClick={() => file.current?.click()}>
          Choose a file
        </Button>
        <label htmlFor={id} className="visually-hidden">
          A file with an export
        </label>
        <input
          id={id}
          ref={file}
          type="file"
          accept=".json,application/json"
          className="visually-hidden"
          tabIndex={-1}
          onChange={(event) => {
            void choose(event.target.files?.[0]);
            // The same file can be chosen again after it was changed.
            event.target.value = "";
          }}
        />
        <span className="small muted">
          or paste it below. Keys are not part of an export; those that are here stay.
        </span>
      </div>
      <Field label="Export" problem={unread || props.problem || undefined}>
        {(control) => (
          <textarea
            {...control}
            className="input mono import-text"
            rows={props.text && !props.problem ? 4 : 8}
            spellCheck={false}
            placeholder={PLACEHOLDER}
            value={props.text}
            onChange={(event) => props.onText(event.target.value)}
          />
        )}
      </Field>
    </>
  );
}

function Plan({ plan, structure, act }: { plan: Import; structure: Structure; act: Act | null }) {
  const { create, stay } = plan.plan;
  const mode = plan.file.routing_mode;
  return (
    <div className="import-plan stack">
      {create.length > 0 && (
        <section className="stack">
          <h3>
            <Icon name="plus" /> {count(create.length, "endpoint")} will be added
          </h3>
          <ul className="import-list">
            {create.map((each) => (
              <li key={each.name} className="row wrap">
                <strong>{each.name}</strong>
                <span className="muted">{hostOf(each.base_url)}</span>
                {each.connected && <span className="small muted">connected: takes traffic at once</span>}
              </li>
            ))}
          </ul>
        </section>
      )}
      {plan.changes.length > 0 && (
        <section className="stack">
          <h3>
            <Icon name="sliders" /> {count(plan.changes.length, "endpoint")} will be changed
          </h3>
          <ul className="import-list">
            {plan.changes.map((each) => (
              <li key={each.id} className="stack">
                <strong>{each.name}</strong>
                <DifferenceList differences={each.differences} />
              </li>
            ))}
          </ul>
          {act && !create.some((each) => each.connected) && <Consequence act={act} />}
        </section>
      )}
      <Rest names={plan.same} what="the same here already" />
      <Rest names={stay} what="not in the file: left as it is" many="not in the file: left as they are" />
      {mode && mode !== structure.mode && (
        <p className="muted">
          The file was saved in the mode {modeOf(mode).label}; the mode here stays {modeOf(structure.mode).label}.
        </p>
      )}
    </div>
  );
}

function Rest({ names, what, many }: { names: readonly string[]; what: string; many?: string }) {
  if (!names.length) return null;
  return (
    <p className="muted">
      <strong>{names.join(", ")}</strong>: {names.length > 1 ? (many ?? what) : what}
    </p>
  );
}
