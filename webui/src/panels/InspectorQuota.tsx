// The quota of one endpoint: a slider and a number. While either is moved the split it would lead to is shown; letting
// go makes one change, in which the others share the rest.

import { useEffect, useRef } from "react";
import type { Act, Update } from "../logic/acts";
import { readField, sameForAll } from "../logic/fields";
import { percent } from "../logic/format";
import { quotaSum, withQuota } from "../logic/shares";
import { type EndpointConfig, receivers, type Structure } from "../logic/structure";
import { useEditor, useEndpointNumbers, useStructure, useUi } from "../state/context";
import { type Edit, EditField, useEdit } from "./InspectorEdit";

const SHOWN_OTHERS = 3;

/** The change that gives `endpoint` this quota: of all receivers, if it is one of them. */
export function quotaUpdates(structure: Structure, endpoint: EndpointConfig, value: number): Update[] {
  const among = endpoint.connected && endpoint.enabled;
  return among ? withQuota(structure, endpoint.id, value) : sameForAll([endpoint.id], { token_quota_percent: value });
}

/** An edit of the quota that shows its consequences while something valid is typed. */
export function useQuotaEdit(endpoint: EndpointConfig): Edit {
  const editor = useEditor();
  const structure = useStructure();
  const updatesFor = (value: unknown) => quotaUpdates(structure, endpoint, Number(value));
  const edit = useEdit([endpoint], "token_quota_percent", updatesFor);
  const preview = (act: Act | null) => editor.ui.setState({ preview: act });
  useEffect(() => () => editor.ui.setState({ preview: null }), [editor]);
  const end = (then: () => void) => () => {
    preview(null);
    then();
  };
  return {
    ...edit,
    type: (text) => {
      edit.type(text);
      const reading = readField("token_quota_percent", text);
      preview("value" in reading ? { kind: "change", updates: updatesFor(reading.value) } : null);
    },
    commit: async () => {
      preview(null);
      await edit.commit();
    },
    cancel: end(edit.cancel),
    keepMine: end(edit.keepMine),
  };
}

export function Quota({ endpoint }: { endpoint: EndpointConfig }) {
  const structure = useStructure();
  const numbers = useEndpointNumbers(endpoint.id);
  const preview = useUi((state) => state.preview);
  const edit = useQuotaEdit(endpoint);
  const shown = preview?.kind === "change" ? withUpdates(structure, preview.updates) : structure;
  return (
    <div className="quota-edit">
      <EditField
        edit={edit}
        numeric
        after={<span className="muted">%</span>}
        hint={hintOf(shown, endpoint, numbers?.share_percent ?? 0)}
      />
      <Slider edit={edit} endpoint={endpoint} />
    </div>
  );
}

function withUpdates(structure: Structure, updates: readonly Update[]): Structure {
  const quotas = new Map(updates.map((each) => [each.id, each.fields.token_quota_percent]));
  return {
    ...structure,
    endpoints: structure.endpoints.map((each) => ({
      ...each,
      token_quota_percent: quotas.get(each.id) ?? each.token_quota_percent,
    })),
  };
}

function hintOf(structure: Structure, endpoint: EndpointConfig, now: number): string {
  if (!endpoint.connected || !endpoint.enabled) return "Counts once it receives traffic.";
  const others = receivers(structure).filter((each) => each.id !== endpoint.id);
  if (!others.length) return `Now ${percent(now)}. It is the only one that receives: it gets everything.`;
  const first = others.slice(0, SHOWN_OTHERS).map((each) => `${each.name} ${percent(each.token_quota_percent)}`);
  const more = others.length > SHOWN_OTHERS ? `, ${others.length - SHOWN_OTHERS} more` : "";
  return `Now ${percent(now)}. Others: ${first.join(", ")}${more}. Sum ${percent(quotaSum(structure))}.`;
}

function Slider({ edit, endpoint }: { edit: Edit; endpoint: EndpointConfig }) {
  const ref = useRef<HTMLInputElement>(null);
  const latest = useRef(edit);
  latest.current = edit;
  const byKey = useRef(false);
  useEffect(() => {
    // React hears of every step; the element's own change event tells of letting go.
    const input = ref.current;
    const released = () => {
      if (!byKey.current) void latest.current.commit();
    };
    input?.addEventListener("change", released);
    return () => input?.removeEventListener("change", released);
  }, []);
  const reading = readField("token_quota_percent", edit.text);
  const value = "value" in reading ? Number(reading.value) : 0;
  return (
    <input
      ref={ref}
      type="range"
      min={0}
      max={100}
      step={1}
      value={Math.round(value)}
      aria-label={`Token quota of ${endpoint.name}`}
      aria-valuetext={`${value} percent`}
      onChange={(event) => edit.type(event.target.value)}
      onKeyDown={(event) => {
        byKey.current = true;
        if (event.key === "Escape" && edit.dirty) {
          event.stopPropagation();
          edit.cancel();
        } else if (event.key === "Enter") void edit.commit();
      }}
      onKeyUp={() => {
        byKey.current = false;
        // A key held down is one change.
        if (latest.current.dirty) void latest.current.commit();
      }}
      onBlur={() => {
        byKey.current = false;
        if (edit.dirty && edit.theirs === null && !edit.problem) void edit.commit();
      }}
    />
  );
}
