// Keys for the whole page, unless somebody is typing or a dialog is open.

import { useLayoutEffect } from "react";
import { nameOf } from "../actions/registry";
import { usePage } from "./context";
import { download } from "./results/Run";
import type { LoadTestPage } from "./state/page";

export const KEYS: readonly { key: string; does: string; run: (page: LoadTestPage) => unknown }[] = [
  {
    key: "N",
    does: "Another card",
    run: (page) => {
      page.show({ kind: "cards" });
      page.add();
    },
  },
  { key: "S", does: "Start all cards", run: (page) => page.start() },
  { key: "X", does: "Stop the test that is shown", run: (page) => page.stop() },
  { key: "Shift+X", does: "Cut off everything that is under way", run: (page) => page.stopEverything() },
  { key: "R", does: "The test that ran last", run: showLast },
  {
    key: "E",
    does: "Export the test that is shown as JSON",
    run: (page) => {
      const { view, run } = page.store.getState();
      if (view.kind === "run" && run && run.result.state !== "running") download(run.result.id, "export.json");
    },
  },
  { key: "C", does: "Cards", run: (page) => page.show({ kind: "cards" }) },
  { key: "H", does: "History", run: (page) => page.show({ kind: "history" }) },
  { key: "?", does: "Help", run: (page) => page.open({ kind: "help" }) },
];

export async function showLast(page: LoadTestPage): Promise<void> {
  const id = await page.lastRun();
  if (id) page.show({ kind: "run", id });
  else page.toast("plain", "No test was run yet.");
}

export function useKeys(): void {
  const page = usePage();
  // Not useEffect: a page that can be seen takes keys.
  useLayoutEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.isComposing || busy(page, event.target)) return;
      const found = KEYS.find((each) => each.key === nameOf(event));
      if (!found) return;
      event.preventDefault();
      void found.run(page);
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [page]);
}

function busy(page: LoadTestPage, target: EventTarget | null): boolean {
  if (page.store.getState().phase !== "ready" || document.querySelector("dialog[open]")) return true;
  return target instanceof HTMLElement && target.closest("input, textarea, select, [role=menu]") !== null;
}
