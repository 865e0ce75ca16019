// Light or dark: as the operator chose, else as the system has it.

import type { Theme, UiStore } from "../state/ui";

const KEY = "lb-theme";

export function rememberedTheme(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    return "system";
  }
}

/** Keeps the page in the chosen theme. */
export function applyTheme(ui: UiStore): void {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const { theme } = ui.getState();
    const resolved = theme === "system" ? (dark.matches ? "dark" : "light") : theme;
    if (document.documentElement.dataset.theme === resolved) return;
    document.documentElement.dataset.theme = resolved;
  };
  ui.subscribe((state, before) => {
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
