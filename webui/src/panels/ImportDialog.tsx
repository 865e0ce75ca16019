import { Dialog } from "../design/parts";

/** The dialog of the action "import". */
export function ImportDialog(props: { text: string; onClose: () => void }) {
  return (
    <Dialog title="Import" wide onClose={props.onClose}>
      {props.text}
    </Dialog>
  );
}
