// The keyboard on the canvas: one stop for Tab; arrows go from node to node, Ctrl+arrows along wires, Space grabs,
// W draws a wire. The graph library's handles know no keys.

import type { ReactNode } from "react";
import { action } from "../actions/list";
import { canvasPort, contextOf, runAction } from "../editor/acting";
import { connect } from "../logic/acts";
import { endpointIdOf, graphOf } from "../logic/graph";
import { CLIENT_SIZE, type Direction, ENDPOINT_SIZE, GRID, INCOMING_SIZE, nearest, type Place } from "../logic/layout";
import { byRank } from "../logic/shares";
import { spoken } from "../logic/status";
import { isDense, receivers } from "../logic/structure";
import { useEditor, useStructure, useUi } from "../state/context";
import type { Editor } from "../state/editor";

const ARROWS: Record<string, Direction> = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowUp: "up",
  ArrowDown: "down",
};
const SIZES = { endpoint: ENDPOINT_SIZE, incoming: INCOMING_SIZE, client: CLIENT_SIZE };

export function FocusLayer({ children }: { children: ReactNode }) {
  const editor = useEditor();
  const cursor = useUi((state) => state.cursor);
  const dense = isDense(useStructure());
  return (
    <div
      className="canvas"
      data-canvas
      data-dense={dense}
      data-testid="canvas"
      role="application"
      aria-label="Flow canvas. Arrow keys go from node to node, question mark lists all keys."
      aria-activedescendant={cursor ? `node-${cursor}` : undefined}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: an application is interactive
      tabIndex={0}
      onFocus={(event) => {
        if (event.target === event.currentTarget && !editor.ui.getState().cursor) goTo(editor, "incoming");
      }}
      onBlur={(event) => {
        if (event.target === event.currentTarget) letGo(editor);
      }}
      onKeyDown={(event) => {
        if (event.target === event.currentTarget && press(editor, event)) {
          event.preventDefault();
          event.stopPropagation();
        }
      }}
    >
      {children}
    </div>
  );
}

function press(editor: Editor, event: React.KeyboardEvent): boolean {
  const { cursor, grabbed, wiringFrom } = editor.ui.getState();
  const direction = ARROWS[event.key];
  if (direction && !event.altKey) {
    if (grabbed) shift(editor, grabbed.node, direction, event.shiftKey ? 5 : 1);
    else if (event.ctrlKey || event.metaKey) follow(editor, direction);
    else step(editor, direction, event.shiftKey);
    return true;
  }
  switch (event.key) {
    case " ":
      if (cursor) grab(editor, cursor);
      return true;
    case "Enter":
      if (wiringFrom) endWire(editor);
      else if (event.shiftKey) toggle(editor, cursor);
      else if (endpointIdOf(cursor) !== null) {
        void runAction(action("inspect"), contextOf(editor, [endpointIdOf(cursor) ?? 0]));
      }
      return true;
    case "w":
    case "W":
      if (wiringFrom) endWire(editor);
      else beginWire(editor);
      return true;
    case "Escape":
      giveUp(editor);
      return true;
    default:
      return false;
  }
}

function centres(editor: Editor): Map<string, Place> {
  const { nodes } = graphOf(editor.structure, []);
  return new Map(
    nodes.map(({ id, kind, place }) => {
      const { width, height } = SIZES[kind];
      return [id, { x: place.x + width / 2, y: place.y + height / 2 }];
    }),
  );
}

function step(editor: Editor, direction: Direction, adding: boolean): void {
  const all = centres(editor);
  const from = all.get(editor.ui.getState().cursor ?? "incoming") ?? all.get("incoming");
  const to = from && nearest(from, all, direction);
  if (to) goTo(editor, to, adding);
}

/** Right and left follow the wire; up and down go along the endpoints that are wired, in their order. */
function follow(editor: Editor, direction: Direction): void {
  const { cursor } = editor.ui.getState();
  const wired = new Set(receivers(editor.structure).map((each) => each.id));
  const order = byRank(editor.structure).filter((id) => wired.has(id));
  const id = endpointIdOf(cursor);
  if (direction === "left") goTo(editor, "incoming");
  else if (id === null) goTo(editor, order.length ? `endpoint-${order[0]}` : "incoming");
  else {
    const by = direction === "up" ? -1 : 1;
    const next = order[(order.indexOf(id) + by + order.length) % order.length];
    if (next !== undefined) goTo(editor, `endpoint-${next}`);
  }
}

