// The settings of one or several endpoints. What the mode goes by stands first, the rarely needed is folded away.

import { useState } from "react";
import { useStore } from "zustand";
import { action } from "../actions/list";
import { Button, Switch } from "../design/parts";
import { useAct } from "../editor/acting";
import { labelOf } from "../logic/clash";
import { draftKey } from "../logic/drafts";
import { commonValue, type FieldName, type SwitchName, sameForAll } from "../logic/fields";
import { modeOf } from "../logic/modes";
import type { EndpointConfig } from "../logic/structure";
import { useEditor, useStructure } from "../state/context";
import { Aliases } from "./InspectorAliases";
import { EditField, useEdit } from "./InspectorEdit";

export interface About {
  endpoints: readonly EndpointConfig[];
}

const HINTS: Partial<Record<FieldName, string>> = {
  priority_order: "1 goes first.",
  max_concurrent: "Requests in flight; 0: no cap.",
  weight: "For weighted and least loaded.",
  timeout: "Longest silence, in seconds: 5 to 600.",
  price_per_million_input: "Per million tokens; empty: unknown.",
  price_per_million_output: "Per million tokens; empty: unknown.",
  tags: "Separated by commas.",
};

const SWITCH_HINTS: Record<SwitchName, string> = {
  connected: "Wired to Incoming: receives traffic.",
  enabled: "Off: keeps its wire and takes nothing.",
  verify_tls: "Off only for certificates of your own.",
  include_usage: "Asks streams for their token counts.",
  health_check: "Asks for its models regularly.",
};

export function TextSetting({ endpoints, field }: About & { field: "name" | "base_url" }) {
  const edit = useEdit(endpoints, field);
  return <EditField edit={edit} mono={field === "base_url"} />;
}

const SHORT_LABELS: Partial<Record<FieldName, string>> = {
  price_per_million_input: "Price of input",
  price_per_million_output: "Price of output",
};

export function NumberSetting({ endpoints, field }: About & { field: FieldName }) {
  const edit = useEdit(endpoints, field);
  return <EditField edit={edit} label={SHORT_LABELS[field]} hint={HINTS[field]} numeric />;
}

/** A rank, with buttons that change places with the neighbour. */
export function RankSetting({ endpoints }: About) {
  const { run, context } = useAct();
  const edit = useEdit(endpoints, "priority_order");
  const ids = endpoints.map((each) => each.id);
  const button = (way: "up" | "down") => {
    const each = action(`rank-${way}`);
    const applies = each.applies(context(ids));
    return (
      <Button
        icon={way}
        aria-label={each.title}
        why={applies === true ? undefined : applies}
        onClick={() => run(each, ids)}
      />
    );
  };
  const buttons = (
    <>
      {button("up")}
      {button("down")}
    </>
  );
  return <EditField edit={edit} hint={HINTS.priority_order} numeric after={ids.length === 1 ? buttons : undefined} />;
}

export function SwitchSetting({ endpoints, field }: About & { field: SwitchName }) {
  const editor = useEditor();
  const common = commonValue(endpoints, field);
  const ids = endpoints.map((each) => each.id);
  const change = (on: boolean) => {
    const updates = sameForAll(ids, { [field]: on });
    editor.submit({ kind: "change", updates }).catch((error) => editor.complain(error));
  };
  return (
    <div className="switch-row">
      <span className="grow">
        <span>{labelOf(field)}</span>
        {!common.same && <span className="small tone-warn"> differs</span>}
        <span className="hint small muted">{SWITCH_HINTS[field]}</span>
      </span>
      <Switch
        on={common.same && common.value === true}
        label={common.same ? labelOf(field) : `${labelOf(field)}, differs`}
        onChange={change}
      />
    </div>
  );
}

const FOLDED: readonly FieldName[] = [
  "weight",
  "timeout",
  "models",
  "model_aliases",
  "tags",
  "price_per_million_input",
  "price_per_million_output",
];

/** The rarely needed ones. They unfold by themselves where one of them has a problem. */
export function MoreSettings({ endpoints, discovered }: About & { discovered?: readonly string[] | null }) {
  const editor = useEditor();
  const steering = modeOf(useStructure().mode).field;
  const [open, setOpen] = useState(false);
  const ids = endpoints.map((each) => each.id);
  const troubled = useStore(editor.drafts, ({ drafts }) =>
    FOLDED.some((field) => drafts.get(draftKey(ids, field))?.problem),
  );
  return (
    <details className="more-settings" open={open || troubled} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>More settings</summary>
      <div className="settings">
        <div className="pair">
          {steering !== "weight" && <NumberSetting endpoints={endpoints} field="weight" />}
          <NumberSetting endpoints={endpoints} field="timeout" />
        </div>
        <SwitchSetting endpoints={endpoints} field="verify_tls" />
        <SwitchSetting endpoints={endpoints} field="include_usage" />
        <SwitchSetting endpoints={endpoints} field="health_check" />
        <Models endpoints={endpoints} discovered={discovered} />
        <Aliases endpoints={endpoints} />
        <Tags endpoints={endpoints} />
        <div className="pair">
          <NumberSetting endpoints={endpoints} field="price_per_million_input" />
          {steering !== "price_per_million_output" && (
            <NumberSetting endpoints={endpoints} field="price_per_million_output" />
          )}
        </div>
      </div>
    </details>
  );
}

function Models({ endpoints, discovered }: About & { discovered?: readonly string[] | null | undefined }) {
  const edit = useEdit(endpoints, "models");
  return (
    <EditField
      edit={edit}
      lines={3}
      mono
      placeholder={discovered?.length ? discovered.slice(0, 3).join("\n") : "as found"}
      hint="One a line; empty: as found. Ctrl+Enter saves."
    />
  );
}

function Tags({ endpoints }: About) {
  return <EditField edit={useEdit(endpoints, "tags")} hint={HINTS.tags} />;
}
