// The drawer at the bottom: what happened, what was changed, who may send, what the process runs with.

import { lazy, Suspense } from "react";
import { Boundary } from "../design/Boundary";
import { Button } from "../design/parts";
import { RequestLog } from "../panels/RequestLog";
import { RevisionLog } from "../panels/RevisionLog";
import { SettingsOverview } from "../panels/SettingsOverview";
import { Tokens } from "../panels/Tokens";
import { useEditor, useUi } from "../state/context";
import type { DrawerTab } from "../state/ui";

// The chart library is fetched when somebody looks at charts.
const Charts = lazy(() => import("../panels/Charts").then((module) => ({ default: module.Charts })));

const TABS: readonly [DrawerTab, string, () => React.ReactNode][] = [
  ["requests", "Requests", () => <RequestLog />],
  ["charts", "Charts", () => <Charts />],
  ["changes", "Changes", () => <RevisionLog />],
  ["tokens", "Client tokens", () => <Tokens />],
  ["settings", "Settings", () => <SettingsOverview />],
];

export function Drawer() {
  const editor = useEditor();
  const open = useUi((state) => state.drawer);
  const tab = TABS.find(([id]) => id === open);
  if (!tab) return null;
  const [id, title, content] = tab;
  const step = (event: React.KeyboardEvent) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const place = (TABS.indexOf(tab) + by + TABS.length) % TABS.length;
    const next = TABS[place]?.[0] ?? "requests";
    editor.ui.setState({ drawer: next });
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <section className="drawer" aria-label={title}>
      <div className="drawer-head row">
        <div role="tablist" aria-label="Drawer" className="row" onKeyDown={step}>
          {TABS.map(([id, label]) => (
            <button
              key={id}
              id={`tab-${id}`}
              type="button"
              role="tab"
              className="tab"
              aria-selected={id === open}
              aria-controls="drawer-panel"
              tabIndex={id === open ? 0 : -1}
              onClick={() => editor.ui.setState({ drawer: id })}
            >
              {label}
            </button>
          ))}
        </div>
        <div className="grow" />
        <Button
          tone="quiet"
          icon="cross"
          tight
          aria-label="Close the drawer"
          onClick={() => editor.ui.setState({ drawer: null, drawerEndpoint: null })}
        />
      </div>
      <div className="drawer-body" id="drawer-panel" role="tabpanel" aria-labelledby={`tab-${open}`} tabIndex={-1}>
        <Suspense fallback={<p className="empty">Loading …</p>}>
          <Boundary of={id}>{content()}</Boundary>
        </Suspense>
      </div>
    </section>
  );
}
