// Above the table: the filter, and what can be done with the rows that are selected. All from the registry.

import { useState } from "react";
import { ACTIONS, action } from "../actions/list";
import { Menu, MenuItem } from "../design/Menu";
import { Button, type IconName } from "../design/parts";
import { useAct } from "../editor/acting";
import { count } from "../logic/format";
import { useEditor, useFlow, useStructure, useUi } from "../state/context";
import { selectedEndpoints } from "../state/ui";

const QUICK: readonly [string, IconName, string][] = [
  ["connect", "plug", "Connect"],
  ["cut", "drain", "Drain"],
  ["enable", "pause", "Enable / disable"],
  ["test", "check", "Test"],
  ["delete", "trash", "Delete"],
];

export function TableBar({
  shown,
  sortedAt,
  onSortAgain,
}: {
  shown: number;
  /** When the order was made, if what it goes by changes by itself. */
  sortedAt: string | null;
  onSortAgain: () => void;
}) {
  const editor = useEditor();
  const structure = useStructure();
  const filter = useUi((state) => state.filter);
  const selection = useUi((state) => state.selection);
  const known = new Set(structure.endpoints.map((each) => each.id));
  const ids = selectedEndpoints(selection).filter((id) => known.has(id));
  const all = structure.endpoints.length;
  return (
    <div className="table-bar">
      <input
        className="input table-filter"
        type="search"
        aria-label="Filter endpoints"
        placeholder="Filter: name, host, status, model, tag"
        value={filter}
        onChange={(event) => editor.ui.setState({ filter: event.target.value })}
        onKeyDown={(event) => {
          if (event.key === "Escape" && filter) {
            event.stopPropagation();
            editor.ui.setState({ filter: "" });
          } else if (event.key === "ArrowDown") {
            event.preventDefault();
            document.querySelector<HTMLElement>("[data-table] tr[tabindex='0']")?.focus();
          }
        }}
      />
      <span className="small muted table-count">
        {shown === all ? count(all, "endpoint") : `${shown} of ${count(all, "endpoint")}`}
      </span>
      {sortedAt && (
        <Button tight tone="quiet" icon="redo" title={`In the order of ${sortedAt}`} onClick={onSortAgain}>
          Sort again
        </Button>
      )}
      <div className="grow" />
      {ids.length > 0 && <Selected ids={ids} />}
      <TableMenu ids={ids} />
    </div>
  );
}

function Selected({ ids }: { ids: readonly number[] }) {
  const editor = useEditor();
  useFlow((state) => state.draining);
  const { run, context } = useAct();
  const here = context(ids);
  return (
    <div className="row table-selected" role="group" aria-label="With the selected endpoints">
      <strong className="small">{ids.length} selected</strong>
      {QUICK.map(([id, icon, title]) => {
        const each = action(id);
        const applies = each.applies(here);
        return (
          <Button
            key={id}
            tight
            icon={icon}
            tone={each.danger ? "danger" : undefined}
            title={`${each.does} (${each.keys[0]})`}
            why={applies === true ? undefined : applies}
            onClick={() => run(each, ids)}
          >
            <span className="bulk-label">{title}</span>
          </Button>
        );
      })}
      <Button
        tight
        icon="sliders"
        onClick={() => {
          editor.ui.setState({ inspecting: true });
          requestAnimationFrame(() => document.querySelector<HTMLElement>("[data-inspector]")?.focus());
        }}
      >
        <span className="bulk-label">Edit</span>
      </Button>
    </div>
  );
}

/** Everything the table offers, for the selected and for all. */
function TableMenu({ ids }: { ids: readonly number[] }) {
  const { run, context } = useAct();
  const [open, setOpen] = useState(false);
  return (
    <Menu
      open={open}
      onOpen={setOpen}
      label="All actions"
      alignEnd
      button={(props) => <Button {...props} tight icon="more" aria-label="All actions" />}
    >
      {open &&
        ACTIONS.filter((each) => each.spots.includes("table")).map((each) => {
          const applies = each.applies(context(ids));
          return (
            <MenuItem
              key={each.id}
              keys={each.keys[0]}
              danger={each.danger}
              why={applies === true ? undefined : applies}
              onChoose={() => {
                setOpen(false);
                run(each, ids);
              }}
            >
              {each.title}
            </MenuItem>
          );
        })}
    </Menu>
  );
}
