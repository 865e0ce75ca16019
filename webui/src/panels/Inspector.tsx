// The panel at the right: everything about the endpoint that is selected, or what several have in common.

import { Fragment, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { Button, StatusBadge } from "../design/parts";
import { ago, compact, count, duration, hostOf, percent, rate } from "../logic/format";
import { modeOf } from "../logic/modes";
import { targets } from "../logic/shares";
import { statusOf } from "../logic/status";
import type { EndpointConfig } from "../logic/structure";
import { useEditor, useEndpointNumbers, useNumbers, useStructure, useUi } from "../state/context";
import { selectedEndpoints } from "../state/ui";
import { InspectorActs } from "./InspectorActs";
import { InspectorBulk } from "./InspectorBulk";
import { RecentChart } from "./InspectorChart";
import { ApiKey } from "./InspectorKey";
import { Quota } from "./InspectorQuota";
import { MoreSettings, NumberSetting, RankSetting, SwitchSetting, TextSetting } from "./InspectorSettings";
import { SuggestedMost } from "./InspectorSuggestion";
import { TestButton, TestFinding, useConnectionTest } from "./InspectorTest";
import "./inspector.css";

export function Inspector() {
  const editor = useEditor();
  const structure = useStructure();
  const selection = useUi((state) => state.selection);
  const panel = useRef<HTMLElement>(null);
  const endpoints = useMemo(() => {
    const ids = selectedEndpoints(selection);
    return structure.endpoints.filter((each) => ids.includes(each.id));
  }, [selection, structure]);
  useEffect(() => {
    // Opened by a key on the canvas: the keys go on here.
    const from = document.activeElement;
    if (from?.matches("[data-canvas]:focus-visible")) panel.current?.focus();
  }, []);
  const close = () => {
    editor.ui.setState({ inspecting: false });
    focusStage();
  };
  const [first] = endpoints;
  if (!first) return null;
  const title = endpoints.length === 1 ? first.name : `${endpoints.length} endpoints`;
  return (
    <aside
      ref={panel}
      className="inspector"
      aria-label={`Inspector: ${title}`}
      data-inspector
      data-testid="inspector"
      tabIndex={-1}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || event.defaultPrevented) return;
        event.stopPropagation();
        close();
      }}
    >
      <header className="inspector-head">
        <h2 className="truncate grow" title={title}>
          {title}
        </h2>
        <Button tone="quiet" icon="cross" tight aria-label="Close the inspector" onClick={close} />
      </header>
      <Fragment key={endpoints.map((each) => each.id).join()}>
        <FocusKeeper />
        {endpoints.length === 1 ? <One endpoint={first} /> : <InspectorBulk endpoints={endpoints} />}
      </Fragment>
    </aside>
  );
}

function focusStage() {
  document.querySelector<HTMLElement>("[data-canvas], [data-table] tr[tabindex='0']")?.focus();
}

/** What has the focus may go away with its endpoint, which another operator deletes: then it goes on nearby. */
function FocusKeeper() {
  const mark = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => {
    const inspector = mark.current?.closest<HTMLElement>("[data-inspector]");
    return () => {
      if (!inspector?.contains(document.activeElement)) return;
      queueMicrotask(() => {
        if (document.activeElement !== document.body) return;
        if (inspector.isConnected) inspector.focus();
        else focusStage();
      });
    };
  }, []);
  return <span ref={mark} hidden />;
}

