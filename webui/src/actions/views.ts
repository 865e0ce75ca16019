// Acts on what is seen: the canvas and the panels around it.

import { tidy } from "../logic/layout";
import type { DrawerTab } from "../state/ui";
import { always, needsOne } from "./needs";
import type { Action } from "./registry";

export const CANVAS: readonly Action[] = [
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

export const VIEWS: readonly Action[] = [
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
