// The menu under the pointer: what applies to that node, wire or place.

import { ACTIONS } from "../actions/list";
import type { Spot } from "../actions/registry";
import { MenuItem, MenuList } from "../design/Menu";
import { endpointOf } from "../logic/structure";
import { useEditor, useStructure, useUi } from "../state/context";
import { selectedEndpoints } from "../state/ui";
import { useAct } from "./acting";

export function ContextMenu() {
  const editor = useEditor();
  const structure = useStructure();
  const menu = useUi((state) => state.menu);
  const selection = useUi((state) => state.selection);
  const { run, context } = useAct();
  if (!menu) return null;
  const about = menu.target ? selectedEndpoints(new Set([menu.target])) : [];
  const selected = selectedEndpoints(selection);
  // A menu on one of several selected is about all of them.
  const ids = about[0] !== undefined && selected.includes(about[0]) ? selected : about;
  const spot: Spot = about.length ? (menu.target?.startsWith("wire-") ? "wire" : "node") : "canvas";
  const here = context(ids);
  const close = () => editor.ui.setState({ menu: null });
  const first = about[0];
  return (
    <MenuList
      label={first === undefined ? "Canvas" : (endpointOf(structure, first)?.name ?? "Endpoint")}
      at={menu}
      onClose={() => {
        close();
        document.querySelector<HTMLElement>("[data-canvas]")?.focus();
      }}
    >
      {ACTIONS.filter((each) => each.spots.includes(spot)).map((each) => {
        const applies = each.applies(here);
        return (
          <MenuItem
            key={each.id}
            keys={each.keys[0]}
            danger={each.danger}
            why={applies === true ? undefined : applies}
            onChoose={() => {
              close();
              run(each, ids, menu.at);
            }}
          >
            {each.title}
          </MenuItem>
        );
      })}
    </MenuList>
  );
}
