// All endpoints as rows, of equal power to the canvas. Arrows go from row to row, Space selects, Enter inspects, and
// the keys of the whole page act on what is selected. Rows keep their places while numbers change.

import { useEffect, useMemo, useRef, useState } from "react";
import { ACTIONS, action } from "../actions/list";
import { MenuItem, MenuList } from "../design/Menu";
import { Button } from "../design/parts";
import { useAct } from "../editor/acting";
import { clock, count } from "../logic/format";
import { nodeOf } from "../logic/graph";
import { spoken } from "../logic/status";
import { type Column, columnsOf, nextSorting, passes, type Sorting, sortedIds } from "../logic/table";
import { useEditor, useStructure, useUi } from "../state/context";
import { selectedEndpoints } from "../state/ui";
import { TableBar } from "./TableViewBar";
import { TableRow } from "./TableViewRow";
import "./table-view.css";

interface RowMenu {
  ids: number[];
  x: number;
  y: number;
  back: HTMLElement | null;
}

/** What can be done with endpoints; the rest of the table's actions is about all of them. */
const ROW_ACTIONS = ACTIONS.filter((each) => each.spots.includes("table") && each.spots.includes("node"));

/** As in the style sheet. */
const ROW_HEIGHT = 48;

export function TableView() {
  const editor = useEditor();
  const structure = useStructure();
  const filter = useUi((state) => state.filter);
  const selection = useUi((state) => state.selection);
  const cursor = useUi((state) => state.cursor);
  const grid = useRef<HTMLTableElement>(null);
  const [menu, setMenu] = useState<RowMenu | null>(null);
  const order = useOrder();
  const columns = useMemo(() => columnsOf(structure.mode), [structure.mode]);
  const shown = useMemo(() => {
    const known = new Map(structure.endpoints.map((each) => [each.id, each]));
    const numbers = editor.numbers.getState().numbers.endpoints;
    return order.ids.flatMap((id) => {
      const each = known.get(id);
      return each && passes(filter, each, numbers.get(id)) ? [each] : [];
    });
  }, [editor, order.ids, filter, structure]);
  const selected = useMemo(() => new Set(selectedEndpoints(selection)), [selection]);
  const active = shown.find((each) => nodeOf(each.id) === cursor)?.id ?? shown[0]?.id;
  const select = useSelect(shown.map((each) => each.id));

  const focused = useKeptFocus(grid, shown);

  const openMenu = (id: number, x: number, y: number, back: HTMLElement | null) =>
    setMenu({ ids: selected.has(id) ? [...selected] : [id], x, y, back });
  const goTo = (place: number) => {
    const to = shown[Math.max(0, Math.min(shown.length - 1, place))];
    if (!to) return;
    const live = editor.numbers.getState().numbers.endpoints.get(to.id);
    editor.ui.setState({ cursor: nodeOf(to.id), announcement: spoken(to, live) });
    grid.current?.querySelector<HTMLElement>(`tr[data-id="${to.id}"]`)?.focus();
  };
  const press = (event: React.KeyboardEvent<HTMLTableElement>) => {
    const row = event.target instanceof HTMLTableRowElement ? Number(event.target.dataset.id) : null;
    if (row === null || event.altKey) return;
    const at = shown.findIndex((each) => each.id === row);
    const page = Math.max(1, Math.floor((grid.current?.parentElement?.clientHeight ?? 400) / ROW_HEIGHT) - 1);
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    const step = steps[event.key];
    if (step !== undefined) {
      if (event.shiftKey && !selected.has(row)) select(row, { adding: true });
      goTo(at + step);
      const next = shown[at + step];
      if (event.shiftKey && next) select(next.id, { adding: true, keep: true });
    } else if (event.key === "Home") goTo(0);
    else if (event.key === "End") goTo(shown.length - 1);
    else if (event.key === " ") select(row, { adding: true });
    else if (event.key === "Enter") void inspect(row);
    else if (event.key === "Escape") editor.ui.setState({ selection: new Set(), inspecting: false });
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const { run } = useAct();
  const inspect = (id: number) => run(action("inspect"), [id]);

  return (
    <>
      <div className="table-view">
        <TableBar shown={shown.length} sortedAt={order.sortedAt} onSortAgain={order.again} />
        <div className="table-scroll table-room">
          {structure.endpoints.length > 0 && (
            <table
              ref={grid}
              className="table endpoints"
              // biome-ignore lint/a11y/noNoninteractiveElementToInteractiveRole: rows are selected and gone through by keys
              role="grid"
              aria-label="Endpoints"
              aria-multiselectable="true"
              aria-rowcount={shown.length + 1}
              data-table
              data-testid="endpoint-table"
              onKeyDown={press}
              {...focused}
            >
              <thead>
                <tr>
                  <th scope="col" className="cell-check">
                    <SelectAll ids={shown.map((each) => each.id)} selected={selected} />
                  </th>
                  {columns.map((each) => (
                    <Header key={each.id} column={each} sorting={order.sorting} onSort={() => order.sort(each)} />
                  ))}
                  <th scope="col" className="cell-menu">
                    <span className="visually-hidden">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {shown.map((each) => (
                  <TableRow
                    key={each.id}
                    endpoint={each}
                    columns={columns}
                    selected={selected.has(each.id)}
                    active={each.id === active}
                    onSelect={select}
                    onMenu={openMenu}
                  />
                ))}
              </tbody>
            </table>
          )}
          {structure.endpoints.length > 0 && !shown.length && (
            <p className="empty">
              No endpoint matches "{filter}".
              <Button tight onClick={() => editor.ui.setState({ filter: "" })}>
                Show all
              </Button>
            </p>
          )}
        </div>
      </div>
      {menu && <Actions menu={menu} onClose={() => setMenu(null)} />}
    </>
  );
}

/** Where the row that had the focus is gone, the active one gets it: the keys go on. */
function useKeptFocus(grid: React.RefObject<HTMLTableElement | null>, shown: readonly unknown[]) {
  const inside = useRef(false);
  useEffect(() => {
    if (!inside.current || document.activeElement !== document.body) return;
    grid.current?.querySelector<HTMLElement>("tr[tabindex='0']")?.focus();
  }, [grid, shown]);
  return {
    onFocus: () => {
      inside.current = true;
    },
    // Not heard of for a row that is removed.
    onBlur: () => {
      inside.current = false;
    },
  };
}

/** The order of the rows: made anew when the structure changes or when asked, never by a tick. */
function useOrder() {
  const editor = useEditor();
  const structure = useStructure();
  const [sorting, setSorting] = useState<Sorting | null>(null);
  const [asked, setAsked] = useState(0);
  const live = columnsOf(structure.mode).find((each) => each.id === sorting?.by)?.live ?? false;
  const made = useMemo(
    () => ({
      ids: sortedIds(structure, editor.numbers.getState().numbers.endpoints, sorting),
      at: new Date().toISOString(),
    }),
    [structure, sorting, asked, editor],
  );
  return {
    ids: made.ids,
    sorting,
    sortedAt: live ? clock(made.at).slice(0, 8) : null,
    sort: (column: Column) => setSorting((before) => nextSorting(before, column)),
    again: () => setAsked((times) => times + 1),
  };
}

/** Selects one row; `adding` to the others, or takes it away again unless `keep`; `range`: up to it. */
function useSelect(shown: readonly number[]) {
  const editor = useEditor();
  return (id: number, how: { adding?: boolean; keep?: boolean; range?: boolean } = {}) => {
    const { selection, cursor } = editor.ui.getState();
    const next = new Set(how.adding || how.range ? selection : []);
    const from = shown.findIndex((each) => nodeOf(each) === cursor);
    const to = shown.indexOf(id);
    if (how.range && from >= 0) {
      for (const each of shown.slice(Math.min(from, to), Math.max(from, to) + 1)) next.add(nodeOf(each));
    } else if (next.has(nodeOf(id)) && !how.keep) {
      next.delete(nodeOf(id));
      next.delete(`wire-${id}`);
    } else next.add(nodeOf(id));
    const few = count(selectedEndpoints(next).length, "endpoint");
    editor.ui.setState({ selection: next, cursor: nodeOf(id), announcement: `${few} selected` });
  };
}

function SelectAll({ ids, selected }: { ids: readonly number[]; selected: ReadonlySet<number> }) {
  const editor = useEditor();
  const some = ids.filter((id) => selected.has(id)).length;
  return (
    <input
      type="checkbox"
      aria-label="Select all shown"
      checked={some > 0 && some === ids.length}
      ref={(node) => {
        if (node) node.indeterminate = some > 0 && some < ids.length;
      }}
      onChange={() => editor.ui.setState({ selection: new Set(some === ids.length ? [] : ids.map(nodeOf)) })}
    />
  );
}

function Header({ column, sorting, onSort }: { column: Column; sorting: Sorting | null; onSort: () => void }) {
  const own = sorting?.by === column.id;
  const way = own ? (sorting.descending ? "descending" : "ascending") : "none";
  return (
    <th
      scope="col"
      aria-sort={way}
      className={`hides-${column.hides} cell-${column.id}${column.numeric ? " number" : ""}`}
    >
      <button type="button" className="sort" title={column.title} onClick={onSort}>
        {column.label}
        <span className="sort-way" aria-hidden="true">
          {own ? (sorting.descending ? "↓" : "↑") : ""}
        </span>
      </button>
    </th>
  );
}

function Actions({ menu, onClose }: { menu: RowMenu; onClose: () => void }) {
  const { run, context } = useAct();
  const here = context(menu.ids);
  const close = () => {
    onClose();
    menu.back?.focus();
  };
  return (
    <MenuList label="Actions" at={menu} onClose={close}>
      {ROW_ACTIONS.map((each) => {
        const applies = each.applies(here);
        return (
          <MenuItem
            key={each.id}
            keys={each.keys[0]}
            danger={each.danger}
            why={applies === true ? undefined : applies}
            onChoose={() => {
              close();
              run(each, menu.ids);
            }}
          >
            {each.title}
          </MenuItem>
        );
      })}
    </MenuList>
  );
}
