// The small parts all views are built from: icons, buttons, badges, fields, dialogs.

import { type ReactNode, useId, useLayoutEffect, useRef } from "react";
import type { Status, IconName as StatusIcon } from "../logic/status";

const PATHS = {
  check: "M3.5 8.5l3 3 6-7",
  dot: "M8 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z",
  clock: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM8 5v3.2l2 1.3",
  cross: "M4 4l8 8M12 4l-8 8",
  key: "M10.2 2.8a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 8l-5 5M4.4 11.6l1.6 1.6",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  play: "M5 3.5l7 4.5-7 4.5z",
  plug: "M6 2.5v3M10 2.5v3M4.5 5.5h7v2a3.5 3.5 0 0 1-7 0zM8 11v2.5",
  full: "M3 12.5h10M4 9.5h8M5 6.5h6M6 3.5h4",
  drain: "M3 8h7M7.5 4.8L10.7 8l-3.2 3.2M13 3v10",
  question: "M6 6a2 2 0 1 1 2.8 1.8c-.6.3-.8.7-.8 1.4M8 11.8v.2",
  plus: "M8 3.2v9.6M3.2 8h9.6",
  minus: "M3.2 8h9.6",
  undo: "M5.5 4L2.8 6.7l2.7 2.7M3 6.7h6.5a3.3 3.3 0 0 1 0 6.6H7",
  redo: "M10.5 4l2.7 2.7-2.7 2.7M13 6.7H6.500a3.3 3.3 0 0 0 0 6.600H9",
  fit: "M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3",
  tidy: "M3 3.500h3v3H3zM10 2.500h3v3h-3zM10 10.500h3v3h-3zM6 5h2v7h2M8 4h2",
  trash: "M3.500 4.500h9M6 4.500V3h4v1.500M4.500 4.500l.6 8.500h5.800l.6-8.500",
  cut: "M4.500 3l7 8M11.500 3l-7 8M4.500 13.500a1.600 1.600 0 1 0 0-3.200 1.600 1.600 0 0 0 0 3.200zM11.500 13.500a1.600 1.600 0 1 0 0-3.200 1.600 1.600 0 0 0 0 3.200z",
  search: "M7 2.800a4.200 4.200 0 1 0 0 8.400 4.200 4.200 0 0 0 0-8.400zM10.200 10.200l3.200 3.200",
  up: "M4 9.800L8 5.800l4 4",
  down: "M4 6.200l4 4 4-4",
  left: "M9.800 4L5.800 8l4 4",
  right: "M6.200 4l4 4-4 4",
  sun: "M8 5.200a2.800 2.800 0 1 0 0 5.600 2.800 2.800 0 0 0 0-5.600zM8 1.500v1.500M8 13v1.500M1.500 8H3M13 8h1.500M3.400 3.400l1 1M11.600 11.600l1 1M12.600 3.400l-1 1M4.400 11.600l-1 1",
  moon: "M13 9.400A5.400 5.400 0 0 1 6.600 3a5.400 5.400 0 1 0 6.400 6.400z",
  more: "M3.500 8h.01M8 8h.01M12.500 8h.01",
  list: "M3 4.500h10M3 8h10M3 11.500h10",
  chart: "M2.500 12.500l3.500-5 3 2.500 4.500-6.500",
  history: "M3 8a5 5 0 1 1 1.600 3.700M3 5v3h3M8 5.500V8l1.800 1.200",
  sliders: "M3 5h5M11 5h2M3 11h2M8 11h5M9.500 3.500v3M6.500 9.500v3",
  warning: "M8 2.500l6 10.500H2zM8 6.500v3M8 11.200v.2",
  external: "M9 3h4v4M13 3L7.500 8.500M11 9.500V13H3V5h3.500",
  copy: "M5.500 5.500h7v7h-7zM3.500 10.500v-7h7",
} as const;

export type IconName = keyof typeof PATHS | StatusIcon;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon-svg" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path
        d={PATHS[name]}
        fill="none"
        stroke="currentColor"
        strokeWidth={name === "more" ? 2.2 : 1.5}
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}

export interface ButtonProps extends React.ComponentProps<"button"> {
  tone?: "primary" | "danger" | "quiet" | undefined;
  icon?: IconName | undefined;
  tight?: boolean;
  /** Why it cannot be used now; shown on hover and read out. It stays focusable. */
  why?: string | undefined;
}

