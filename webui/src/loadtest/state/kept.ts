// What this browser keeps of the page: the cards as they were typed, and where the editor is. Never a key.

import type { CardForm } from "../logic/card";
import type { EditorLink } from "../logic/links";

const KEY = "lt-page";

export interface Kept {
  cards: readonly CardForm[];
  order: "together" | "in_turn";
  paired: boolean;
  links: Readonly<Record<string, EditorLink>>;
}

export function remembered(): Kept | null {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "null") as Kept | null;
    return kept && Array.isArray(kept.cards) && kept.cards.length ? kept : null;
  } catch {
    return null;
  }
}

export function remember(kept: Kept): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // Without storage it lasts until the page is left.
  }
}
