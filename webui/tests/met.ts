// An editor without its views, met with a balancer in memory.

import { expect, vi } from "vitest";
import { AdminClient } from "../src/api/client";
import type { EndpointView } from "../src/api/types";
import type { Act, Changes } from "../src/logic/acts";
import { Editor } from "../src/state/editor";
import type { Asked } from "../src/state/ui";
import { FakeServer } from "./server";

export const change = (id: number, fields: Changes): Act => ({ kind: "change", updates: [{ id, fields }] });

export async function meet(...endpoints: EndpointView[]): Promise<{ server: FakeServer; editor: Editor }> {
  const server = new FakeServer(...endpoints);
  vi.stubGlobal("fetch", server.fetch);
  const editor = new Editor(new AdminClient(), "system");
  editor.client.csrfToken = "csrf";
  await editor.refresh();
  server.seen.length = 0;
  return { server, editor };
}

export const askedOf = (editor: Editor) => editor.ui.getState().asked[0] ?? null;
export const toastsOf = (editor: Editor) => editor.ui.getState().toasts.map((each) => each.text);
export const one = (editor: Editor, id = 1) => editor.structure.endpoints.find((each) => each.id === id);

/** As much of a page as the live state looks at; without locks it polls. */
export const page = () => {
  vi.stubGlobal("document", Object.assign(new EventTarget(), { hidden: false }));
  vi.stubGlobal("navigator", {});
};

/** Lets everything that waits for nothing but the fake server come to its end. */
export async function settle(): Promise<void> {
  await vi.advanceTimersByTimeAsync(0);
}

/** Holds up whatever waits until it has passed. */
export function gate(): { passed: Promise<void>; open: () => void } {
  let open = () => {};
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { passed, open: () => open() };
}

/** The question that stands. */
export async function asked<K extends Asked["kind"]>(editor: Editor, kind: K): Promise<Extract<Asked, { kind: K }>> {
  await settle();
  const found = askedOf(editor);
  expect(found?.kind).toBe(kind);
  return found as Extract<Asked, { kind: K }>;
}
