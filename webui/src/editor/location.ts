// Deep links: #/endpoint/7, perhaps with what a sweep suggests for it, #/table, #/requests, #/changes and so on, both ways.

import { readSuggestion } from "../logic/loadtest";
import type { Editor } from "../state/editor";
import { type DrawerTab, selectedEndpoints } from "../state/ui";

const TABS: readonly DrawerTab[] = ["requests", "charts", "changes", "tokens", "settings"];

export function followLocation(editor: Editor): void {
  read(editor);
  addEventListener("hashchange", () => read(editor));
  editor.ui.subscribe((state, before) => {
    const same =
      state.view === before.view &&
      state.drawer === before.drawer &&
      state.selection === before.selection &&
      state.inspecting === before.inspecting;
    if (!same) write(editor);
  });
}

function read(editor: Editor): void {
  const [path = ""] = location.hash.split("?", 1);
  const [, what, id] = path.split("/");
  const suggestion = readSuggestion(location.hash);
  if (suggestion) editor.ui.setState({ suggestion });
  if (what === "endpoint" && id && /^\d+$/.test(id)) {
    editor.ui.setState({ selection: new Set([`endpoint-${id}`]), cursor: `endpoint-${id}`, inspecting: true });
  } else if (what === "table" || what === "canvas") editor.ui.setState({ view: what });
  else if (TABS.includes(what as DrawerTab)) editor.ui.setState({ drawer: what as DrawerTab });
}

function write(editor: Editor): void {
  const { selection, inspecting, view, drawer } = editor.ui.getState();
  const [id, ...others] = selectedEndpoints(selection);
  let hash = "";
  if (inspecting && id !== undefined && !others.length) hash = `#/endpoint/${id}`;
  else if (drawer) hash = `#/${drawer}`;
  else if (view === "table") hash = "#/table";
  if (location.hash !== hash) history.replaceState(null, "", hash || location.pathname + location.search);
}
