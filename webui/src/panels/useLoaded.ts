// What a panel reads from the server: loaded when it is shown, again when asked, and again after the line was lost.

import { useCallback, useEffect, useRef, useState } from "react";
import { ApiProblem } from "../api/client";
import { useEditor, useSession } from "../state/context";

export interface Loaded<T> {
  /** The last that came, kept while the next is on its way or fails. */
  value: T | null;
  /** The path `value` came from. */
  from: string;
  problem: string;
  reload: () => void;
}

export function useLoaded<T>(path: string): Loaded<T> {
  const editor = useEditor();
  const reachable = useSession((state) => state.phase === "ready" && state.link.kind !== "offline");
  const [loaded, setLoaded] = useState<{ value: T | null; from: string }>({ value: null, from: "" });
  const [problem, setProblem] = useState("");
  const running = useRef("");
  const load = useCallback(async () => {
    // One at a time; a slow answer is not asked for again.
    if (running.current === path) return;
    running.current = path;
    try {
      const value = await editor.client.get<T>(path);
      if (running.current !== path) return;
      setLoaded({ value, from: path });
      setProblem("");
    } catch (error) {
      if (running.current !== path || (error instanceof ApiProblem && error.status === 401)) return;
      setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      if (running.current === path) running.current = "";
    }
  }, [editor, path]);
  useEffect(() => {
    if (reachable) void load();
  }, [reachable, load]);
  const reload = useCallback(() => {
    if (reachable) void load();
  }, [reachable, load]);
  return { ...loaded, problem, reload };
}

/** Calls back every so many seconds, while the page is seen. */
export function useEvery(seconds: number, call: () => void): void {
  const latest = useRef(call);
  latest.current = call;
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) latest.current();
    }, seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds]);
}

/** The present time in milliseconds, renewed so rarely that nothing flickers. */
export function useNow(seconds: number): number {
  const [now, setNow] = useState(Date.now);
  useEvery(seconds, () => setNow(Date.now()));
  return now;
}

/** The width of an element in CSS pixels; 0 until it was measured. */
export function useWidth(ref: React.RefObject<HTMLElement | null>): number {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, [ref]);
  return width;
}
