// The page: top bar, canvas or table, inspector, drawer, and what lies above them.

import { useEffect } from "react";
import { Canvas } from "../canvas/Canvas";
import { Boundary } from "../design/Boundary";
import { Inspector } from "../panels/Inspector";
import { TableView } from "../panels/TableView";
import { useEditor, useFlow, useSession, useUi } from "../state/context";
import { selectedEndpoints } from "../state/ui";
import { Banner } from "./Banner";
import { ContextMenu } from "./ContextMenu";
import { Dialogs } from "./Dialogs";
import { Drawer } from "./Drawer";
import { EmptyState } from "./EmptyState";
import { KpiStrip } from "./KpiStrip";
import { useKeys } from "./keys";
import { Login } from "./Login";
import { useNews } from "./news";
import { QuotaBar } from "./QuotaBar";
import { Toasts } from "./Toasts";
import { TopBar } from "./TopBar";

export function App() {
  const phase = useSession((state) => state.phase);
  const hasState = useFlow((state) => state.view !== null);
  return (
    <>
      {hasState ? <Workspace /> : phase !== "signedOut" && <Waiting />}
      {phase === "signedOut" && <Login again={hasState} />}
      <Announcer />
    </>
  );
}

function Waiting() {
  return (
    <main className="waiting">
      <Banner />
      <p className="muted">Waiting for the balancer …</p>
    </main>
  );
}

function Workspace() {
  const editor = useEditor();
  useKeys();
  useNews();
  useEffect(() => {
    const flush = () => void editor.saveLayout();
    // The browser asks: what waits for the balancer would be lost with the page.
    const hold = (event: BeforeUnloadEvent) => {
      if (editor.flow.getState().pending.length) event.preventDefault();
    };
    addEventListener("pagehide", flush);
    addEventListener("beforeunload", hold);
    return () => {
      removeEventListener("pagehide", flush);
      removeEventListener("beforeunload", hold);
    };
  }, [editor]);
  const view = useUi((state) => state.view);
  const stale = useSession((state) => state.link.kind === "offline");
  const selection = useUi((state) => state.selection);
  const inspecting = useUi((state) => state.inspecting && selectedEndpoints(state.selection).length > 0);
  return (
    <div className="workspace" data-inspecting={inspecting} data-stale={stale}>
      <TopBar />
      <Banner />
      <main className="stage" aria-label={view === "canvas" ? "Flow editor" : "Endpoints"}>
        <KpiStrip />
        {view === "canvas" ? <Canvas /> : <TableView />}
        <EmptyState />
        <QuotaBar />
        <Toasts />
      </main>
      {inspecting && (
        <Boundary of={[...selection].join()}>
          <Inspector />
        </Boundary>
      )}
      <Drawer />
      <ContextMenu />
      <Dialogs />
    </div>
  );
}

/** Tells screen readers what happened; never the ticks. */
function Announcer() {
  const text = useUi((state) => state.announcement);
  return (
    <div className="visually-hidden" role="status" aria-live="polite" data-testid="announcer">
      {text}
    </div>
  );
}
