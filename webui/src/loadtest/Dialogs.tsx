// The dialogs of the page: questions, profiles, help, and a card that is changed while it runs.

import { type FormEvent, useId, useState } from "react";
import { shownKeys } from "../actions/registry";
import { MAC } from "../design/Menu";
import { Button, Dialog, Field } from "../design/parts";
import { Advanced } from "./cards/Advanced";
import { Ends } from "./cards/CardPanel";
import { LoadFields } from "./cards/LoadFields";
import { PromptFields } from "./cards/PromptFields";
import { SloFields } from "./cards/SloFields";
import { usePage, usePageState } from "./context";
import { KEYS } from "./keys";
import { formOf, type Problems } from "./logic/card";
import { titleOf } from "./logic/words";
import type { Dialog as DialogState } from "./state/store";

export function Dialogs() {
  const dialog = usePageState((state) => state.dialog);
  switch (dialog?.kind) {
    case "ask":
      return <Ask dialog={dialog} />;
    case "profile":
      return <SaveProfile />;
    case "change":
      return <Change place={dialog.place} />;
    case "help":
      return <Help />;
    default:
      return null;
  }
}

function Ask({ dialog }: { dialog: Extract<DialogState, { kind: "ask" }> }) {
  return (
    <Dialog
      title={dialog.title}
      onClose={() => dialog.decide(false)}
      foot={
        <>
          <Button onClick={() => dialog.decide(false)}>Cancel</Button>
          <Button tone="danger" data-autofocus onClick={() => dialog.decide(true)}>
            {dialog.does}
          </Button>
        </>
      }
    >
      <p>{dialog.words}</p>
    </Dialog>
  );
}

function SaveProfile() {
  const page = usePage();
  const [name, setName] = useState("");
  const [problem, setProblem] = useState("");
  const id = useId();
  const save = async (event: FormEvent) => {
    event.preventDefault();
    const found = name.trim() ? await page.saveProfile(name) : "Type a name.";
    if (found) setProblem(found);
    else page.open(null);
  };
  return (
    <Dialog
      title="Save these cards"
      onClose={() => page.open(null)}
      foot={
        <>
          <Button onClick={() => page.open(null)}>Cancel</Button>
          <Button tone="primary" type="submit" form={id}>
            Save
          </Button>
        </>
      }
    >
      <form id={id} onSubmit={(event) => void save(event)}>
        <Field
          label="Name"
          hint="One of the same name is replaced. Keys are not part of it."
          problem={problem || undefined}
        >
          {(control) => (
            <input
              {...control}
              className="input"
              value={name}
              onChange={({ target }) => {
                setName(target.value);
                setProblem("");
              }}
            />
          )}
        </Field>
      </form>
    </Dialog>
  );
}

function Change({ place }: { place: number }) {
  const page = usePage();
  const card = usePageState((state) => state.run?.result.cards[place]?.card);
  const [form, setForm] = useState(() => (card ? formOf(card, "") : null));
  const [problems, setProblems] = useState<Problems>({});
  const [busy, setBusy] = useState(false);
  if (!card || !form) return null;
  const apply = async () => {
    setBusy(true);
    const found = await page.changeRunning(place, card, form);
    setBusy(false);
    if (found) setProblems(found);
    else page.open(null);
  };
  const edit = {
    form,
    problems,
    onChange: (changes: Partial<typeof form>) => {
      setForm({ ...form, ...changes });
      setProblems({});
    },
  };
  return (
    <Dialog
      title={`Change ${titleOf(card, place)} while it runs`}
      wide
      onClose={() => page.open(null)}
      foot={
        <>
          <Button onClick={() => page.open(null)}>Cancel</Button>
          <Button tone="primary" disabled={busy} onClick={() => void apply()}>
            Apply
          </Button>
        </>
      }
    >
      <p className="muted">From the next request on. The result says that it was changed.</p>
      {problems[""] && (
        <p className="note bad" role="alert">
          {problems[""]}
        </p>
      )}
      <LoadFields edit={edit} />
      <Ends edit={edit} />
      <SloFields edit={edit} />
      <PromptFields edit={edit} />
      <Advanced edit={edit} running />
    </Dialog>
  );
}

function Help() {
  const page = usePage();
  return (
    <Dialog title="Help" onClose={() => page.open(null)}>
      <p>
        A card is a target and what is sent to it. "Test" sends one request and says what comes back; "Start" sends the
        load. Hover a figure's name for its formula; all of them stand at the end of each result.
      </p>
      <dl className="help-list">
        {KEYS.map((each) => (
          <div key={each.key}>
            <dt>
              <kbd>{shownKeys(each.key, MAC)}</kbd>
            </dt>
            <dd>{each.does}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