/** `adding`: what is selected stays so. */
function goTo(editor: Editor, node: string, adding = false): void {
  const id = endpointIdOf(node);
  const endpoint = editor.structure.endpoints.find((each) => each.id === id);
  const numbers = id === null ? undefined : editor.numbers.getState().numbers.endpoints.get(id);
  const { wiringFrom: wiring, selection } = editor.ui.getState();
  editor.ui.setState({
    cursor: node,
    ...(wiring ? {} : { selection: new Set([...(adding ? selection : []), ...(endpoint ? [node] : [])]) }),
    announcement: endpoint ? spoken(endpoint, numbers) : node === "incoming" ? "Incoming" : "Client",
    preview: wiring === "incoming" && endpoint && !endpoint.connected ? connect([endpoint.id], true) : null,
  });
  keepInView(node);
}

/** Only when it is out of sight: the view does not jump about. */
function keepInView(node: string): void {
  const box = document.getElementById(`node-${node}`)?.getBoundingClientRect();
  const stage = document.querySelector("[data-canvas]")?.getBoundingClientRect();
  if (!box || !stage) return;
  const inside =
    box.left >= stage.left && box.right <= stage.right && box.top >= stage.top && box.bottom <= stage.bottom;
  if (!inside) canvasPort.getState().port?.show(node);
}

function toggle(editor: Editor, node: string | null): void {
  if (!node) return;
  const selection = new Set(editor.ui.getState().selection);
  if (!selection.delete(node)) selection.add(node);
  editor.ui.setState({ selection });
}

function grab(editor: Editor, node: string): void {
  const { grabbed } = editor.ui.getState();
  if (grabbed) {
    letGo(editor);
    return;
  }
  const from = editor.placesOf([node])[node];
  if (from) editor.ui.setState({ grabbed: { node, from }, announcement: "Grabbed: arrows move it, Space lets go" });
}

/** All steps together are one move. */
function letGo(editor: Editor): void {
  const { grabbed } = editor.ui.getState();
  if (!grabbed) return;
  const { node, from } = grabbed;
  const to = editor.placesOf([node])[node];
  editor.ui.setState({ grabbed: null, announcement: "Let go" });
  if (to && (to.x !== from.x || to.y !== from.y)) editor.move({ [node]: to }, { [node]: from });
}

function shift(editor: Editor, node: string, direction: Direction, steps: number): void {
  const found = graphOf(editor.structure, []).nodes.find((each) => each.id === node);
  if (!found?.movable) return;
  const by = GRID * steps;
  const dx = direction === "left" ? -by : direction === "right" ? by : 0;
  const dy = direction === "up" ? -by : direction === "down" ? by : 0;
  editor.drag({ [node]: { x: found.place.x + dx, y: found.place.y + dy } });
}

function beginWire(editor: Editor): void {
  const { cursor } = editor.ui.getState();
  if (!cursor || cursor.startsWith("client-")) return;
  const to = cursor === "incoming" ? "an endpoint" : "Incoming";
  editor.ui.setState({ wiringFrom: cursor, announcement: `Wire begun. Go to ${to} and press W.` });
}

function endWire(editor: Editor): void {
  const { cursor, wiringFrom } = editor.ui.getState();
  const ends = [cursor, wiringFrom];
  const id = ends.map(endpointIdOf).find((each) => each !== null);
  editor.ui.setState({ wiringFrom: null, preview: null });
  if (!ends.includes("incoming") || id == null) {
    editor.announce("A wire goes from Incoming to an endpoint");
    return;
  }
  editor.submit(connect([id], true)).catch((error) => editor.complain(error));
}

function giveUp(editor: Editor): void {
  const { grabbed, wiringFrom } = editor.ui.getState();
  if (grabbed) editor.drag({ [grabbed.node]: grabbed.from });
  if (grabbed || wiringFrom) editor.ui.setState({ grabbed: null, wiringFrom: null, preview: null });
  else editor.ui.setState({ selection: new Set(), inspecting: false, menu: null });
}
