// Acts on endpoints themselves: add, look at, try, copy, delete.

import type { ConnectionTest } from "../api/types";
import { named } from "../logic/acts";
import { copies, exported, portable } from "../logic/export";
import { duration } from "../logic/format";
import { openLoadTester } from "./load-test";
import { always, endpointsOf, needsEndpoint, needsOne } from "./needs";
import type { Action } from "./registry";

export const ENDPOINTS: readonly Action[] = [
  {
    id: "add",
    title: "Add endpoint",
    group: "Endpoints",
    does: "Paste an address, see its models, connect it.",
    keys: ["N"],
    spots: ["toolbar", "canvas", "table"],
    applies: always,
    run: ({ editor, at }) => editor.ui.setState({ dialog: { kind: "add", connect: true, ...(at ? { at } : {}) } }),
  },
  {
    id: "inspect",
    title: "Inspect",
    group: "Endpoints",
    does: "Open the panel with all its settings.",
    keys: ["Enter"],
    spots: ["node", "wire", "table"],
    applies: needsOne,
    run: ({ editor, ids }) => {
      editor.ui.setState({ inspecting: true, selection: new Set([`endpoint-${ids[0]}`]) });
      // Who asks for it by a key goes on with keys there.
      requestAnimationFrame(() => document.querySelector<HTMLElement>("[data-inspector]")?.focus());
    },
  },
  {
    id: "load-test",
    title: "Load test this endpoint",
    group: "Endpoints",
    does: "Open the load tester with a card for it; nothing is sent before it is started there.",
    keys: ["L"],
    spots: ["node", "table", "inspector"],
    applies: needsOne,
    run: (context) => {
      const [endpoint] = endpointsOf(context);
      if (!endpoint) return;
      const { id, name, base_url, models } = endpoint;
      const found = context.editor.numbers.getState().numbers.endpoints.get(id)?.discovered_models;
      const model = models[0] ?? found?.[0] ?? "";
      return openLoadTester(context, { url: base_url, model, name, endpoint: id });
    },
  },
  {
    id: "test",
    title: "Test connection",
    group: "Endpoints",
    does: "Ask it for its models: whether it answers, takes the key, and how fast.",
    keys: ["T"],
    spots: ["node", "table", "inspector"],
    applies: needsEndpoint,
    run: async (context) => {
      for (const { id, name } of endpointsOf(context)) {
        const found = await context.editor.client.post<ConnectionTest>(`/endpoints/${id}/test`);
        const text = `${name}: ${found.reason} (${duration(found.latency_ms / 1000)})`;
        context.editor.toast({ tone: found.ok ? "good" : "bad", text });
      }
    },
  },
  {
    id: "duplicate",
    title: "Duplicate",
    group: "Endpoints",
    does: "Make a copy beside it: without the key, not wired.",
    keys: ["Ctrl+D"],
    spots: ["node", "table"],
    applies: needsEndpoint,
    run: (context) => {
      const endpoints = copies(endpointsOf(context).map(portable), context.structure);
      return context.editor.submit({ kind: "create", endpoints });
    },
  },
  {
    id: "copy",
    title: "Copy",
    group: "Endpoints",
    does: "Copy the endpoints as JSON, without keys. Paste with Ctrl+V.",
    keys: ["Ctrl+C"],
    spots: ["node", "table"],
    applies: (context) => (!navigator.clipboard ? "The clipboard needs https or localhost." : needsEndpoint(context)),
    run: async ({ editor, structure, ids }) => {
      await navigator.clipboard.writeText(JSON.stringify(exported(structure, ids), null, 2));
      editor.toast({ tone: "plain", text: `${named(ids, structure)} copied` });
    },
  },
  {
    id: "enable",
    title: "Enable or disable",
    group: "Endpoints",
    does: "A disabled endpoint keeps its wire and its place and takes no traffic.",
    keys: ["E"],
    spots: ["node", "table", "inspector"],
    applies: needsEndpoint,
    run: (context) => {
      const enabled = !endpointsOf(context).every((each) => each.enabled);
      return context.editor.submit({
        kind: "change",
        updates: context.ids.map((id) => ({ id, fields: { enabled } })),
      });
    },
  },
  {
    id: "delete",
    title: "Delete endpoint",
    group: "Endpoints",
    does: "Remove it. What runs there finishes. Undo brings it back with its key.",
    keys: ["Shift+Delete", "Shift+Backspace"],
    spots: ["node", "table", "inspector"],
    applies: needsEndpoint,
    danger: true,
    run: ({ editor, ids }) => editor.submit({ kind: "delete", ids: [...ids] }),
  },
];
