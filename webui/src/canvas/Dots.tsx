// The requests on the wires, as dots on one drawing surface below the cards: one pass a frame, whatever their number.
// Nothing is drawn while nothing flows, while the page is hidden, paused or the line is down, or with reduced motion.

import { useReactFlow } from "@xyflow/react";
import { createContext, useContext, useEffect, useRef } from "react";
import { along, type Curve } from "../logic/curve";
import { useEditor } from "../state/context";

export interface WirePath {
  curve: Curve;
  dots: number;
  /** From end to end. */
  seconds: number;
  /** The part of the dots that are errors. */
  errors: number;
}

export type WirePaths = Map<string, WirePath>;

export const PathsContext = createContext<WirePaths>(new Map());

/** Between the end of a frame and the next: about 25 a second. */
const FRAME_MILLISECONDS = 30;
const IDLE_MILLISECONDS = 500;

export function Dots() {
  const surface = useRef<HTMLCanvasElement>(null);
  const editor = useEditor();
  const flow = useReactFlow();
  const paths = useContext(PathsContext);
  useEffect(() => {
    const canvas = surface.current;
    const pen = canvas?.getContext("2d");
    if (!canvas || !pen) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    let frame = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let blank = true;
    let colours = coloursOf(canvas);
    // Asked for when they may have changed, never in a frame: asking makes the browser lay out the page.
    const restyle = new MutationObserver(() => {
      colours = coloursOf(canvas);
    });
    restyle.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    const resized = new ResizeObserver(() => resize(canvas));
    resized.observe(canvas);
    const later = (milliseconds: number) => {
      timer = setTimeout(() => {
        // Asked for one at a time: every frame asked for is one the browser composes.
        frame = requestAnimationFrame(draw);
      }, milliseconds);
    };
    const draw = (now: number) => {
      const idle = still.matches || editor.numbers.getState().frozen || !flows(paths);
      later(idle ? IDLE_MILLISECONDS : FRAME_MILLISECONDS);
      if (idle && blank) return;
      blank = idle;
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, canvas.width, canvas.height);
      if (idle) return;
      const { x, y, zoom } = flow.getViewport();
      const scale = devicePixelRatio;
      pen.setTransform(zoom * scale, 0, 0, zoom * scale, x * scale, y * scale);
      drawAll(pen, paths, now / 1000, colours);
    };
    later(0);
    return () => {
      clearTimeout(timer);
      cancelAnimationFrame(frame);
      restyle.disconnect();
      resized.disconnect();
    };
  }, [editor, flow, paths]);
  // biome-ignore lint/a11y/noAriaHiddenOnFocusable: a drawing surface takes no focus
  return <canvas ref={surface} className="dots" aria-hidden="true" />;
}

function flows(paths: WirePaths): boolean {
  for (const each of paths.values()) if (each.dots > 0) return true;
  return false;
}

function resize(canvas: HTMLCanvasElement): void {
  const width = Math.round(canvas.clientWidth * devicePixelRatio);
  const height = Math.round(canvas.clientHeight * devicePixelRatio);
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

interface Colours {
  good: string;
  bad: string;
}

function coloursOf(canvas: HTMLCanvasElement): Colours {
  const style = getComputedStyle(canvas);
  return { good: style.getPropertyValue("--accent"), bad: style.getPropertyValue("--bad") };
}

function drawAll(pen: CanvasRenderingContext2D, paths: WirePaths, now: number, { good, bad }: Colours): void {
  const wrong: [number, number][] = [];
  pen.fillStyle = good;
  pen.beginPath();
  for (const { curve, dots, seconds, errors } of paths.values()) {
    const failing = errors > 0 ? Math.max(1, Math.round(errors * dots)) : 0;
    for (let place = 0; place < dots; place += 1) {
      const at = (now / seconds + place / dots) % 1;
      const [x, y] = along(curve, at);
      if (place < failing) wrong.push([x, y]);
      else {
        pen.moveTo(x + 3, y);
        pen.arc(x, y, 3, 0, 7);
      }
    }
  }
  pen.fill();
  pen.fillStyle = bad;
  pen.beginPath();
  for (const [x, y] of wrong) {
    pen.moveTo(x, y - 5);
    pen.lineTo(x + 5, y);
    pen.lineTo(x, y + 5);
    pen.lineTo(x - 5, y);
    pen.closePath();
  }
  pen.fill();
}
