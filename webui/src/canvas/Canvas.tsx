// The flow editor's canvas: the only room that knows the graph library. What it shows comes from graphOf; what is done
// on it becomes acts and moves of the editor.

import {
  applyNodeChanges,
  Background,
  BackgroundVariant,
  type Connection,
  type Edge,
  type EdgeChange,
  type FinalConnectionState,
  type Node,
  type NodeChange,
  ReactFlow,
  ReactFlowProvider,
  SelectionMode,
  useConnection,
  useOnViewportChange,
  useReactFlow,
} from "@xyflow/react";
import "@xyflow/react/dist/base.css";
import "./canvas.css";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { canvasPort } from "../editor/acting";
import { type Act, connect } from "../logic/acts";
import { endpointIdOf, type GraphNode, type GraphWire, graphOf } from "../logic/graph";
import { ENDPOINT_SIZE, GRID, type Places } from "../logic/layout";
import { useEditor, useFlow, useStructure, useUi } from "../state/context";
import type { Editor } from "../state/editor";
import { ConnectionLine } from "./ConnectionLine";
import { Dots, PathsContext, type WirePaths } from "./Dots";
import { FocusLayer } from "./FocusLayer";
import { ClientNode, EndpointNode, IncomingNode } from "./nodes";
import { ClientWire, Wire } from "./Wire";
import { ZoomButtons } from "./ZoomButtons";

const NODE_TYPES = { incoming: IncomingNode, endpoint: EndpointNode, client: ClientNode };
const EDGE_TYPES = { wire: Wire, draining: Wire, client: ClientWire };
const FIT = {
  padding: { top: "112px", left: "32px", right: "32px", bottom: "48px" },
  maxZoom: 1.1,
  duration: 0,
} as const;
/** Below this zoom the small print cannot be read. */
const FAR = 0.55;
/** How far a wire is pulled out of its endpoint before letting go cuts it, in the canvas's measure. */
const PULL = 60;
const SNAP: [number, number] = [GRID, GRID];

export function Canvas() {
  return (
    <ReactFlowProvider>
      <Flow />
    </ReactFlowProvider>
  );
}

function Flow() {
  const editor = useEditor();
  const structure = useStructure();
  const draining = useFlow((state) => state.draining);
  const selection = useUi((state) => state.selection);
  const snap = useUi((state) => state.snap);
  const graph = useMemo(() => graphOf(structure, draining), [structure, draining]);
  const paths = useRef<WirePaths>(new Map());
  const [nodes, setNodes] = useState<Node[]>(() => graph.nodes.map((each) => nodeFor(each, selection)));
  usePort();
  useDistance();
  const onMoveStart = useRefitting();

  useEffect(() => {
    setNodes((before) => {
      const known = new Map(before.map((each) => [each.id, each]));
      return graph.nodes.map((each) => merged(nodeFor(each, selection), known.get(each.id)));
    });
  }, [graph, selection]);

  const edges = useMemo(() => graph.wires.map((each) => edgeFor(each, selection)), [graph, selection]);

  const onNodesChange = useCallback(
    (changes: NodeChange[]) => {
      select(editor, changes);
      setNodes((before) =>
        applyNodeChanges(
          changes.filter((each) => each.type === "position" || each.type === "dimensions"),
          before,
        ),
      );
    },
    [editor],
  );
  const onEdgesChange = useCallback((changes: EdgeChange[]) => select(editor, changes), [editor]);
  const gestures = useGestures();

  return (
    <PathsContext value={paths.current}>
      <FocusLayer>
        <ReactFlow
          nodes={nodes}
          edges={edges}
          nodeTypes={NODE_TYPES}
          edgeTypes={EDGE_TYPES}
          onNodesChange={onNodesChange}
          onEdgesChange={onEdgesChange}
          onMoveStart={onMoveStart}
          {...gestures}
          fitView
          fitViewOptions={FIT}
          minZoom={0.2}
          maxZoom={2}
          snapToGrid={snap}
          snapGrid={SNAP}
          connectionRadius={70}
          nodesFocusable={false}
          edgesFocusable={false}
          disableKeyboardA11y
          deleteKeyCode={null}
          selectionMode={SelectionMode.Partial}
          selectionKeyCode="Shift"
          multiSelectionKeyCode={["Shift", "Control", "Meta"]}
          panOnScroll={false}
          zoomOnDoubleClick={false}
          nodeDragThreshold={3}
          connectionLineComponent={ConnectionLine}
        >
          <Background variant={BackgroundVariant.Dots} gap={GRID} size={1.4} color="var(--canvas-dot)" />
          <Dots />
          <WirePreview />
        </ReactFlow>
        <ZoomButtons />
      </FocusLayer>
    </PathsContext>
  );
}

