// Under the stage: in percentage mode the quotas as one bar whose borders can be moved, target above actual; in
// priority mode the ranks in order. While something is moved its consequences are shown; letting go makes one change.

import { useMemo, useRef, useState } from "react";
import { action } from "../actions/list";
import { Button } from "../design/parts";
import type { Act } from "../logic/acts";
import { percent } from "../logic/format";
import { byRank, moved, proportional, quotaSum, ranked, targets, withBorder } from "../logic/shares";
import { type EndpointConfig, receivers, type Structure } from "../logic/structure";
import { useEditor, useNumbers, useStructure, useUi } from "../state/context";
import { useAct } from "./acting";
import { FloatingConsequence } from "./Consequence";

/** More could not be told apart: then quotas are set in the table or the inspector. */
const MOST_BORDERS = 16;

export function QuotaBar() {
  const structure = useStructure();
  const serving = receivers(structure);
  return (
    <>
      <FloatingConsequence />
      {structure.mode === "percentage" && serving.length > 0 && <Quotas structure={structure} serving={serving} />}
      {structure.mode === "priority" && serving.length > 0 && <Ranks structure={structure} serving={serving} />}
    </>
  );
}

function Quotas({ structure, serving }: { structure: Structure; serving: EndpointConfig[] }) {
  const { run } = useAct();
  const numbers = useNumbers((state) => state.numbers.endpoints);
  const now = (id: number) => numbers.get(id)?.share_percent ?? 0;
  const preview = useUi((state) => state.preview);
  const sum = quotaSum(structure);
  const shown = serving.map((each) => ({ ...each, token_quota_percent: previewed(preview, each) }));
  const target = targets({ ...structure, endpoints: shown });
  const suggestion = proportional(serving.map((each) => each.token_quota_percent));
  return (
    <section className="quotas" aria-label="Token quotas">
      <div className="quota-side">
        <strong className={sum === 100 ? "" : "tone-warn"} data-testid="quota-sum">
          Sum {percent(sum)}
        </strong>
        {sum !== 100 ? (
          <Button
            tight
            title={serving.map((each, place) => `${each.name} ${suggestion[place]} %`).join(", ")}
            onClick={() => run(action("rescale"))}
          >
            Make 100 %
          </Button>
        ) : (
          <span className="small muted">of tokens</span>
        )}
      </div>
      <div className="quota-bars grow">
        <Borders structure={structure} serving={shown} target={target} />
        <div className="quota-bar actual" aria-hidden="true">
          {serving.some((each) => now(each.id) > 0) &&
            serving.map((each, place) => (
              <Segment
                key={each.id}
                part={now(each.id) / 100}
                tint={place}
                title={`${each.name} now ${percent(now(each.id))}`}
              />
            ))}
        </div>
      </div>
    </section>
  );
}

function previewed(preview: Act | null, endpoint: EndpointConfig): number {
  if (preview?.kind !== "change") return endpoint.token_quota_percent;
  const fields = preview.updates.find((each) => each.id === endpoint.id)?.fields;
  return fields?.token_quota_percent ?? endpoint.token_quota_percent;
}

/** The bar of targets with a slider between each two neighbours. */
function Borders({
  structure,
  serving,
  target,
}: {
  structure: Structure;
  serving: EndpointConfig[];
  target: ReadonlyMap<number, number>;
}) {
  const editor = useEditor();
  const bar = useRef<HTMLDivElement>(null);
  const base = useRef(0);
  const consider = (left: EndpointConfig, right: EndpointConfig, quota: number): Act => {
    const act: Act = { kind: "change", updates: withBorder(structure, left.id, right.id, quota) };
    editor.ui.setState({ preview: act });
    return act;
  };
  const finish = (act: Act | null) => {
    editor.ui.setState({ preview: null });
    if (act?.kind === "change" && act.updates.length) {
      editor.submit(act, { base: base.current }).catch((error) => editor.complain(error));
    }
  };
  const drag = (event: React.PointerEvent<HTMLElement>, left: EndpointConfig, right: EndpointConfig) => {
    const width = bar.current?.offsetWidth ?? 1;
    const sum = serving.reduce((total, each) => total + each.token_quota_percent, 0) || 100;
    const from = event.clientX;
    const start = left.token_quota_percent;
    const handle = event.currentTarget;
    let act: Act | null = null;
    base.current = editor.revision;
    handle.setPointerCapture(event.pointerId);
    handle.onpointermove = (move) => {
      act = consider(left, right, start + ((move.clientX - from) / width) * sum);
    };
    const end = (done: boolean) => {
      handle.onpointermove = handle.onpointerup = handle.onpointercancel = null;
      finish(done ? act : null);
    };
    handle.onpointerup = () => end(true);
    handle.onpointercancel = () => end(false);
  };
  const press = (event: React.KeyboardEvent, left: EndpointConfig, right: EndpointConfig) => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    base.current = editor.revision;
    finish(consider(left, right, left.token_quota_percent + step));
  };
  return (
    <div className="quota-bar target" ref={bar}>
      {serving.map((each, place) => {
        const right = serving[place + 1];
        const part = (target.get(each.id) ?? 0) / 100;
        return (
          <Segment key={each.id} part={part} tint={place} title={`${each.name} ${percent(each.token_quota_percent)}`}>
            <span className="truncate quota-name">{each.name}</span>
            <strong>{percent(Math.round(each.token_quota_percent * 10) / 10)}</strong>
            {right && serving.length <= MOST_BORDERS && (
              <span
                className="quota-border"
                role="slider"
                tabIndex={0}
                aria-label={`Quota of ${each.name}, the rest of both to ${right.name}`}
                aria-valuenow={each.token_quota_percent}
                aria-valuemin={0}
                aria-valuemax={each.token_quota_percent + right.token_quota_percent}
                aria-valuetext={`${each.token_quota_percent} percent`}
                onPointerDown={(event) => drag(event, each, right)}
                onKeyDown={(event) => press(event, each, right)}
              />
            )}
          </Segment>
        );
      })}
    </div>
  );
}

