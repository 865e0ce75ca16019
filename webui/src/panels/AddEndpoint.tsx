import { Dialog } from "../design/parts";
import type { Place } from "../logic/layout";

/** The dialog of the action "add". */
export function AddEndpoint(props: { at?: Place; connect: boolean; pasted?: string; onClose: () => void }) {
  return (
    <Dialog title="Add endpoint" onClose={props.onClose}>
      {props.pasted}
    </Dialog>
  );
}
