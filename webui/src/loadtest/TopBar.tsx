// The top bar: where one is, what is under way, and what is rarely needed.

import { useState } from "react";
import { Menu, MenuItem } from "../design/Menu";
import { Button, type IconName } from "../design/parts";
import { shownTheme } from "../design/theme";
import { count } from "../logic/format";
import { usePage, usePageState } from "./context";
import { showLast } from "./keys";
import { editorsOf } from "./logic/links";

export function TopBar() {
  const page = usePage();
  const view = usePageState((state) => state.view.kind);
  return (
    <header className="topbar">
      <div className="brand">
        <span className="brand-mark" aria-hidden="true" />
        <strong className="brand-name">Load tester</strong>
      </div>
      <nav className="row" aria-label="Views">
        <Place icon="list" here={view === "cards"} onClick={() => page.show({ kind: "cards" })}>
          Cards
        </Place>
        <Place icon="chart" here={view === "run"} onClick={() => void showLast(page)}>
          Results
        </Place>
        <Place
          icon="history"
          here={view === "history" || view === "compare"}
          onClick={() => page.show({ kind: "history" })}
        >
          History
        </Place>
      </nav>
      <div className="grow" />
      <UnderWay />
      <More />
    </header>
  );
}

function Place({
  icon,
  here,
  onClick,
  children,
}: {
  icon: IconName;
  here: boolean;
  onClick: () => void;
  children: string;
}) {
  return (
    <Button tone="quiet" icon={icon} aria-current={here ? "page" : undefined} onClick={onClick}>
      {children}
    </Button>
  );
}

/** Whatever is shown: what runs can be found, and cut off at once. */
function UnderWay() {
  const page = usePage();
  const active = usePageState((state) => state.active);
  const shown = usePageState((state) => (state.view.kind === "run" ? state.view.id : ""));
  const [newest] = active;
  if (!newest) return null;
  return (
    <>
      {!active.some((each) => each.id === shown) && (
        <Button className="on" icon="clock" onClick={() => page.show({ kind: "run", id: newest.id })}>
          {count(active.length, "test")} under way
        </Button>
      )}
      <Button
        tone="danger"
        icon="cut"
        title="Cut off everything that is under way (Shift+X)"
        onClick={() => void page.stopEverything()}
      >
        Stop everything
      </Button>
    </>
  );
}

function More() {
  const page = usePage();
  const needsToken = usePageState((state) => state.needsToken);
  const version = usePageState((state) => state.library?.about.version);
  const links = usePageState((state) => state.links);
  const setting = usePageState((state) => state.library?.about.editor_url);
  const [open, setOpen] = useState(false);
  const choose = (act: () => unknown) => () => {
    setOpen(false);
    act();
  };
  const editors = editorsOf(links, setting);
  return (
    <Menu
      open={open}
      onOpen={setOpen}
      label="More"
      alignEnd
      button={(props) => <Button {...props} icon="more" aria-label="More" />}
    >
      {editors.map((each) => (
        <MenuItem
          key={each}
          icon="external"
          hint={each}
          onChoose={choose(() => window.open(each, "_blank", "noopener"))}
        >
          Editor of the balancer
        </MenuItem>
      ))}
      <MenuItem
        icon="moon"
        onChoose={choose(() => page.store.setState({ theme: shownTheme() === "dark" ? "light" : "dark" }))}
      >
        Light or dark
      </MenuItem>
      <MenuItem
        icon="question"
        keys="?"
        onChoose={choose(() => page.open({ kind: "help" }))}
        hint={version && `Version ${version}`}
      >
        Help
      </MenuItem>
      {needsToken && (
        <MenuItem icon="right" onChoose={choose(() => void page.logout())}>
          Log out
        </MenuItem>
      )}
    </Menu>
  );
}