/** A button. With an icon and no children it needs an `aria-label`. */
export function Button({ tone, icon, tight, why, children, className, onClick, title, ...rest }: ButtonProps) {
  const classes = ["button", tone, icon && !children ? "icon" : "", tight ? "tight" : "", className];
  return (
    <button
      type="button"
      {...rest}
      className={classes.filter(Boolean).join(" ")}
      aria-disabled={why ? true : undefined}
      title={why ?? title ?? (children ? undefined : rest["aria-label"])}
      onClick={why ? undefined : onClick}
    >
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

export function Switch({
  on,
  label,
  onChange,
  ...rest
}: { on: boolean; label: string; onChange: (on: boolean) => void } & Omit<React.ComponentProps<"button">, "onChange">) {
  return (
    <button
      type="button"
      className="switch nodrag nopan"
      role="switch"
      aria-checked={on}
      aria-label={label}
      {...rest}
      onClick={() => onChange(!on)}
    />
  );
}

/** How an endpoint is: icon, word and colour; why, on hover. */
export function StatusBadge({ status }: { status: Status }) {
  return (
    <span className={`badge tone-${status.tone}`} title={status.explanation}>
      <Icon name={status.icon} />
      {status.word}
    </span>
  );
}

/** A label, a control and what is wrong with it. `children` gets the id and the aria attributes of the control. */
export function Field({
  label,
  hint,
  problem,
  children,
}: {
  label: ReactNode;
  hint?: ReactNode;
  problem?: string | undefined;
  children: (control: { id: string; "aria-invalid"?: true; "aria-describedby"?: string }) => ReactNode;
}) {
  const id = useId();
  const about = [hint ? `${id}-hint` : "", problem ? `${id}-problem` : ""].filter(Boolean).join(" ");
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children({ id, ...(problem ? { "aria-invalid": true } : {}), ...(about ? { "aria-describedby": about } : {}) })}
      {hint && (
        <span className="hint" id={`${id}-hint`}>
          {hint}
        </span>
      )}
      {problem && (
        <span className="problem" id={`${id}-problem`} role="alert">
          {problem}
        </span>
      )}
    </div>
  );
}

const FIRST = [
  "[data-autofocus]",
  ".dialog-body :is(input, textarea, select)",
  ".dialog-foot .primary",
  ".dialog-foot .button",
].join(", ");

/** A modal dialog: focus goes in and comes back, Escape closes; without `onClose` it stays. */
export function Dialog({
  title,
  wide,
  onClose,
  children,
  foot,
}: {
  title: string;
  wide?: boolean;
  onClose?: () => void;
  children: ReactNode;
  foot?: ReactNode;
}) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  const close = useRef(onClose);
  close.current = onClose;
  // Not useEffect: it would close the dialog after it has left the page, too late to give the focus back.
  useLayoutEffect(() => {
    const dialog = ref.current;
    const open = () => {
      dialog?.showModal();
      // The browser would begin at the button that closes it.
      dialog?.querySelector<HTMLElement>(FIRST)?.focus();
    };
    // Asked to close twice, a browser does so whatever the page says.
    const closed = () => (close.current ? close.current() : open());
    open();
    dialog?.addEventListener("close", closed);
    return () => {
      dialog?.removeEventListener("close", closed);
      dialog?.close();
    };
  }, []);
  return (
    <dialog
      ref={ref}
      className={`dialog${wide ? " wide" : ""}`}
      aria-labelledby={id}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || event.defaultPrevented || event.nativeEvent.isComposing) return;
        event.preventDefault();
        event.stopPropagation();
        onClose?.();
      }}
      onCancel={(event) => {
        event.preventDefault();
        onClose?.();
      }}
    >
      <div className="dialog-head">
        <h2 id={id}>{title}</h2>
        {onClose && <Button tone="quiet" icon="cross" tight aria-label="Close" onClick={onClose} />}
      </div>
      <div className="dialog-body">{children}</div>
      {foot && <div className="dialog-foot">{foot}</div>}
    </dialog>
  );
}

/** A line of the last values; no axes, no numbers. */
export function Sparkline({
  points,
  width = 232,
  height = 24,
}: {
  points: readonly number[];
  width?: number;
  height?: number;
}) {
  const most = Math.max(...points, 1e-9);
  const step = points.length > 1 ? width / (points.length - 1) : width;
  const path = points
    .map(
      (value, place) =>
        `${place ? "L" : "M"}${(place * step).toFixed(1)} ${(height - 1.5 - (value / most) * (height - 4)).toFixed(1)}`,
    )
    .join("");
  return (
    <svg className="sparkline" viewBox={`0 0 ${width} ${height}`} width={width} height={height} aria-hidden="true">
      <path d={points.length > 1 ? path : `M0 ${height - 1.5}H${width}`} />
    </svg>
  );
}

/** Requests in flight of the most at once, as a ring; without a cap it only says whether anything runs. */
export function Ring({ part, tone, label }: { part: number; tone: string; label?: string | undefined }) {
  const length = 2 * Math.PI * 13;
  return (
    <svg className={`ring tone-${tone}`} viewBox="0 0 32 32" width="32" height="32" aria-hidden="true">
      <circle className="ring-track" cx="16" cy="16" r="13" />
      <circle
        className="ring-value"
        cx="16"
        cy="16"
        r="13"
        strokeDasharray={`${Math.max(0, Math.min(1, part)) * length} ${length}`}
        transform="rotate(-90 16 16)"
      />
      {label && (
        <text x="16" y="19.500" textAnchor="middle">
          {label}
        </text>
      )}
    </svg>
  );
}
