// Acts on where the traffic goes: wires, quotas, ranks, modes.

import { connect, named } from "../logic/acts";
import { count } from "../logic/format";
import { byRank, moved, quotaSum, ranked, rescale } from "../logic/shares";
import { receivers } from "../logic/structure";
import { always, endpointsOf, needsEndpoint, needsOne } from "./needs";
import type { Action } from "./registry";

export const TRAFFIC: readonly Action[] = [
  {
    id: "connect",
    title: "Connect to Incoming",
    group: "Traffic",
    does: "Draw the wire: it takes traffic from now on.",
    keys: ["C"],
    spots: ["node", "table", "inspector"],
    applies: (context) =>
      needsEndpoint(context) === true
        ? endpointsOf(context).some((each) => !each.connected) || "It is connected already."
        : needsEndpoint(context),
    run: (context) => {
      const ids = endpointsOf(context).flatMap((each) => (each.connected ? [] : [each.id]));
      return context.editor.submit(connect(ids, true));
    },
  },
  {
    id: "cut",
    title: "Cut the wire",
    group: "Traffic",
    does: "Take it out of service: nothing new goes there, what runs finishes. Never deletes the endpoint.",
    keys: ["Delete", "Backspace"],
    spots: ["node", "wire", "table", "inspector"],
    applies: (context) =>
      needsEndpoint(context) === true
        ? endpointsOf(context).some((each) => each.connected) || "It is not connected."
        : needsEndpoint(context),
    run: (context) => {
      const ids = endpointsOf(context).flatMap((each) => (each.connected ? [each.id] : []));
      return context.editor.submit(connect(ids, false));
    },
  },
  {
    id: "abort",
    title: "Cut now",
    group: "Traffic",
    does: "End what is still in flight at a draining endpoint: answers that have begun break off.",
    keys: ["Shift+X"],
    spots: ["node", "wire", "table", "inspector"],
    danger: true,
    applies: (context) => {
      const numbers = context.editor.numbers.getState().numbers.endpoints;
      const draining = endpointsOf(context).filter((each) => !each.connected && numbers.get(each.id)?.inflight);
      return draining.length > 0 || "Nothing is draining there.";
    },
    run: async (context) => {
      const draining = endpointsOf(context).filter((each) => !each.connected);
      const answers = await Promise.all(
        draining.map(({ id }) => context.editor.client.post<{ aborted: number }>(`/endpoints/${id}/abort`)),
      );
      const ended = answers.reduce((sum, each) => sum + each.aborted, 0);
      const who = named(
        draining.map((each) => each.id),
        context.structure,
      );
      context.editor.toast({ tone: "plain", text: `${who}: ${count(ended, "request")} ended` });
    },
  },
  {
    id: "rescale",
    title: "Make quotas sum to 100 %",
    group: "Traffic",
    does: "Scale the quotas of all connected endpoints in proportion, as one change.",
    keys: ["R"],
    spots: ["toolbar", "canvas", "table"],
    applies: ({ structure }) =>
      receivers(structure).length === 0
        ? "Nothing is connected."
        : quotaSum(structure) !== 100 || "The quotas sum to 100 % already.",
    run: ({ editor, structure }) =>
      editor.submit({ kind: "change", updates: rescale(structure) }, { says: "Quotas scaled to 100 %" }),
  },
  rank("up", -1),
  rank("down", 1),
  ...["percentage", "priority"].map(
    (mode, place): Action => ({
      id: `mode-${mode}`,
      title: `Mode: ${mode}`,
      group: "Traffic",
      does: mode === "percentage" ? "Split tokens by quota." : "Fill by rank, overflow to the next.",
      keys: [`Alt+${place + 1}`],
      spots: ["toolbar"],
      applies: ({ structure }) => structure.mode !== mode || "That is the mode.",
      run: ({ editor }) => editor.ui.setState({ dialog: { kind: "mode", mode } }),
    }),
  ),
  {
    id: "reset",
    title: "Reset statistics",
    group: "Traffic",
    does: "Begin a new period of counting; ends cooldowns.",
    keys: ["Ctrl+Alt+R"],
    spots: ["toolbar", "canvas", "table"],
    applies: always,
    danger: true,
    run: async ({ editor }) => {
      const sure = await editor.ask({
        title: "Reset all statistics?",
        text: "Totals of endpoints and tokens begin at zero, and cooldowns end. This cannot be undone.",
        confirm: "Reset",
        danger: true,
      });
      if (!sure) return;
      await editor.client.post("/reset-stats");
      editor.toast({ tone: "plain", text: "A new period of counting began" });
    },
  },
];

function rank(way: "up" | "down", by: -1 | 1): Action {
  return {
    id: `rank-${way}`,
    title: `Rank ${way}`,
    group: "Traffic",
    does: `Move it one place ${way} in the order of priority.`,
    keys: [way === "up" ? "Alt+ArrowUp" : "Alt+ArrowDown"],
    spots: ["node", "table", "inspector"],
    applies: (context) => {
      if (needsOne(context) !== true) return needsOne(context);
      const order = byRank(context.structure);
      const place = order.indexOf(context.ids[0] ?? 0) + by;
      return (place >= 0 && place < order.length) || `It is ${way === "up" ? "first" : "last"} already.`;
    },
    run: ({ editor, structure, ids }) => {
      const order = moved(byRank(structure), ids[0] ?? 0, by);
      return editor.submit({ kind: "change", updates: ranked(structure, order) });
    },
  };
}
