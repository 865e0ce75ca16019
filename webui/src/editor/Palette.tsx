// The command palette: every action and every endpoint, found by a few letters.

import { useId, useMemo, useState } from "react";
import { ACTIONS } from "../actions/list";
import { shownKeys } from "../actions/registry";
import { MAC } from "../design/Menu";
import { Dialog } from "../design/parts";
import { ranked } from "../logic/find";
import { hostOf } from "../logic/format";
import { useEditor, useStructure } from "../state/context";
import { canvasPort, useAct } from "./acting";

interface Entry {
  id: string;
  title: string;
  about: string;
  keys?: string | undefined;
  why?: string | undefined;
  run: () => void;
}

export function Palette({ onClose }: { onClose: () => void }) {
  const id = useId();
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const entries = useEntries();
  const found = useMemo(
    () => ranked(text, entries, (each) => `${each.title} ${each.about}`).slice(0, 12),
    [text, entries],
  );
  const place = Math.min(at, Math.max(0, found.length - 1));
  const choose = (entry: Entry | undefined) => {
    if (!entry || entry.why) return;
    onClose();
    entry.run();
  };
  return (
    <Dialog title="Find an action or endpoint" onClose={onClose}>
      <input
        className="input"
        role="combobox"
        aria-label="Find an action or endpoint"
        aria-expanded="true"
        aria-controls={id}
        aria-activedescendant={found.length ? `${id}-${place}` : undefined}
        autoFocus
        value={text}
        placeholder="Type a few letters"
        onChange={(event) => {
          setText(event.target.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") setAt((place + 1) % Math.max(1, found.length));
          else if (event.key === "ArrowUp") setAt((place - 1 + found.length) % Math.max(1, found.length));
          else if (event.key === "Enter") choose(found[place]);
          else return;
          event.preventDefault();
        }}
      />
      <div id={id} role="listbox" aria-label="Found" className="palette-list">
        {found.map((each, index) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the combobox has the keys
          // biome-ignore lint/a11y/useFocusableInteractive: the combobox points at it
          <div
            key={each.id}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === place}
            aria-disabled={each.why ? true : undefined}
            className="palette-item"
            title={each.why}
            onPointerMove={() => setAt(index)}
            onClick={() => choose(each)}
          >
            <span className="grow truncate">
              {each.title} <span className="small muted">{each.why ?? each.about}</span>
            </span>
            {each.keys && <kbd>{shownKeys(each.keys, MAC)}</kbd>}
          </div>
        ))}
        {!found.length && <p className="empty">Nothing is called that.</p>}
      </div>
    </Dialog>
  );
}

function useEntries(): Entry[] {
  const editor = useEditor();
  const structure = useStructure();
  const { run, context } = useAct();
  return useMemo(() => {
    const here = context();
    const actions = ACTIONS.filter((each) => each.id !== "palette").map((each): Entry => {
      const applies = each.applies(here);
      return {
        id: each.id,
        title: each.title,
        about: each.does,
        keys: each.keys[0],
        why: applies === true ? undefined : applies,
        run: () => run(each),
      };
    });
    const endpoints = structure.endpoints.map(
      (each): Entry => ({
        id: `endpoint-${each.id}`,
        title: each.name,
        about: hostOf(each.base_url),
        run: () => {
          const node = `endpoint-${each.id}`;
          editor.ui.setState({ selection: new Set([node]), cursor: node, inspecting: true });
          canvasPort.getState().port?.show(node);
        },
      }),
    );
    return [...endpoints, ...actions];
  }, [structure]);
}