function nodeFor(node: GraphNode, selection: ReadonlySet<string>): Node {
  return {
    id: node.id,
    type: node.kind,
    position: node.place,
    data: { node },
    draggable: node.movable,
    selectable: node.kind === "endpoint",
    connectable: node.kind !== "client",
    selected: selection.has(node.id),
    // The cards have their own names and roles.
    ariaRole: "presentation",
    domAttributes: { "aria-roledescription": undefined },
  };
}

/** A node that is being dragged stays under the pointer; measures are kept, so that nothing flickers. */
function merged(fresh: Node, known: Node | undefined): Node {
  if (!known) return fresh;
  const measured = known.measured ? { measured: known.measured } : {};
  return known.dragging
    ? { ...fresh, ...measured, position: known.position, dragging: true }
    : { ...fresh, ...measured };
}

function edgeFor(wire: GraphWire, selection: ReadonlySet<string>): Edge {
  return {
    id: wire.id,
    type: wire.kind,
    source: wire.source,
    target: wire.target,
    selected: selection.has(wire.id),
    selectable: wire.endpointId !== null,
    // A wire is moved by pulling it out at its endpoint: the handle lies above the wire's own end.
    reconnectable: false,
    data: { endpointId: wire.endpointId, draining: wire.kind === "draining" },
    // The label beside it is what can be read and pressed.
    ariaRole: "img",
    ariaLabel: wire.says,
    domAttributes: { "aria-roledescription": undefined },
  };
}

function select(editor: Editor, changes: readonly (NodeChange | EdgeChange)[]): void {
  const selected = changes.filter((each) => each.type === "select");
  if (!selected.length) return;
  const selection = new Set(editor.ui.getState().selection);
  for (const each of selected) {
    if (each.selected) selection.add(each.id);
    else selection.delete(each.id);
  }
  editor.ui.setState({ selection });
}

/** What pointers do, as properties of the canvas. */
function useGestures() {
  const editor = useEditor();
  const flow = useReactFlow();
  return useMemo(() => {
    const submit = (act: Act) => {
      editor.submit(act).catch((error) => editor.complain(error));
    };
    const placeOf = (event: MouseEvent | TouchEvent) => {
      const point = "changedTouches" in event ? (event.changedTouches[0] ?? { clientX: 0, clientY: 0 }) : event;
      return flow.screenToFlowPosition({ x: point.clientX, y: point.clientY });
    };
    const openMenu = (event: React.MouseEvent | MouseEvent, target: string | null) => {
      event.preventDefault();
      const at = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY });
      editor.ui.setState({ menu: { x: event.clientX, y: event.clientY, target, at } });
    };
    return {
      onConnect: ({ target }: Connection) => {
        const id = endpointIdOf(target);
        if (id !== null) submit(connect([id], true));
      },
      isValidConnection: ({ source, target }: Edge | Connection) =>
        source === "incoming" && endpointIdOf(target) !== null,
      onConnectEnd: (event: MouseEvent | TouchEvent, state: FinalConnectionState) => {
        if (state.isValid || !state.fromNode) return;
        const [from, to] = [state.fromNode.id, state.toNode?.id ?? nodeUnder(event)];
        const [plug, endpoint] = [pluggedId(editor, from), endpointIdOf(to)];
        // Dropping on the card is meant like dropping on its handle.
        if (from === "incoming" && endpoint !== null) submit(connect([endpoint], true));
        else if (plug === null && to === "incoming") submit(connect([endpointIdOf(from) ?? 0], true));
        else if (plug !== null && endpoint !== null && endpoint !== plug) submit(replugged(plug, endpoint));
        else if (plug !== null && !to && pulledFar(state)) submit(connect([plug], false));
        else if (from === "incoming" && !to) {
          const at = placeOf(event);
          const place = { x: at.x, y: at.y - ENDPOINT_SIZE.height / 2 };
          editor.ui.setState({ dialog: { kind: "add", connect: true, at: place } });
        }
      },
      onNodeDragStop: (_: unknown, __: Node, moved: Node[]) => {
        const places: Places = {};
        for (const each of moved) places[each.id] = each.position;
        if (moved.length) editor.move(places);
      },
      onNodeClick: (_: unknown, node: Node) => editor.ui.setState({ cursor: node.id }),
      onNodeDoubleClick: (_: unknown, node: Node) => {
        if (endpointIdOf(node.id) !== null) editor.ui.setState({ inspecting: true });
      },
      onPaneClick: () => editor.ui.setState({ menu: null, wiringFrom: null, preview: null }),
      onNodeContextMenu: (event: React.MouseEvent, node: Node) => openMenu(event, node.id),
      onEdgeContextMenu: (event: React.MouseEvent, edge: Edge) => openMenu(event, edge.id),
      onPaneContextMenu: (event: React.MouseEvent | MouseEvent) => openMenu(event, null),
    };
  }, [editor, flow]);
}

