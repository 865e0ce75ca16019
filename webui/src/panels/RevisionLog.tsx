// Who changed what, field by field, and the two ways back: one change taken back, or all as it was then.

import { Fragment, useEffect, useState } from "react";
import type { ChangeView, RevisionsView, RevisionView } from "../api/types";
import { Button, Icon } from "../design/parts";
import { differences, kindOf, merged, withNames } from "../logic/differences";
import { ago, count } from "../logic/format";
import { useEditor, useFlow } from "../state/context";
import { DifferenceList } from "./DifferenceList";
import "./drawer.css";
import "./RevisionLog.css";
import { PanelScroll } from "./pieces";
import { useLoaded, useNow } from "./useLoaded";

const PAGE = 50;
const NONE: RevisionView[] = [];

export function RevisionLog() {
  const editor = useEditor();
  const revision = useFlow((state) => state.server?.revision ?? 0);
  const { value, problem, reload } = useLoaded<RevisionsView>(`/revisions?limit=${PAGE}`);
  const [older, setOlder] = useState<{ rows: RevisionView[]; ended: boolean }>({ rows: NONE, ended: false });
  const [open, setOpen] = useState<number | null>(null);
  const now = useNow(10);
  const current = value?.revision ?? revision;
  useEffect(() => {
    if (revision > 0) reload();
  }, [revision, reload]);
  const rows = merged(older.rows, value?.revisions ?? NONE);
  const more = rows.length > 0 && !older.ended && (rows.length >= PAGE || older.rows.length > 0);
  const loadOlder = async () => {
    try {
      const page = await editor.client.get<RevisionsView>(`/revisions?limit=${PAGE}&before=${rows.at(-1)?.number}`);
      setOlder({ rows: merged(rows, page.revisions), ended: page.revisions.length < PAGE });
    } catch (error) {
      editor.complain(error);
    }
  };
  return (
    <div className="panel">
      {problem && <p className="note warn panel-note">{problem}</p>}
      <PanelScroll label="Changes, newest first">
        {rows.length > 0 && (
          <table className="table revision-table">
            <thead>
              <tr>
                <th scope="col">
                  <span className="visually-hidden">Details</span>
                </th>
                <th scope="col">number</th>
                <th scope="col">when</th>
                <th scope="col">who</th>
                <th scope="col">what</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((each) => (
                <Row
                  key={each.number}
                  revision={each}
                  newest={each.number === current}
                  now={now}
                  open={open === each.number}
                  onToggle={() => setOpen(open === each.number ? null : each.number)}
                />
              ))}
            </tbody>
          </table>
        )}
        {value && !rows.length && (
          <p className="empty">
            <Icon name="history" />
            Nothing was changed yet. Every change will stand here, with a way back.
          </p>
        )}
        {more && (
          <p className="revision-more">
            <Button tight onClick={() => void loadOlder()}>
              Older changes
            </Button>
          </p>
        )}
      </PanelScroll>
    </div>
  );
}

function Row(props: { revision: RevisionView; newest: boolean; now: number; open: boolean; onToggle: () => void }) {
  const { revision, newest, now, open, onToggle } = props;
  const detail = `revision-${revision.number}`;
  const toggle = () => {
    // Text that is being selected is not a click.
    if (getSelection()?.isCollapsed !== false) onToggle();
  };
  return (
    <Fragment>
      <tr className={open ? "opens opened" : "opens"} onClick={toggle}>
        <td>
          <Button
            tone="quiet"
            tight
            icon={open ? "down" : "right"}
            aria-label={`What change ${revision.number} did`}
            aria-expanded={open}
            aria-controls={open ? detail : undefined}
            title="Before and after"
          />
        </td>
        <td>
          <strong>{revision.number}</strong>
          {newest && <span className="small muted"> as it is</span>}
        </td>
        <td className="muted" title={new Date(revision.created_at).toLocaleString()}>
          {ago(revision.created_at, now)}
        </td>
        <td className="truncate" title={revision.actor}>
          {revision.actor}
        </td>
        <td className="truncate" title={revision.summary}>
          {revision.summary}
        </td>
      </tr>
      {open && (
        <tr className="opened-detail" id={detail}>
          <td colSpan={5}>
            <div className="stack">
              <WaysBack revision={revision} newest={newest} />
              {revision.changes.map((each) => (
                <Change key={each.endpoint_id ?? "mode"} change={each} />
              ))}
            </div>
          </td>
        </tr>
      )}
    </Fragment>
  );
}

function Change({ change }: { change: ChangeView }) {
  const kind = kindOf(change);
  return (
    <section className="stack revision-change">
      <h3>
        {change.endpoint_id === null ? "Routing" : change.name}
        {kind !== "changed" && <span className={`small tone-${kind === "added" ? "good" : "bad"}`}> {kind}</span>}
      </h3>
      <DifferenceList differences={differences(change)} />
    </section>
  );
}

function WaysBack({ revision, newest }: { revision: RevisionView; newest: boolean }) {
  const editor = useEditor();
  const [problem, setProblem] = useState("");
  const { number } = revision;
  const attempt = async (act: () => Promise<unknown>) => {
    setProblem("");
    try {
      await act();
    } catch (error) {
      // Refused is not unsaved: everything is as it was.
      editor.flow.setState({ saving: "saved" });
      setProblem(withNames(error instanceof Error ? error.message : String(error), editor.structure.endpoints));
    }
  };
  const revert = () => attempt(() => editor.submit({ kind: "revert", number }));
  const restore = () =>
    attempt(async () => {
      const sure = await editor.ask({
        title: `Back to how it was after change ${number}?`,
        text: `Everything that was changed since is taken back as one change: ${count(
          editor.revision - number,
          "change",
        )}. Deleted endpoints come back with their keys. Undo takes it back.`,
        confirm: "Restore",
        danger: false,
      });
      if (sure) await editor.submit({ kind: "restore", number }, { asked: true });
    });
  return (
    <div className="stack">
      <div className="row wrap">
        <Button tight icon="undo" onClick={() => void revert()} title="Take this one change back, and nothing else">
          Revert this change
        </Button>
        <Button
          tight
          icon="history"
          why={newest ? "This is how it is now." : undefined}
          onClick={() => void restore()}
          title="Everything as it was right after this change"
        >
          Restore: back to how it was then
        </Button>
      </div>
      {problem && (
        <p className="note bad row" role="alert">
          <Icon name="warning" />
          <span>{problem}</span>
        </p>
      )}
    </div>
  );
}
