// The page: top bar, one of the views, and what lies above them.

import { LoginPage } from "../design/Login";
import { ToastList } from "../design/Toasts";
import { Cards } from "./cards/Cards";
import { usePage, usePageState } from "./context";
import { Dialogs } from "./Dialogs";
import { useKeys } from "./keys";
import { Compare } from "./library/Compare";
import { History } from "./library/History";
import { Run } from "./results/Run";
import { TopBar } from "./TopBar";

export function App() {
  const page = usePage();
  const phase = usePageState((state) => state.phase);
  const loaded = usePageState((state) => state.library !== null && state.cards.length > 0);
  return (
    <>
      {loaded ? <Workspace /> : phase !== "signedOut" && <Waiting />}
      {phase === "signedOut" && (
        <LoginPage title="Load tester" token="Token" again={loaded} onLogin={(token) => page.login(token)}>
          Log in with the token: <span className="mono">LT_TOKEN</span>, or what{" "}
          <span className="mono">llm-load-tester token</span> tells.
        </LoginPage>
      )}
      <Announcer />
    </>
  );
}

function Waiting() {
  const unreachable = usePageState((state) => state.unreachable);
  return (
    <main className="waiting">
      {unreachable && <p className="note bad">{unreachable} Trying again …</p>}
      <p className="muted">Waiting for the load tester …</p>
    </main>
  );
}

function Workspace() {
  const page = usePage();
  useKeys();
  const view = usePageState((state) => state.view);
  const unreachable = usePageState((state) => state.unreachable);
  const toasts = usePageState((state) => state.toasts);
  return (
    <div className="tester">
      <TopBar />
      {unreachable && (
        <div className="banner bad" role="status">
          {unreachable} What you typed is kept.
        </div>
      )}
      {view.kind === "cards" && <Cards />}
      {view.kind === "run" && <Run />}
      {view.kind === "history" && <History />}
      {view.kind === "compare" && <Compare first={view.first} second={view.second} />}
      <ToastList toasts={toasts} onDismiss={(id) => page.dismiss(id)} />
      <Dialogs />
    </div>
  );
}

/** Tells screen readers what happened; never the ticks. */
function Announcer() {
  const text = usePageState((state) => state.announcement);
  return (
    <div className="visually-hidden" role="status" aria-live="polite" data-testid="announcer">
      {text}
    </div>
  );
}
