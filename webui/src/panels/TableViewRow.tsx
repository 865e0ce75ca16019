// One endpoint as a row. Its controls can be reached by Tab while the row is the active one.

import { type MouseEvent, memo } from "react";
import { useShallow } from "zustand/react/shallow";
import { action } from "../actions/list";
import type { EndpointNumbers } from "../api/types";
import { Button, StatusBadge, Switch } from "../design/parts";
import { useAct } from "../editor/acting";
import type { Changes } from "../logic/acts";
import type { FieldName } from "../logic/fields";
import { compact, duration, hostOf, percent, rate } from "../logic/format";
import { targets } from "../logic/shares";
import { statusOf } from "../logic/status";
import type { EndpointConfig } from "../logic/structure";
import { type Column, type ColumnId, modelCount } from "../logic/table";
import { useEditor, useNumbers, useStructure } from "../state/context";
import { controlOf, type Edit, Theirs, useEdit } from "./InspectorEdit";
import { useQuotaEdit } from "./InspectorQuota";

interface RowProps {
  endpoint: EndpointConfig;
  columns: readonly Column[];
  selected: boolean;
  active: boolean;
  onSelect: (id: number, how?: { adding?: boolean; keep?: boolean; range?: boolean }) => void;
  onMenu: (id: number, x: number, y: number, back: HTMLElement | null) => void;
}

export function TableRow({ endpoint, columns, selected, active, onSelect, onMenu }: RowProps) {
  const { run } = useAct();
  const { id, name } = endpoint;
  const stop = active ? 0 : -1;
  const click = (event: MouseEvent) => {
    // What has its own meaning in a row is not a click on the row.
    if (onControl(event)) return;
    onSelect(id, { adding: event.ctrlKey || event.metaKey, range: event.shiftKey, keep: !event.ctrlKey });
  };
  return (
    <tr
      data-id={id}
      data-testid={`row-${id}`}
      tabIndex={stop}
      aria-selected={selected}
      aria-label={`${name}, ${endpoint.connected ? "connected" : "not connected"}`}
      className={endpoint.connected && endpoint.enabled ? "" : "off"}
      onClick={click}
      onDoubleClick={(event) => {
        if (!onControl(event)) run(action("inspect"), [id]);
      }}
      onContextMenu={(event) => {
        event.preventDefault();
        onMenu(id, event.clientX, event.clientY, event.currentTarget);
      }}
    >
      <td className="cell-check">
        <input
          type="checkbox"
          aria-label={`Select ${name}`}
          tabIndex={stop}
          checked={selected}
          onChange={() => onSelect(id, { adding: true })}
        />
      </td>
      {columns.map((each) => (
        <td key={each.id} className={`hides-${each.hides} cell-${each.id}${each.numeric ? " number" : ""}`}>
          <Cell column={each.id} endpoint={endpoint} stop={stop} />
        </td>
      ))}
      <td className="cell-menu">
        <Button
          tight
          tone="quiet"
          icon="more"
          tabIndex={stop}
          aria-label={`Actions on ${name}`}
          aria-haspopup="menu"
          onClick={(event) => {
            const { left, bottom } = event.currentTarget.getBoundingClientRect();
            onMenu(id, left, bottom + 4, event.currentTarget);
          }}
        />
      </td>
    </tr>
  );
}

function onControl(event: MouseEvent): boolean {
  return event.target instanceof Element && event.target.closest("button, input, label, .theirs") !== null;
}

interface CellProps {
  column: ColumnId;
  endpoint: EndpointConfig;
  /** The tabIndex of what can be pressed in it. */
  stop: number;
}

/** Controls change with the structure only; figures with every tick. */
const Cell = memo(function Cell({ column, endpoint, stop }: CellProps) {
  switch (column) {
    case "name":
      return <NameCell endpoint={endpoint} stop={stop} />;
    case "connected":
    case "enabled":
      return <SwitchCell endpoint={endpoint} field={column} stop={stop} />;
    case "quota":
      return <QuotaCell endpoint={endpoint} stop={stop} />;
    case "rank":
      return <RankCell endpoint={endpoint} stop={stop} />;
    case "weight":
      return <NumberCell endpoint={endpoint} field="weight" stop={stop} />;
    case "price":
      return <NumberCell endpoint={endpoint} field="price_per_million_output" stop={stop} />;
    default:
      return <FigureCell column={column} endpoint={endpoint} />;
  }
});

function NameCell({ endpoint, stop }: { endpoint: EndpointConfig; stop: number }) {
  const { run } = useAct();
  return (
    <>
      <button
        type="button"
        className="row-name truncate"
        tabIndex={stop}
        title={endpoint.name}
        onClick={() => run(action("inspect"), [endpoint.id])}
      >
        {endpoint.name}
      </button>
      <span className="row-host small muted truncate" title={endpoint.base_url}>
        {hostOf(endpoint.base_url)}
      </span>
    </>
  );
}

function SwitchCell({
  endpoint,
  field,
  stop,
}: {
  endpoint: EndpointConfig;
  field: "connected" | "enabled";
  stop: number;
}) {
  const editor = useEditor();
  const label = field === "connected" ? `${endpoint.name} receives traffic` : `${endpoint.name} is enabled`;
  const change = (on: boolean) => {
    const fields: Changes = { [field]: on };
    editor.submit({ kind: "change", updates: [{ id: endpoint.id, fields }] }).catch((error) => editor.complain(error));
  };
  return <Switch on={endpoint[field]} label={label} tabIndex={stop} onChange={change} />;
}

