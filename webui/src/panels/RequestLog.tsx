// The last requests: who served them, and why there. It moves with the traffic until somebody reads further down.

import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { RequestsView, RequestView } from "../api/types";
import { Button, Icon } from "../design/parts";
import { curlLine, newerThan, type RequestFilter, requestsPath, type StatusClass, sameRows } from "../logic/requests";
import { useNumbers, useStructure, useUi } from "../state/context";
import "./drawer.css";
import "./RequestLog.css";
import { Copyable, EndpointFilter, PanelScroll } from "./pieces";
import { RequestTable } from "./RequestTable";
import { useLoaded } from "./useLoaded";

const SHORTEST_MILLISECONDS = 1000;
/** Clients may ask for names without end. */
const MOST_MODELS = 200;
const NO_REQUESTS: RequestView[] = [];

export function RequestLog() {
  const endpoint = useUi((state) => state.drawerEndpoint);
  const [filter, setFilter] = useState<Omit<RequestFilter, "endpoint">>({ status: "", model: "" });
  const [paused, setPaused] = useState(false);
  const path = requestsPath({ ...filter, endpoint });
  const { value, from, problem, reload } = useLoaded<RequestsView>(path);
  useTicks(reload, paused);

  const [reading, setReading] = useState(false);
  // What was opened in an answer to another question is not open here.
  const [opened, setOpened] = useState<{ from: string; number: number | null }>({ from: "", number: null });
  const open = opened.from === from ? opened.number : null;
  const setOpen = useCallback((number: number | null) => setOpened({ from, number }), [from]);
  const latest = useSameRows(value?.requests ?? NO_REQUESTS);
  const held = paused || reading || open !== null;
  const [shown, takeLatest] = useHeld(latest, from, held);
  const waiting = newerThan(shown, latest);

  const scroller = useRef<HTMLElement>(null);
  const goOn = () => {
    setPaused(false);
    setOpen(null);
    setReading(false);
    scroller.current?.scrollTo({ top: 0 });
    takeLatest();
  };
  const models = useModels(latest, filter.model);
  return (
    <div className="panel">
      <div className="panel-tools">
        <EndpointFilter />
        <StatusFilter value={filter.status} onChange={(status) => setFilter({ ...filter, status })} />
        <ModelFilter models={models} value={filter.model} onChange={(model) => setFilter({ ...filter, model })} />
        <div className="grow" />
        {held && waiting > 0 && (
          <Button tight icon="up" onClick={goOn}>
            {waiting >= latest.length && latest.length > 1 ? "Many new" : `${waiting} new`}
          </Button>
        )}
        <Button tight icon={paused ? "play" : "pause"} aria-pressed={paused} onClick={() => setPaused(!paused)}>
          {paused ? "Paused" : "Pause"}
        </Button>
      </div>
      {problem && <p className="note warn panel-note">{problem}</p>}
      <PanelScroll
        ref={scroller}
        label="The last requests"
        onScroll={(event) => setReading(event.currentTarget.scrollTop > 8)}
      >
        {shown.length > 0 ? (
          <RequestTable requests={shown} open={open} onOpen={setOpen} />
        ) : (
          value && <NoRequests filtered={endpoint !== null || filter.status !== "" || filter.model !== ""} />
        )}
      </PanelScroll>
    </div>
  );
}

/** Loads with the live ticks, at most once a second. */
function useTicks(reload: () => void, paused: boolean): void {
  const tick = useNumbers((state) => state.at);
  const last = useRef(0);
  useEffect(() => {
    if (paused || !tick || tick - last.current < SHORTEST_MILLISECONDS) return;
    last.current = tick;
    reload();
  }, [tick, paused, reload]);
}

/** Rows keep their identity from answer to answer, so that only new ones are drawn. */
function useSameRows(latest: RequestView[]): RequestView[] {
  const known = useRef(NO_REQUESTS);
  return useMemo(() => {
    known.current = sameRows(known.current, latest);
    return known.current;
  }, [latest]);
}

/** What is shown stays while it is being read; another question is answered at once. */
function useHeld(latest: RequestView[], from: string, held: boolean): [RequestView[], () => void] {
  const [kept, setKept] = useState({ rows: latest, from });
  if (kept.rows !== latest && (!held || kept.from !== from)) setKept({ rows: latest, from });
  return [held && kept.from === from ? kept.rows : latest, () => setKept({ rows: latest, from })];
}

/** All models anybody may ask for here, and those seen in the log. */
function useModels(requests: readonly RequestView[], chosen: string): string[] {
  const { endpoints } = useStructure();
  const seen = useRef(new Set<string>());
  for (const { model } of requests) if (model && seen.current.size < MOST_MODELS) seen.current.add(model);
  const named = endpoints.flatMap((each) => [...each.models, ...Object.keys(each.model_aliases)]);
  return [...new Set([...seen.current, ...named, ...(chosen ? [chosen] : [])])].sort();
}

function StatusFilter({ value, onChange }: { value: StatusClass; onChange: (value: StatusClass) => void }) {
  return (
    <select
      className="input"
      aria-label="Status"
      value={value}
      onChange={(event) => onChange(event.target.value as StatusClass)}
    >
      <option value="">Any status</option>
      <option value="2xx">2xx · answered</option>
      <option value="4xx">4xx · refused or left</option>
      <option value="5xx">5xx · failed</option>
    </select>
  );
}

function ModelFilter(props: { models: string[]; value: string; onChange: (value: string) => void }) {
  return (
    <select
      className="input"
      aria-label="Model"
      value={props.value}
      onChange={(event) => props.onChange(event.target.value)}
    >
      <option value="">Any model</option>
      {props.models.map((each) => (
        <option key={each}>{each}</option>
      ))}
    </select>
  );
}

function NoRequests({ filtered }: { filtered: boolean }) {
  const structure = useStructure();
  const numbers = useNumbers((state) => state.numbers.endpoints);
  if (filtered) {
    return (
      <p className="empty">
        <Icon name="search" />
        None of the last 1,000 requests is like this.
      </p>
    );
  }
  const [first] = structure.endpoints.flatMap((each) => [
    ...each.models,
    ...(numbers.get(each.id)?.discovered_models ?? []),
  ]);
  return (
    <div className="empty first-request">
      <strong>No request yet</strong>
      <span>{structure.endpoints.length ? "Send the first one:" : "Add an endpoint, then send the first one:"}</span>
      <Copyable
        block
        what="the command"
        text={curlLine(location.origin, first ?? "auto", structure.clients.length > 0)}
      />
    </div>
  );
}
