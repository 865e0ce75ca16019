// A menu that opens below its button or at a point: arrows move, letters find, Escape closes and gives focus back.

import { type ReactNode, useEffect, useId, useLayoutEffect, useRef } from "react";
import { shownKeys } from "../actions/registry";
import { Icon, type IconName } from "./parts";

export const MAC = /Mac|iPhone|iPad/.test(navigator.platform);

interface MenuButtonProps {
  "aria-haspopup": "menu";
  "aria-expanded": boolean;
  "aria-controls": string;
  onClick: () => void;
}

export function Menu({
  open,
  onOpen,
  label,
  alignEnd,
  button,
  children,
}: {
  open: boolean;
  onOpen: (open: boolean) => void;
  label: string;
  alignEnd?: boolean;
  button: (props: MenuButtonProps) => ReactNode;
  children: ReactNode;
}) {
  const id = useId();
  const anchor = useRef<HTMLSpanElement>(null);
  return (
    <span className="menu-anchor" ref={anchor}>
      {button({ "aria-haspopup": "menu", "aria-expanded": open, "aria-controls": id, onClick: () => onOpen(!open) })}
      {open && (
        <MenuList
          id={id}
          label={label}
          className={alignEnd ? "end" : ""}
          within={anchor}
          onClose={() => {
            onOpen(false);
            anchor.current?.querySelector("button")?.focus();
          }}
        >
          {children}
        </MenuList>
      )}
    </span>
  );
}

export function MenuList({
  id,
  label,
  className = "",
  within,
  at,
  onClose,
  children,
}: {
  id?: string;
  label: string;
  className?: string;
  within?: React.RefObject<HTMLElement | null>;
  /** Where on the page it opens, instead of below its button. */
  at?: { x: number; y: number };
  onClose: () => void;
  children: ReactNode;
}) {
  const list = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const element = list.current;
    if (!element || !at) return;
    // Styles set from script are no inline styles to the content security policy.
    const left = Math.min(at.x, innerWidth - element.offsetWidth - 8);
    const top = Math.min(at.y, innerHeight - element.offsetHeight - 8);
    element.style.left = `${Math.max(8, left)}px`;
    element.style.top = `${Math.max(8, top)}px`;
  }, [at]);
  useEffect(() => {
    items(list.current)[0]?.focus();
    const outside = (event: PointerEvent) => {
      const target = event.target as Node;
      if (list.current?.contains(target) || within?.current?.contains(target)) return;
      onClose();
    };
    document.addEventListener("pointerdown", outside, true);
    return () => document.removeEventListener("pointerdown", outside, true);
  }, [onClose, within]);
  return (
    <div
      ref={list}
      id={id}
      className={`menu ${className}${at ? " at-point" : ""}`}
      role="menu"
      aria-label={label}
      tabIndex={-1}
      onKeyDown={(event) => {
        event.stopPropagation();
        if (event.key === "Escape" || event.key === "Tab") {
          event.preventDefault();
          onClose();
        } else if (step(list.current, event.key)) event.preventDefault();
      }}
    >
      {children}
    </div>
  );
}

export function MenuItem({
  icon,
  keys,
  hint,
  why,
  checked,
  danger,
  onChoose,
  children,
}: {
  icon?: IconName | undefined;
  keys?: string | undefined;
  hint?: string | undefined;
  why?: string | undefined;
  checked?: boolean;
  danger?: boolean | undefined;
  onChoose: () => void;
  children: ReactNode;
}) {
  return (
    <button
      type="button"
      {...(checked === undefined ? { role: "menuitem" } : { role: "menuitemradio", "aria-checked": checked })}
      aria-disabled={why ? true : undefined}
      title={why}
      tabIndex={-1}
      className={`menu-item${danger ? " tone-bad" : ""}`}
      onClick={why ? undefined : onChoose}
    >
      {icon && <Icon name={icon} />}
      <span className="grow">
        {children}
        {hint && <span className="small muted menu-hint">{hint}</span>}
      </span>
      {keys && <kbd>{shownKeys(keys, MAC)}</kbd>}
    </button>
  );
}

function items(list: HTMLElement | null): HTMLElement[] {
  return list ? [...list.querySelectorAll<HTMLElement>("[role^=menuitem]")] : [];
}

function step(list: HTMLElement | null, key: string): boolean {
  const all = items(list);
  const at = all.indexOf(document.activeElement as HTMLElement);
  let to = -1;
  if (key === "ArrowDown") to = (at + 1) % all.length;
  else if (key === "ArrowUp") to = (at - 1 + all.length) % all.length;
  else if (key === "Home") to = 0;
  else if (key === "End") to = all.length - 1;
  else if (key.length === 1) {
    const from = [...all.slice(at + 1), ...all.slice(0, at + 1)];
    const found = from.find((each) => each.textContent?.toLowerCase().startsWith(key.toLowerCase()));
    to = found ? all.indexOf(found) : -1;
  }
  all[to]?.focus();
  return to >= 0;
}
