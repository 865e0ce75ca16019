// Adding an endpoint: paste an address, see its models, connect. Whatever can be known is filled in.

import { useEffect, useId, useMemo, useRef, useState } from "react";
import { ApiProblem } from "../api/client";
import { Button, Dialog, Field } from "../design/parts";
import { type NewEndpoint, updatesOf } from "../logic/acts";
import { problemOfField, readField } from "../logic/fields";
import { sentence } from "../logic/format";
import { freePlace, type Place } from "../logic/layout";
import { addition, suggestedQuota, withNewcomer } from "../logic/newcomer";
import { readPasted } from "../logic/paste";
import { freeName, receivers } from "../logic/structure";
import { useEditor, useFlow, useStructure } from "../state/context";
import { AddEndpointOutlook } from "./AddEndpointOutlook";
import { AddEndpointTest, useAddressTest } from "./AddEndpointTest";
import "./add-endpoint.css";

interface Typed {
  address: string;
  /** Null: as suggested. */
  name: string | null;
  key: string;
  quota: string | null;
  connect: boolean;
  rescale: boolean;
}

type Problems = Partial<Record<"base_url" | "name" | "api_key" | "token_quota_percent" | "form", string>>;

const OWN_FIELDS = ["base_url", "name", "api_key", "token_quota_percent"] as const;

/** The dialog of the action "add". */
export function AddEndpoint(props: { at?: Place; connect: boolean; pasted?: string; onClose: () => void }) {
  const editor = useEditor();
  const structure = useStructure();
  const form = useId();
  const [typed, setTyped] = useState<Typed>(() => ({
    name: null,
    quota: null,
    connect: props.connect,
    rescale: structure.mode === "percentage",
    ...addressIn(props.pasted ?? "", ""),
  }));
  const [problems, setProblems] = useState<Problems>({});
  const [busy, setBusy] = useState(false);
  const waiting = useFlow((state) => state.saving === "waiting");
  const open = useRef(true);
  useEffect(() => {
    open.current = true;
    return () => {
      open.current = false;
    };
  }, []);
  const read = useMemo(() => readPasted(typed.address), [typed.address]);
  // A key in the address counts already while it still stands there.
  const key = (typed.key || read?.api_key || "").trim();
  const test = useAddressTest(read?.base_url ?? null, key);
  const name = typed.name ?? (read ? freeName(read.name, structure) : "");
  const quota = typed.quota ?? String(suggestedQuota(structure));
  const others = receivers(structure);
  const fields = fieldsOf(typed, name, quota, key, read?.base_url ?? typed.address.trim());
  const rescaled = typed.connect && typed.rescale && others.length > 0;
  const change = (part: Partial<Typed>, ...cleared: (keyof Problems)[]) => {
    setTyped((before) => ({ ...before, ...part }));
    setProblems((before) => {
      const rest = { ...before };
      for (const each of ["form", ...cleared] as const) delete rest[each];
      return rest;
    });
  };

  const submit = async () => {
    const wrong = check(typed.address, name, quota);
    setProblems(wrong);
    if (Object.keys(wrong).length || busy) return;
    setBusy(true);
    const place = props.at ?? freePlace(structure);
    try {
      const endpoint = { ...fields, pos_x: place.x, pos_y: place.y };
      const act = addition(structure, endpoint, rescaled);
      const says = [
        `${endpoint.name} added${endpoint.connected ? " and connected" : ""}`,
        updatesOf(act).length ? "quotas sum to 100 %" : "",
      ];
      const done = await editor.submit(act, { says: says.filter(Boolean).join("; ") });
      if (open.current && done) props.onClose();
      // What another operator did meanwhile was kept; what is typed here can be sent again.
      else if (open.current) setBusy(false);
    } catch (error) {
      if (!open.current) return editor.complain(error);
      setBusy(false);
      editor.flow.setState({ saving: "saved" });
      setProblems(problemsIn(error));
    }
  };

  return (
    <Dialog
      title="Add endpoint"
      onClose={props.onClose}
      foot={
        <>
          <Button onClick={props.onClose}>{busy ? "Close" : "Cancel"}</Button>
          <Button type="submit" form={form} tone="primary" why={busy ? "It is being added" : undefined}>
            {typed.connect ? "Add and connect" : "Add"}
          </Button>
        </>
      }
    >
      <form
        id={form}
        className="add-endpoint"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <Address typed={typed} change={change} problem={problems.base_url} readAs={read?.base_url ?? null} />
        <AddEndpointTest state={test} />
        <Field label="Name" problem={problems.name}>
          {(control) => (
            <input
              {...control}
              className="input"
              name="name"
              autoComplete="off"
              maxLength={120}
              value={name}
              onChange={(event) => change({ name: event.target.value }, "name")}
            />
          )}
        </Field>
        <Field label="API key" hint="Only if it asks for one." problem={problems.api_key}>
          {(control) => (
            <input
              {...control}
              className="input mono"
              type="password"
              name="api_key"
              autoComplete="off"
              value={typed.key}
              onChange={(event) => change({ key: event.target.value }, "api_key")}
            />
          )}
        </Field>
        <label className="check">
          <input
            type="checkbox"
            name="connected"
            checked={typed.connect}
            onChange={(event) => change({ connect: event.target.checked })}
          />
          Connect now: it receives traffic at once
        </label>
        {structure.mode === "percentage" && (
          <Field label="Token quota" problem={problems.token_quota_percent}>
            {(control) => (
              <div className="row">
                <input
                  {...control}
                  className="input number quota-input"
                  name="quota"
                  inputMode="decimal"
                  autoComplete="off"
                  value={quota}
                  onChange={(event) => change({ quota: event.target.value }, "token_quota_percent")}
                />
                <span className="muted">%</span>
                {typed.connect && others.length > 0 && (
                  <label className="check rescale-check">
                    <input
                      type="checkbox"
                      name="rescale"
                      checked={typed.rescale}
                      onChange={(event) => change({ rescale: event.target.checked })}
                    />
                    make quotas sum to 100 %
                  </label>
                )}
              </div>
            )}
          </Field>
        )}
        {typed.connect && others.length > 0 && (
          <AddEndpointOutlook before={structure} after={withNewcomer(structure, fields, rescaled)} />
        )}
        {busy && waiting && (
          <p className="note warn" role="status">
            The balancer does not answer. The endpoint is added as soon as it does.
          </p>
        )}
        {problems.form && (
          <p className="note bad" role="alert">
            {problems.form}
          </p>
        )}
      </form>
    </Dialog>
  );
}

