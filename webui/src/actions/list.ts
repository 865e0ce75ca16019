// Every act of the editor, once.

import type { ConnectionTest } from "../api/types";
import { connect, named } from "../logic/acts";
import { copies, exported, portable } from "../logic/export";
import { count, duration } from "../logic/format";
import { tidy } from "../logic/layout";
import { clientsAddress, type LoadTarget, loadTestAddress } from "../logic/loadtest";
import { byRank, moved, quotaSum, ranked, rescale } from "../logic/shares";
import { receivers } from "../logic/structure";
import type { DrawerTab, Theme } from "../state/ui";
import type { Action, ActionContext } from "./registry";

const needsEndpoint = ({ ids }: ActionContext) => ids.length > 0 || "Select an endpoint first.";
const needsOne = ({ ids }: ActionContext) => ids.length === 1 || "Select one endpoint first.";
const always = () => true as const;

const endpointsOf = ({ structure, ids }: ActionContext) => structure.endpoints.filter((each) => ids.includes(each.id));

/** Its address is a setting of the balancer, which is asked for when it is needed. Null: the balancer itself. */
async function openLoadTester({ editor }: ActionContext, given: LoadTarget | null): Promise<void> {
  const settings = await editor.client.get<import("../api/types").SettingView[]>("/settings");
  const address = settings.find((each) => each.name === "LB_LOAD_TESTER_URL")?.value ?? "";
  const balancer = () => ({
    url: clientsAddress(location.origin, settings),
    model: "",
    name: "Balancer",
    endpoint: null,
  });
  const target = given ?? balancer();
  window.open(loadTestAddress(address, target, location.origin + location.pathname), "_blank", "noopener");
}