function Segment({
  part,
  tint,
  title,
  children,
}: {
  part: number;
  tint: number;
  title: string;
  children?: React.ReactNode;
}) {
  return (
    <div
      className={`quota-segment tint-${tint % 6}`}
      title={title}
      ref={(node) => node?.style.setProperty("flex-grow", String(Math.max(part, 0.002)))}
    >
      {children}
    </div>
  );
}

function Ranks({ structure, serving }: { structure: Structure; serving: EndpointConfig[] }) {
  const editor = useEditor();
  const numbers = useNumbers((state) => state.numbers.endpoints);
  const [dragged, setDragged] = useState<number | null>(null);
  const order = useMemo(() => byRank(structure), [structure]);
  const known = new Map(serving.map((each) => [each.id, each]));
  const shown = order.flatMap((id) => known.get(id) ?? []);
  // Those that are not wired keep their order behind the others.
  const all = (wanted: readonly number[]) => [...wanted, ...order.filter((id) => !known.has(id))];
  const submit = (wanted: readonly number[]) => {
    editor.ui.setState({ preview: null });
    const act: Act = { kind: "change", updates: ranked(structure, all(wanted)) };
    editor.submit(act).catch((error) => editor.complain(error));
  };
  const places = shown.map((each) => each.id);
  const before = (id: number, other: number): number[] => {
    const rest = places.filter((each) => each !== id);
    const place = rest.indexOf(other) + (places.indexOf(id) < places.indexOf(other) ? 1 : 0);
    return [...rest.slice(0, place), id, ...rest.slice(place)];
  };
  return (
    <section className="quotas ranks" aria-label="Priority order">
      <div className="quota-side">
        <strong>Order</strong>
        <span className="small muted">first fills first</span>
      </div>
      <ol className="rank-list grow">
        {shown.map((each, place) => {
          const live = numbers.get(each.id);
          return (
            <li
              key={each.id}
              className="rank-chip"
              draggable
              onDragStart={() => setDragged(each.id)}
              onDragEnd={() => {
                setDragged(null);
                editor.ui.setState({ preview: null });
              }}
              onDragOver={(event) => {
                if (dragged === null) return;
                event.preventDefault();
                const updates = dragged === each.id ? [] : ranked(structure, all(before(dragged, each.id)));
                editor.ui.setState({ preview: { kind: "change", updates } });
              }}
              onDrop={(event) => {
                event.preventDefault();
                if (dragged !== null && dragged !== each.id) submit(before(dragged, each.id));
              }}
            >
              <span className="rank-number" title="Rank: those of the same share the load">
                {each.priority_order}
              </span>
              <span className="truncate">{each.name}</span>
              <span className="small muted rank-load">
                {live?.inflight ?? 0} / {each.max_concurrent || "∞"}
              </span>
              <Button
                tight
                tone="quiet"
                icon="left"
                aria-label={`${each.name}: rank up`}
                why={place ? undefined : "It is first already"}
                onClick={() => submit(moved(places, each.id, -1))}
              />
              <Button
                tight
                tone="quiet"
                icon="right"
                aria-label={`${each.name}: rank down`}
                why={place < shown.length - 1 ? undefined : "It is last already"}
                onClick={() => submit(moved(places, each.id, 1))}
              />
            </li>
          );
        })}
      </ol>
    </section>
  );
}