function One({ endpoint }: { endpoint: EndpointConfig }) {
  const structure = useStructure();
  const numbers = useEndpointNumbers(endpoint.id);
  const steering = modeOf(structure.mode).field;
  const about = [endpoint];
  const target = structure.mode === "percentage" ? (targets(structure).get(endpoint.id) ?? null) : null;
  const [typedKey, setTypedKey] = useState<string | null>(null);
  const test = useConnectionTest(endpoint, typedKey);
  return (
    <>
      <Condition endpoint={endpoint} />
      <div className="inspector-part settings">
        <TextSetting endpoints={about} field="name" />
        <TextSetting endpoints={about} field="base_url" />
        <ApiKey endpoint={endpoint} onTyped={setTypedKey} />
        <div className="stack">
          <div>
            <TestButton busy={test.busy} onClick={() => void test.run()} />
          </div>
          {test.result && <TestFinding result={test.result} />}
        </div>
        <Quota endpoint={endpoint} />
        <div className="pair">
          <RankSetting endpoints={about} />
          <NumberSetting endpoints={about} field="max_concurrent" />
        </div>
        <SuggestedMost endpoint={endpoint} />
        {(steering === "weight" || steering === "price_per_million_output") && (
          <NumberSetting endpoints={about} field={steering} />
        )}
        <SwitchSetting endpoints={about} field="connected" />
        <SwitchSetting endpoints={about} field="enabled" />
      </div>
      <div className="inspector-part">
        <RecentChart id={endpoint.id} target={target} />
      </div>
      <MoreSettings endpoints={about} discovered={numbers?.discovered_models ?? null} />
      <Totals endpoint={endpoint} />
      <InspectorActs ids={[endpoint.id]} />
    </>
  );
}

/** How it is, why, and what it does now. */
function Condition({ endpoint }: { endpoint: EndpointConfig }) {
  const numbers = useEndpointNumbers(endpoint.id);
  const at = useNumbers((state) => state.at);
  const status = statusOf(endpoint, numbers);
  const found = numbers?.discovered_models;
  const models = endpoint.models.length ? endpoint.models : found;
  return (
    <div className="inspector-part condition">
      <p className="row">
        <StatusBadge status={status} />
        <span className="small muted truncate" title={endpoint.base_url}>
          {hostOf(endpoint.base_url)}
        </span>
      </p>
      <p className="small condition-why" data-testid="explanation">
        {status.explanation}
      </p>
      <p className="small muted">
        <span title={models?.join(", ")}>{models ? count(models.length, "model") : "models unknown"}</span>
        {" · "}
        {healthLine(numbers?.health.checked_at ?? null, numbers?.health.latency_ms ?? null, at)}
        {endpoint.discovered && " · discovered"}
      </p>
      <dl className="figures">
        <Figure value={compact(numbers?.tokens_per_second ?? 0)} unit="tok/s" />
        <Figure value={rate(numbers?.requests_per_second ?? 0)} unit="req/s" />
        <Figure value={`${numbers?.inflight ?? 0} / ${endpoint.max_concurrent || "∞"}`} unit="in flight" />
        <Figure value={duration(numbers?.ttfb_seconds)} unit="first byte" />
      </dl>
    </div>
  );
}

function healthLine(checkedAt: string | null, latency: number | null, at: number): string {
  if (!checkedAt) return "not probed yet";
  return `last probe ${ago(checkedAt, at)}${latency === null ? "" : `, ${duration(latency / 1000)}`}`;
}

function Figure({ value, unit }: { value: string; unit: string }) {
  return (
    <div>
      <dd>{value}</dd>
      <dt className="small muted">{unit}</dt>
    </div>
  );
}

function Totals({ endpoint }: { endpoint: EndpointConfig }) {
  const numbers = useEndpointNumbers(endpoint.id);
  if (!numbers) return null;
  const rows: [string, string][] = [
    ["Requests", numbers.total_requests.toLocaleString("en")],
    ["Failed", numbers.total_failures.toLocaleString("en")],
    ["Tokens in", numbers.prompt_tokens_total.toLocaleString("en")],
    ["Tokens out", numbers.completion_tokens_total.toLocaleString("en")],
    ["Part of all tokens", percent(numbers.total_share_percent)],
    ["Mean time", duration(numbers.avg_latency_ms / 1000)],
  ];
  return (
    <section className="inspector-part" aria-label="Totals">
      <h3>Totals</h3>
      <dl className="totals">
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt className="muted">{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {numbers.last_error && (
        <p className="small last-error">
          <span className="muted">Last error: </span>
          {numbers.last_error}
        </p>
      )}
    </section>
  );
}