function QuotaCell({ endpoint, stop }: { endpoint: EndpointConfig; stop: number }) {
  const structure = useStructure();
  const edit = useQuotaEdit(endpoint);
  const target = targets(structure).get(endpoint.id);
  const differs = target !== undefined && Math.abs(target - endpoint.token_quota_percent) > 0.05;
  return (
    <>
      <span className="cell-edit">
        <CellInput edit={edit} label={`Token quota of ${endpoint.name} in percent`} stop={stop} />
        <span className="muted">%</span>
      </span>
      {differs && <span className="small muted cell-below">target {percent(Math.round(target * 10) / 10)}</span>}
      <CellProblem edit={edit} />
    </>
  );
}

function NumberCell({ endpoint, field, stop }: { endpoint: EndpointConfig; field: FieldName; stop: number }) {
  const edit = useEdit([endpoint], field);
  return (
    <>
      <CellInput edit={edit} label={`${field === "weight" ? "Weight" : "Price"} of ${endpoint.name}`} stop={stop} />
      <CellProblem edit={edit} />
    </>
  );
}

function RankCell({ endpoint, stop }: { endpoint: EndpointConfig; stop: number }) {
  const { run, context } = useAct();
  const edit = useEdit([endpoint], "priority_order");
  const here = context([endpoint.id]);
  return (
    <>
      <span className="cell-edit">
        <CellInput edit={edit} label={`Rank of ${endpoint.name}`} stop={stop} />
        {(["up", "down"] as const).map((way) => {
          const each = action(`rank-${way}`);
          const applies = each.applies(here);
          return (
            <Button
              key={way}
              tight
              tone="quiet"
              icon={way}
              tabIndex={stop}
              aria-label={`${endpoint.name}: rank ${way}`}
              why={applies === true ? undefined : applies}
              onClick={() => run(each, [endpoint.id])}
            />
          );
        })}
      </span>
      <CellProblem edit={edit} />
    </>
  );
}

function CellInput({ edit, label, stop }: { edit: Edit; label: string; stop: number }) {
  const { onKeyDown, ...control } = controlOf(edit);
  return (
    <input
      {...control}
      className="input number cell-input"
      inputMode="decimal"
      autoComplete="off"
      tabIndex={stop}
      aria-label={label}
      aria-invalid={edit.problem ? true : undefined}
      onFocus={(event) => event.currentTarget.select()}
      onKeyDown={(event) => {
        onKeyDown(event);
        // Back to the row, where the arrows are.
        if (event.key === "Escape" && !event.defaultPrevented) event.currentTarget.closest("tr")?.focus();
      }}
    />
  );
}

function CellProblem({ edit }: { edit: Edit }) {
  return (
    <>
      {edit.problem && (
        <span className="problem cell-problem" role="alert">
          {edit.problem}
        </span>
      )}
      <Theirs edit={edit} />
    </>
  );
}

/** A figure looks at nothing but its own text: a tick redraws what has changed. */
function FigureCell({ column, endpoint }: { column: ColumnId; endpoint: EndpointConfig }) {
  if (column === "status") return <StatusCell endpoint={endpoint} />;
  if (column === "models") return <ModelsCell endpoint={endpoint} />;
  if (column === "failures") return <FailuresCell id={endpoint.id} />;
  return <TextCell column={column} endpoint={endpoint} />;
}

function StatusCell({ endpoint }: { endpoint: EndpointConfig }) {
  const status = useNumbers(useShallow((state) => statusOf(endpoint, state.numbers.endpoints.get(endpoint.id))));
  return <StatusBadge status={status} />;
}

function ModelsCell({ endpoint }: { endpoint: EndpointConfig }) {
  const number = useNumbers((state) => modelCount(endpoint, state.numbers.endpoints.get(endpoint.id)));
  return number ?? "–";
}

function FailuresCell({ id }: { id: number }) {
  const failures = useNumbers((state) => state.numbers.endpoints.get(id)?.total_failures ?? 0);
  const last = useNumbers((state) => state.numbers.endpoints.get(id)?.last_error ?? "");
  return (
    <span className={failures ? "tone-bad" : "muted"} title={last || undefined}>
      {compact(failures)}
    </span>
  );
}

function TextCell({ column, endpoint }: { column: ColumnId; endpoint: EndpointConfig }) {
  const text = useNumbers((state) => figureText(column, endpoint, state.numbers.endpoints.get(endpoint.id)));
  if (column !== "inflight") return text;
  return (
    <>
      {text} <span className="muted">/ {endpoint.max_concurrent || "∞"}</span>
    </>
  );
}

function figureText(column: ColumnId, endpoint: EndpointConfig, numbers: EndpointNumbers | undefined): string {
  switch (column) {
    case "share":
      return endpoint.connected ? percent(numbers?.share_percent ?? 0) : "–";
    case "inflight":
      return String(numbers?.inflight ?? 0);
    case "tokens":
      return compact(numbers?.tokens_per_second ?? 0);
    case "requests":
      return rate(numbers?.requests_per_second ?? 0);
    case "firstByte":
      return duration(numbers?.ttfb_seconds);
    case "total":
      return compact((numbers?.prompt_tokens_total ?? 0) + (numbers?.completion_tokens_total ?? 0));
    default:
      return "";
  }
}
