// Light or dark: as the operator chose, else as the system has it.

import type { StoreApi } from "zustand/vanilla";

export type Theme = "system" | "light" | "dark";

const KEY = "lb-theme";

export function rememberedTheme(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    return "system";
  }
}

/** What the page is shown in now. */
export function shownTheme(): "light" | "dark" {
  return document.documentElement.dataset.theme === "dark" ? "dark" : "light";
}

/** Keeps the page in the theme that the store has chosen. */
export function keepTheme<T extends { theme: Theme }>(store: StoreApi<T>): void {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const { theme } = store.getState();
    const resolved = theme === "system" ? (dark.matches ? "dark" : "light") : theme;
    if (document.documentElement.dataset.theme === resolved) return;
    document.documentElement.dataset.theme = resolved;
  };
  store.subscribe((state, before) => {
    if (state.theme === before.theme) return;
    apply();
    try {
      localStorage.setItem(KEY, state.theme);
    } catch {
      // Without storage it lasts until the page is left.
    }
  });
  dark.addEventListener("change", apply);
  apply();
}
