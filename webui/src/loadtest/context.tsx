// The page in the tree of views: one context, and a hook that looks at one part of its state.

import { createContext, useContext } from "react";
import { useStore } from "zustand";
import type { LoadTestPage } from "./state/page";
import type { Library, PageState } from "./state/store";

export const PageContext = createContext<LoadTestPage | null>(null);

export function usePage(): LoadTestPage {
  const page = useContext(PageContext);
  if (!page) throw new Error("no PageContext");
  return page;
}

export function usePageState<T>(select: (state: PageState) => T): T {
  return useStore(usePage().store, select);
}

/** Only below what waits for it. */
export function useLibrary(): Library {
  const library = usePageState((state) => state.library);
  if (!library) throw new Error("nothing is loaded yet");
  return library;
}
