// Aliases as rows: what clients ask for, and what is sent on. Saved when the focus leaves all of them.

import { useId } from "react";
import { Button } from "../design/parts";
import { labelOf } from "../logic/clash";
import { type AliasRow, rowsOf, textOfRows } from "../logic/fields";
import type { EndpointConfig } from "../logic/structure";
import { EditLabel, Theirs, useEdit } from "./InspectorEdit";

export function Aliases({ endpoints }: { endpoints: readonly EndpointConfig[] }) {
  const id = useId();
  const edit = useEdit(endpoints, "model_aliases");
  // An empty row is there to be filled; in the draft it is a line with nothing but the separator.
  const rows = rowsOf(edit.text);
  const set = (next: readonly AliasRow[]) => edit.type(textOfRows(next));
  const change = (place: number, row: AliasRow) => set(rows.map((each, at) => (at === place ? row : each)));
  return (
    <div
      className="edit field"
      role="group"
      aria-labelledby={`${id}-label`}
      aria-describedby={edit.problem ? `${id}-problem` : undefined}
      onBlur={(event) => {
        if (event.currentTarget.contains(event.relatedTarget)) return;
        if (edit.dirty && edit.theirs === null && !edit.problem) void edit.commit();
      }}
      onKeyDown={(event) => {
        const typing = event.target instanceof HTMLInputElement;
        if (event.key === "Enter" && typing) {
          event.preventDefault();
          void edit.commit();
        } else if (event.key === "Escape" && edit.dirty) {
          event.stopPropagation();
          edit.cancel();
        }
      }}
    >
      <span className="label" id={`${id}-label`}>
        <EditLabel edit={edit} label={labelOf("model_aliases")} />
      </span>
      {edit.mixed && !edit.dirty && <span className="hint">They differ; adding one here replaces them all.</span>}
      {rows.map((row, place) => (
        <div className="alias-row" key={place}>
          <input
            className="input"
            aria-label={`Alias ${place + 1}: the model that is asked for`}
            placeholder="asked for"
            value={row[0]}
            spellCheck={false}
            onChange={(event) => change(place, [event.target.value, row[1]])}
          />
          <span aria-hidden="true">→</span>
          <input
            className="input"
            aria-label={`Alias ${place + 1}: the model that is sent on`}
            placeholder="sent on"
            value={row[1]}
            spellCheck={false}
            onChange={(event) => change(place, [row[0], event.target.value])}
          />
          <Button
            tight
            tone="quiet"
            icon="cross"
            aria-label={`Remove alias ${place + 1}`}
            onClick={() => {
              set(rows.filter((_, at) => at !== place));
              void edit.commit();
            }}
          />
        </div>
      ))}
      <div>
        <Button
          tight
          icon="plus"
          onClick={(event) => {
            set([...rows, ["", ""]]);
            const group = event.currentTarget.closest("[role=group]");
            requestAnimationFrame(() =>
              group?.querySelector<HTMLElement>(".alias-row:nth-last-child(1 of .alias-row) input")?.focus(),
            );
          }}
        >
          Alias
        </Button>
      </div>
      {edit.problem && (
        <span className="problem" id={`${id}-problem`} role="alert">
          {edit.problem}
        </span>
      )}
      <Theirs edit={edit} />
    </div>
  );
}