/** The endpoint whose wire is pulled out when a drag begins at this node; null when none is in it. */
function pluggedId(editor: Editor, node: string): number | null {
  const id = endpointIdOf(node);
  return editor.structure.endpoints.some((each) => each.id === id && each.connected) ? id : null;
}

function replugged(from: number, to: number): Act {
  return {
    kind: "change",
    updates: [
      { id: from, fields: { connected: false } },
      { id: to, fields: { connected: true } },
    ],
  };
}

/** Far enough to be meant. */
function pulledFar({ from, to }: FinalConnectionState): boolean {
  return from !== null && to !== null && Math.hypot(to.x - from.x, to.y - from.y) > PULL;
}

function nodeUnder(event: MouseEvent | TouchEvent): string | null {
  const point = "changedTouches" in event ? event.changedTouches[0] : event;
  if (!point) return null;
  const element = document.elementFromPoint(point.clientX, point.clientY);
  return element?.closest<HTMLElement>(".react-flow__node")?.dataset.id ?? null;
}

/** While a wire is drawn over an endpoint, what it would do is shown. */
function WirePreview() {
  const editor = useEditor();
  const over = useConnection((state) => (state.inProgress ? endpointIdOf(state.toNode?.id) : null));
  useEffect(() => {
    if (over === null) return;
    const endpoint = editor.structure.endpoints.find((each) => each.id === over);
    if (endpoint && !endpoint.connected) editor.ui.setState({ preview: connect([over], true) });
    return () => editor.ui.setState({ preview: null });
  }, [editor, over]);
  return null;
}

/** From afar the cards say less, and larger. */
function useDistance(): void {
  const flow = useReactFlow();
  const tell = useCallback(({ zoom }: { zoom: number }) => {
    const canvas = document.querySelector<HTMLElement>("[data-canvas]");
    if (canvas) canvas.dataset.far = String(zoom < FAR);
  }, []);
  useOnViewportChange({ onChange: tell });
  useEffect(() => tell(flow.getViewport()), [flow, tell]);
}

/** What shows everything goes on to, when a panel opens beside it; a view the operator chose is left alone. */
function useRefitting(): (event: MouseEvent | TouchEvent | null) => void {
  const flow = useReactFlow();
  const chosen = useRef(false);
  useEffect(() => {
    const canvas = document.querySelector("[data-canvas]");
    if (!canvas) return;
    const observer = new ResizeObserver(() => {
      if (!chosen.current) void flow.fitView(FIT);
    });
    observer.observe(canvas);
    const refit = canvasPort.subscribe(({ fitted }, before) => {
      if (fitted !== before.fitted) chosen.current = false;
    });
    return () => {
      observer.disconnect();
      refit();
    };
  }, [flow]);
  return useCallback((event) => {
    // Without an event it was moved by us.
    if (event) chosen.current = true;
  }, []);
}

/** Lets actions move the view. */
function usePort(): void {
  const flow = useReactFlow();
  useEffect(() => {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const duration = still ? 0 : 200;
    canvasPort.setState({
      port: {
        fit: () => {
          canvasPort.setState(({ fitted }) => ({ fitted: fitted + 1 }));
          void flow.fitView({ ...FIT, duration });
        },
        zoomIn: () => void flow.zoomIn({ duration }),
        zoomOut: () => void flow.zoomOut({ duration }),
        show: (id) => void flow.fitView({ nodes: [{ id }], maxZoom: 1, minZoom: flow.getZoom(), duration }),
        centre: () => flow.screenToFlowPosition({ x: innerWidth / 2, y: innerHeight / 2 }),
      },
    });
    return () => canvasPort.setState({ port: null });
  }, [flow]);
}