const ENDPOINTS: readonly Action[] = [
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

const TRAFFIC: readonly Action[] = [
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

const CANVAS: readonly Action[] = [
  {
    id: "select-all",
    title: "Select all endpoints",
    group: "Canvas",
    does: "For bulk acts.",
    keys: ["Ctrl+A"],
    spots: ["canvas", "table"],
    applies: ({ structure }) => structure.endpoints.length > 0 || "There is no endpoint.",
    run: ({ editor, structure }) =>
      editor.ui.setState({ selection: new Set(structure.endpoints.map((each) => `endpoint-${each.id}`)) }),
  },
  {
    id: "tidy",
    title: "Tidy up",
    group: "Canvas",
    does: "Arrange all nodes: clients, Incoming, endpoints.",
    keys: ["Shift+T"],
    spots: ["canvas", "toolbar"],
    applies: ({ canvas }) => canvas !== null || "Only on the canvas.",
    run: ({ editor, structure, canvas }) => {
      editor.move(tidy(structure));
      requestAnimationFrame(() => canvas?.fit());
    },
  },
  {
    id: "fit",
    title: "Fit to view",
    group: "Canvas",
    does: "Show everything.",
    keys: ["F"],
    spots: ["canvas", "toolbar"],
    applies: ({ canvas }) => canvas !== null || "Only on the canvas.",
    run: ({ canvas }) => canvas?.fit(),
  },
  {
    id: "zoom-in",
    title: "Zoom in",
    group: "Canvas",
    does: "Also the wheel with Ctrl, or a pinch.",
    keys: ["+", "="],
    spots: ["toolbar"],
    applies: ({ canvas }) => canvas !== null || "Only on the canvas.",
    run: ({ canvas }) => canvas?.zoomIn(),
  },
  {
    id: "zoom-out",
    title: "Zoom out",
    group: "Canvas",
    does: "Also the wheel with Ctrl, or a pinch.",
    keys: ["-"],
    spots: ["toolbar"],
    applies: ({ canvas }) => canvas !== null || "Only on the canvas.",
    run: ({ canvas }) => canvas?.zoomOut(),
  },
  {
    id: "snap",
    title: "Snap to grid",
    group: "Canvas",
    does: "Whether moved nodes keep to the grid.",
    keys: ["G"],
    spots: ["canvas"],
    applies: always,
    run: ({ editor }) => {
      const snap = !editor.ui.getState().snap;
      editor.ui.setState({ snap });
      editor.announce(snap ? "Snapping to the grid" : "Moving freely");
    },
  },
];

const DRAWERS: readonly [DrawerTab, string, string][] = [
  ["requests", "Requests", "The last requests: who served them, and why there."],
  ["charts", "Charts", "Tokens, requests and times of the last 15 minutes."],
  ["changes", "Changes", "Who changed what, with a way back."],
  ["tokens", "Client tokens", "Who may send requests."],
  ["settings", "Settings", "What this process was started with."],
];

const VIEWS: readonly Action[] = [
  {
    id: "view",
    title: "Canvas or table",
    group: "Views",
    does: "The same acts in either.",
    keys: ["V"],
    spots: ["toolbar"],
    applies: always,
    run: ({ editor }) =>
      editor.ui.setState({ view: editor.ui.getState().view === "canvas" ? "table" : "canvas", menu: null }),
  },
  ...DRAWERS.map(
    ([tab, title, does], place): Action => ({
      id: `drawer-${tab}`,
      title,
      group: "Views",
      does,
      keys: [String(place + 1)],
      spots: ["toolbar"],
      applies: always,
      run: ({ editor }) => {
        const open = editor.ui.getState().drawer === tab;
        editor.ui.setState({ drawer: open ? null : tab, drawerEndpoint: null });
      },
    }),
  ),
  {
    id: "requests-here",
    title: "Requests of this endpoint",
    group: "Views",
    does: "The request log, only of this endpoint.",
    keys: ["Shift+R"],
    spots: ["node", "wire", "table", "inspector"],
    applies: needsOne,
    run: ({ editor, ids }) => editor.ui.setState({ drawer: "requests", drawerEndpoint: ids[0] ?? null }),
  },
  {
    id: "freeze",
    title: "Pause live numbers",
    group: "Views",
    does: "Numbers and wires stand still; traffic goes on.",
    keys: ["P"],
    spots: ["toolbar", "canvas"],
    applies: always,
    run: ({ editor }) => {
      const frozen = !editor.numbers.getState().frozen;
      editor.numbers.setState({ frozen });
      editor.announce(frozen ? "Live numbers paused" : "Live numbers go on");
    },
  },
];

const EDITOR: readonly Action[] = [
  {
    id: "undo",
    title: "Undo",
    group: "Editor",
    does: "Take back the last act, refused where somebody changed the same since.",
    keys: ["Ctrl+Z"],
    spots: ["toolbar"],
    applies: ({ editor }) => editor.canUndo || "Nothing to undo.",
    run: ({ editor }) => editor.undo(),
  },
  {
    id: "redo",
    title: "Redo",
    group: "Editor",
    does: "Do again what was undone.",
    keys: ["Ctrl+Shift+Z", "Ctrl+Y"],
    spots: ["toolbar"],
    applies: ({ editor }) => editor.canRedo || "Nothing to redo.",
    run: ({ editor }) => editor.redo(),
  },
  {
    id: "palette",
    title: "Find an action or endpoint",
    group: "Editor",
    does: "Type a few letters of it.",
    keys: ["Ctrl+K", "/"],
    spots: ["toolbar"],
    applies: always,
    run: ({ editor }) => editor.ui.setState({ dialog: { kind: "palette" } }),
  },
  {
    id: "export",
    title: "Export as JSON",
    group: "Editor",
    does: "Save all endpoints as a file, without keys.",
    keys: ["Ctrl+S"],
    spots: ["toolbar", "canvas", "table"],
    applies: always,
    run: ({ structure }) => {
      const file = new Blob([`${JSON.stringify(exported(structure), null, 2)}\n`], { type: "application/json" });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(file);
      link.download = `llm-balancer-revision-${structure.revision}.json`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    },
  },
  {
    id: "import",
    title: "Import JSON",
    group: "Editor",
    does: "Add and change endpoints from a file; shows what it would do first.",
    keys: ["Ctrl+O"],
    spots: ["toolbar", "canvas", "table"],
    applies: always,
    run: ({ editor }) => editor.ui.setState({ dialog: { kind: "import", text: "" } }),
  },
  {
    id: "theme",
    title: "Light or dark",
    group: "Editor",
    does: "As the system has it, light, dark.",
    keys: ["Shift+D"],
    spots: ["toolbar"],
    applies: always,
    run: ({ editor }) => {
      const order: Theme[] = ["system", "light", "dark"];
      const theme = order[(order.indexOf(editor.ui.getState().theme) + 1) % order.length] ?? "system";
      editor.ui.setState({ theme });
      editor.announce(`Theme: ${theme}`);
    },
  },
  {
    id: "load-test-balancer",
    title: "Load test the balancer",
    group: "Editor",
    does: "Open the load tester with a card for the balancer itself.",
    keys: ["Shift+L"],
    spots: ["toolbar"],
    applies: always,
    run: (context) => openLoadTester(context, null),
  },
  {
    id: "help",
    title: "Keys and legend",
    group: "Editor",
    does: "This list.",
    keys: ["?"],
    spots: ["toolbar"],
    applies: always,
    run: ({ editor }) => editor.ui.setState({ dialog: { kind: "help" } }),
  },
  {
    id: "logout",
    title: "Log out",
    group: "Editor",
    does: "End the session in this browser.",
    keys: ["Ctrl+Shift+L"],
    spots: ["toolbar"],
    applies: always,
    run: ({ editor }) => editor.logout(),
  },
];

export const ACTIONS: readonly Action[] = [...ENDPOINTS, ...TRAFFIC, ...CANVAS, ...VIEWS, ...EDITOR];

export function action(id: string): Action {
  const found = ACTIONS.find((each) => each.id === id);
  if (!found) throw new Error(`no action "${id}"`);
  return found;
}
