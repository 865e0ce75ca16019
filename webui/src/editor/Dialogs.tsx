// Whatever dialog is open, one at a time, and above it what has to be decided first.

import { useMemo } from "react";
import { Button, Dialog } from "../design/parts";
import type { Act, Question } from "../logic/acts";
import { modeOf } from "../logic/modes";
import { AddEndpoint } from "../panels/AddEndpoint";
import { ImportDialog } from "../panels/ImportDialog";
import { useEditor, useUi } from "../state/context";
import type { ConflictChoice } from "../state/ui";
import { Consequence } from "./Consequence";
import { Help } from "./Help";
import { Palette } from "./Palette";

export function Dialogs() {
  return (
    <>
      <Chosen />
      <FirstAsked />
    </>
  );
}

function FirstAsked() {
  const asked = useUi((state) => state.asked[0]);
  if (!asked) return null;
  // Each a dialog of its own: the next one begins at its own first button.
  if (asked.kind === "ask") return <Ask key={asked.id} question={asked.question} decide={asked.decide} />;
  return <ConflictQuestion key={asked.id} choice={asked.choice} />;
}

function Chosen() {
  const editor = useEditor();
  const dialog = useUi((state) => state.dialog);
  const close = () => editor.ui.setState({ dialog: null, preview: null });
  switch (dialog?.kind) {
    case "mode":
      return <ModeQuestion mode={dialog.mode} onClose={close} />;
    case "add":
      return <AddEndpoint {...dialog} onClose={close} />;
    case "import":
      return <ImportDialog text={dialog.text} onClose={close} />;
    case "help":
      return <Help onClose={close} />;
    case "palette":
      return <Palette onClose={close} />;
    default:
      return null;
  }
}

function Ask({ question, decide }: { question: Question; decide: (yes: boolean) => void }) {
  return (
    <Dialog
      title={question.title}
      onClose={() => decide(false)}
      foot={
        <>
          <Button onClick={() => decide(false)}>Cancel</Button>
          <Button tone={question.danger ? "danger" : "primary"} onClick={() => decide(true)}>
            {question.confirm}
          </Button>
        </>
      }
    >
      <p>{question.text}</p>
    </Dialog>
  );
}

function ConflictQuestion({ choice }: { choice: ConflictChoice }) {
  return (
    <Dialog
      title="Another operator changed the same"
      onClose={() => choice.decide("theirs")}
      foot={
        <>
          <Button onClick={() => choice.decide("theirs")}>Keep theirs</Button>
          <Button tone="primary" onClick={() => choice.decide("mine")}>
            Use mine
          </Button>
        </>
      }
    >
      <p className="muted">Nothing of yours has been saved yet. Which should hold?</p>
      <table className="table">
        <thead>
          <tr>
            <th scope="col">What</th>
            <th scope="col">Mine</th>
            <th scope="col">Theirs</th>
          </tr>
        </thead>
        <tbody>
          {choice.fields.map((each) => (
            <tr key={each.name}>
              <th scope="row">{each.name}</th>
              <td>{each.mine}</td>
              <td>{each.theirs}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Dialog>
  );
}

function ModeQuestion({ mode, onClose }: { mode: string; onClose: () => void }) {
  const editor = useEditor();
  const act = useMemo((): Act => ({ kind: "mode", mode }), [mode]);
  const { label, does } = modeOf(mode);
  const choose = () => {
    onClose();
    editor.submit(act, { asked: true }).catch((error) => editor.complain(error));
  };
  return (
    <Dialog
      title={`Switch to ${label}?`}
      onClose={onClose}
      foot={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button tone="primary" onClick={choose}>
            Switch
          </Button>
        </>
      }
    >
      <p>{does}</p>
      <Consequence act={act} />
    </Dialog>
  );
}
