// Pieces that several tabs of the drawer use.

import { useRef, useState } from "react";
import { Button, Icon } from "../design/parts";
import type { Ending } from "../logic/requests";
import { useEditor, useStructure, useUi } from "../state/context";

const SHOWN_MILLISECONDS = 2000;

/** Text with a button that copies it; without a clipboard (plain http on a LAN) it is selected instead. `what` completes
 *  "Copy …". `block` keeps the lines of a longer text. */
export function Copyable({ text, what, block }: { text: string; what: string; block?: boolean }) {
  const editor = useEditor();
  const ref = useRef<HTMLElement>(null);
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      setTimeout(() => setCopied(false), SHOWN_MILLISECONDS);
      editor.announce(`Copied: ${what}`);
    } catch {
      if (ref.current) getSelection()?.selectAllChildren(ref.current);
      editor.toast({ tone: "plain", text: "Selected: press Ctrl+C to copy." });
    }
  };
  return (
    <span className={block ? "copyable block" : "copyable"}>
      <code ref={ref} className="mono">
        {text}
      </code>
      <Button
        tone="quiet"
        tight
        icon={copied ? "check" : "copy"}
        aria-label={`Copy ${what}`}
        title={copied ? "Copied" : undefined}
        onClick={() => void copy()}
      />
    </span>
  );
}

/** How something ended: icon, word and colour. */
export function EndingWord({ ending }: { ending: Ending }) {
  return (
    <span className={`panel-ending tone-${ending.tone}`}>
      <Icon name={ending.icon} />
      {ending.word}
    </span>
  );
}

/** Which endpoint the drawer is about: shared by its tabs. */
export function EndpointFilter() {
  const editor = useEditor();
  const { endpoints } = useStructure();
  const chosen = useUi((state) => state.drawerEndpoint);
  const gone = chosen !== null && !endpoints.some((each) => each.id === chosen);
  return (
    <select
      className="input"
      aria-label="Endpoint"
      value={chosen ?? ""}
      onChange={({ target }) => editor.ui.setState({ drawerEndpoint: target.value ? Number(target.value) : null })}
    >
      <option value="">All endpoints</option>
      {endpoints.map((each) => (
        <option key={each.id} value={each.id}>
          {each.name}
        </option>
      ))}
      {gone && <option value={chosen}>{`endpoint ${chosen} (deleted)`}</option>}
    </select>
  );
}

/** What scrolls below the tools of a tab; reachable by keyboard, as not every tab has something to focus in it. */
export function PanelScroll({ label, className, ...rest }: { label: string } & React.ComponentProps<"section">) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reachable by keyboard
    <section {...rest} className={`panel-scroll${className ? ` ${className}` : ""}`} aria-label={label} tabIndex={0} />
  );
}