function Address({
  typed,
  change,
  problem,
  readAs,
}: {
  typed: Typed;
  change: (part: Partial<Typed>, ...cleared: (keyof Problems)[]) => void;
  problem: string | undefined;
  readAs: string | null;
}) {
  const take = (text: string) => change(addressIn(text, typed.key), "base_url");
  const other = readAs !== null && readAs !== typed.address.trim();
  return (
    <Field
      label="Address"
      hint={other ? `Read as ${readAs}` : "A URL, host:port, or a whole curl command."}
      problem={problem}
    >
      {(control) => (
        <input
          {...control}
          data-autofocus
          className="input mono"
          name="address"
          inputMode="url"
          autoComplete="off"
          autoCapitalize="off"
          spellCheck={false}
          placeholder="http://localhost:11434"
          value={typed.address}
          onChange={(event) => change({ address: event.target.value }, "base_url")}
          onBlur={() => take(typed.address)}
          onPaste={(event) => {
            // A text of several lines would lose its line ends, and a key in it would stand there to be read.
            const text = event.clipboardData.getData("text/plain");
            if (typed.address && !text.includes("\n") && !/^\s*curl\s/i.test(text)) return;
            event.preventDefault();
            take(text.trim());
          }}
        />
      )}
    </Field>
  );
}

/** What was pasted, as the address field shows it; a key in it goes where keys are. */
function addressIn(text: string, key: string): { address: string; key: string } {
  const read = readPasted(text);
  if (!read) return { address: text.replace(/\s+/g, " ").trim(), key };
  return { address: read.base_url, key: read.api_key ?? key };
}

function fieldsOf(typed: Typed, name: string, quota: string, key: string, baseUrl: string): NewEndpoint {
  const percent = readField("token_quota_percent", quota);
  return {
    name: name.trim(),
    base_url: baseUrl,
    connected: typed.connect,
    token_quota_percent: "value" in percent ? Number(percent.value) : 0,
    ...(key ? { api_key: key } : {}),
  };
}

function check(address: string, name: string, quota: string): Problems {
  const percent = readField("token_quota_percent", quota);
  const wrong = wrongWith(address);
  return {
    ...(wrong ? { base_url: wrong } : {}),
    // A name is proposed with the address: where that is wrong, it is what to mend.
    ...(name.trim() || wrong ? {} : { name: "It needs a name." }),
    ...("problem" in percent ? { token_quota_percent: `The quota ${percent.problem}.` } : {}),
  };
}

function wrongWith(address: string): string | null {
  if (!address.trim()) return "Paste the address of the server.";
  return readPasted(address) ? null : "This is no address of a server: write http://host:port, or https://host.";
}

function problemsIn(error: unknown): Problems {
  if (!(error instanceof ApiProblem)) return { form: error instanceof Error ? error.message : String(error) };
  const found: Problems = {};
  for (const field of OWN_FIELDS) {
    const problem = problemOfField(field, error.fields);
    if (problem) found[field] = sentence(problem);
  }
  if (Object.keys(found).length) return found;
  if (error.status === 409 && error.message.startsWith("the name ")) return { name: "Another endpoint has this name." };
  return { form: error.message };
}
