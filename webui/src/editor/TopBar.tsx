// The top bar: mode, what is saved, views, and the acts that need no selection. All from the registry.

import { useState } from "react";
import { action } from "../actions/list";
import { Menu, MenuItem } from "../design/Menu";
import { Button, type IconName } from "../design/parts";
import { MODES, modeOf } from "../logic/modes";
import { useEditor, useFlow, useSession, useStructure, useUi } from "../state/context";
import type { Saving } from "../state/flow";
import { useAct } from "./acting";

export function TopBar() {
  const { run } = useAct();
  const view = useUi((state) => state.view);
  const drawer = useUi((state) => state.drawer);
  const canUndo = useSession((state) => state.canUndo);
  const canRedo = useSession((state) => state.canRedo);
  return (
    <header className="topbar">
      <div className="brand">
        <span className="brand-mark" aria-hidden="true" />
        <strong className="brand-name">LLM balancer</strong>
      </div>
      <ModeSwitch />
      <SaveState />
      <div className="grow" />
      <nav className="row topbar-views" aria-label="Views">
        <Button
          tone="quiet"
          className={view === "table" ? "on" : ""}
          aria-pressed={view === "table"}
          icon="list"
          onClick={() => run(action("view"))}
        >
          Table
        </Button>
        <Button
          tone="quiet"
          aria-pressed={drawer === "requests"}
          icon="search"
          onClick={() => run(action("drawer-requests"))}
        >
          Requests
        </Button>
        <Button
          tone="quiet"
          aria-pressed={drawer === "charts"}
          icon="chart"
          onClick={() => run(action("drawer-charts"))}
        >
          Charts
        </Button>
        <Button
          tone="quiet"
          className="roomy"
          aria-pressed={drawer === "changes"}
          icon="history"
          onClick={() => run(action("drawer-changes"))}
        >
          Changes
        </Button>
      </nav>
      <Button
        icon="undo"
        aria-label="Undo"
        title="Undo (Ctrl+Z)"
        why={canUndo ? undefined : "Nothing to undo"}
        onClick={() => run(action("undo"))}
      />
      <Button
        icon="redo"
        aria-label="Redo"
        title="Redo (Ctrl+Shift+Z)"
        why={canRedo ? undefined : "Nothing to redo"}
        onClick={() => run(action("redo"))}
      />
      <MoreMenu />
      <Button
        tone="primary"
        icon="plus"
        className="topbar-add"
        title="Add endpoint (N)"
        onClick={() => run(action("add"))}
      >
        <span className="label">Endpoint</span>
      </Button>
    </header>
  );
}

function ModeSwitch() {
  const editor = useEditor();
  const mode = useStructure().mode;
  const [open, setOpen] = useState(false);
  const choose = (id: string) => {
    setOpen(false);
    if (id !== mode) editor.ui.setState({ dialog: { kind: "mode", mode: id } });
  };
  const main = ["percentage", "priority"];
  const other = !main.includes(mode);
  return (
    <div className="segments mode-switch" role="group" aria-label="Routing mode">
      {main.map((id) => (
        <Button key={id} aria-pressed={mode === id} title={modeOf(id).does} onClick={() => choose(id)}>
          {modeOf(id).label}
        </Button>
      ))}
      <Menu
        open={open}
        onOpen={setOpen}
        label="Other modes"
        button={(props) => (
          <Button {...props} aria-pressed={other}>
            {other ? modeOf(mode).label : "More"} ▾
          </Button>
        )}
      >
        {MODES.filter((each) => !main.includes(each.id)).map((each) => (
          <MenuItem key={each.id} hint={each.does} checked={mode === each.id} onChoose={() => choose(each.id)}>
            {each.label}
          </MenuItem>
        ))}
      </Menu>
    </div>
  );
}

const SAVING: Record<Saving, string> = {
  saved: "saved",
  saving: "saving",
  waiting: "waiting to save",
  failed: "not saved",
};

function SaveState() {
  const revision = useFlow((state) => state.server?.revision ?? 0);
  const saving = useFlow((state) => state.saving);
  return (
    <span className="save-state small muted" data-testid="save-state">
      revision {revision} · {SAVING[saving]}
    </span>
  );
}

const MORE: readonly [string, IconName][] = [
  ["drawer-charts", "chart"],
  ["drawer-changes", "history"],
  ["drawer-tokens", "key"],
  ["drawer-settings", "sliders"],
  ["palette", "search"],
  ["fit", "fit"],
  ["tidy", "tidy"],
  ["freeze", "pause"],
  ["rescale", "full"],
  ["export", "external"],
  ["import", "copy"],
  ["reset", "history"],
  ["load-test-balancer", "chart"],
  ["theme", "moon"],
  ["help", "question"],
  ["logout", "right"],
];

function MoreMenu() {
  const { run, context } = useAct();
  const [open, setOpen] = useState(false);
  return (
    <Menu
      open={open}
      onOpen={setOpen}
      label="More"
      alignEnd
      button={(props) => <Button {...props} icon="more" aria-label="More" />}
    >
      {open &&
        MORE.map(([id, icon]) => {
          const each = action(id);
          const applies = each.applies(context());
          return (
            <MenuItem
              key={id}
              icon={icon}
              keys={each.keys[0]}
              why={applies === true ? undefined : applies}
              onChoose={() => {
                setOpen(false);
                run(each);
              }}
            >
              {each.title}
            </MenuItem>
          );
        })}
    </Menu>
  );
}
