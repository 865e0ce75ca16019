// One card: a target and everything that is sent to it. Tried with one request before it is started.

import { useId, useState } from "react";
import { Button } from "../../design/parts";
import { hostOf } from "../../logic/format";
import { usePage, usePageState } from "../context";
import type { CardForm, Problems } from "../logic/card";
import { titleOf } from "../logic/words";
import type { Models, Trial } from "../types";
import { Advanced } from "./Advanced";
import { CheckField, type Editing, TextField } from "./fields";
import { KeyField } from "./KeyField";
import { LoadFields } from "./LoadFields";
import { PromptFields } from "./PromptFields";
import { SloFields } from "./SloFields";
import { ModelsFinding, TrialFinding } from "./TrialFinding";

const NO_PROBLEMS: Problems = {};

export function CardPanel({ form, place }: { form: CardForm; place: number }) {
  const page = usePage();
  const problems = usePageState((state) => state.problems.get(form.uid)) ?? NO_PROBLEMS;
  const starting = usePageState((state) => state.starting);
  const [trial, setTrial] = useState<Trial | "busy" | null>(null);
  const edit: Editing = {
    form,
    problems,
    onChange: (changes) => {
      page.change(form.uid, changes);
      if (trial !== "busy") setTrial(null);
    },
  };
  const tryIt = async () => {
    setTrial("busy");
    setTrial(await page.try(form.uid));
  };
  const title = titleOf(form, place);
  const general = problems[""];
  return (
    <section className="card test-card" aria-label={`Card ${place + 1}: ${title}`} data-testid="card">
      <header className="test-card-head">
        <h2 className="truncate grow" title={title}>
          {title}
        </h2>
        <span className="small muted truncate">{hostOf(form.url)}</span>
        <Button
          tone="quiet"
          tight
          icon="copy"
          aria-label="Duplicate the card"
          onClick={() => page.duplicate(form.uid)}
        />
        <Button tone="quiet" tight icon="trash" aria-label="Remove the card" onClick={() => page.remove(form.uid)} />
      </header>
      <div className="test-card-body">
        {general && (
          <p className="note bad card-wide" role="alert">
            {general}
          </p>
        )}
        <Target edit={edit} />
        <PromptFields edit={edit} />
        <LoadFields edit={edit} />
        <Ends edit={edit} />
        <SloFields edit={edit} />
        <Advanced edit={edit} />
      </div>
      <footer className="test-card-foot">
        {trial && trial !== "busy" && <TrialFinding trial={trial} />}
        <div className="row">
          <Button icon="plug" disabled={trial === "busy"} onClick={() => void tryIt()}>
            {trial === "busy" ? "Testing …" : "Test"}
          </Button>
          <span className="grow small muted">one request, before any load</span>
          <Button icon="play" disabled={starting} onClick={() => void page.start(form.uid)}>
            Start this
          </Button>
        </div>
      </footer>
    </section>
  );
}

function Target({ edit }: { edit: Editing }) {
  const page = usePage();
  const id = useId();
  const [models, setModels] = useState<Models | "busy" | null>(null);
  const list = async () => {
    setModels("busy");
    setModels(await page.models(edit.form.uid));
  };
  const names = models && models !== "busy" ? models.models : [];
  return (
    <div className="card-group">
      <TextField edit={edit} name="name" label="Name" placeholder="optional" />
      <TextField
        edit={edit}
        name="url"
        label="API base URL"
        mono
        hint={<Rewrite url={edit.form.url} />}
        placeholder="http://localhost:8090/v1"
      />
      <KeyField edit={edit} />
      <datalist id={id}>
        {names.map((each) => (
          <option key={each} value={each} />
        ))}
      </datalist>
      <TextField
        edit={edit}
        name="model"
        label="Model"
        mono
        list={id}
        placeholder="as the target chooses"
        after={
          <Button icon="list" disabled={models === "busy"} onClick={() => void list()}>
            Models
          </Button>
        }
      />
      {models && models !== "busy" && <ModelsFinding models={models} onChoose={(model) => edit.onChange({ model })} />}
    </div>
  );
}

/** Where it really connects, when that is not what is typed. */
function Rewrite({ url }: { url: string }) {
  const rewrites = usePageState((state) => state.library?.about.host_rewrites);
  const found = rewrites?.find((each) => each.typed === hostOf(url));
  return found ? <>Connects to {found.connects_to}.</> : null;
}

export function Ends({ edit }: { edit: Editing }) {
  return (
    <div className="card-group">
      <div className="card-pair">
        <TextField
          edit={edit}
          name="stopSeconds"
          path="stop.seconds"
          label="Stop after seconds"
          placeholder="never"
          numeric
        />
        <TextField
          edit={edit}
          name="stopRequests"
          path="stop.requests"
          label="Stop after requests"
          placeholder="never"
          numeric
        />
        <TextField edit={edit} name="max_tokens" label="Most output tokens" placeholder="not sent" numeric />
        <div className="card-check">
          <CheckField edit={edit} name="stream" label="Stream" />
        </div>
      </div>
      {isEndless(edit.form) && <p className="small muted">Without an end of its own it runs until it is stopped.</p>}
    </div>
  );
}

function isEndless(form: CardForm): boolean {
  if (form.loadKind === "stages" || form.loadKind === "sweep") return false;
  return ![form.stopSeconds, form.stopRequests, form.stopErrors, form.stopTokens].some((each) => Number(each) > 0);
}
