// The structure as a graph: which nodes, which wires, where. The ids are those of the whole editor.

import { CLIENT_SIZE, INCOMING_SIZE, type Place, placeOfEnvironmentClient, shownPlaces } from "./layout";
import type { ClientConfig, EndpointConfig, Structure } from "./structure";

export type GraphNode =
  | { id: "incoming"; kind: "incoming"; place: Place; movable: true }
  | { id: string; kind: "endpoint"; place: Place; movable: true; endpoint: EndpointConfig }
  | { id: string; kind: "client"; place: Place; movable: boolean; client: ClientConfig | null };

export interface GraphWire {
  id: string;
  kind: "wire" | "draining" | "client";
  source: string;
  target: string;
  endpointId: number | null;
  /** In words, for whoever cannot see it. */
  says: string;
}

export interface Graph {
  nodes: GraphNode[];
  wires: GraphWire[];
}

/** The client without a name: nobody needs a token yet. */
export const ANYONE = "client-anyone";

export function graphOf(structure: Structure, draining: readonly number[]): Graph {
  const clients = clientNodes(structure);
  const nodes: GraphNode[] = [
    ...clients,
    { id: "incoming", kind: "incoming", place: structure.incoming, movable: true },
    ...endpointNodes(structure),
  ];
  const wires: GraphWire[] = clients.map((node) => ({
    id: `from-${node.id}`,
    kind: "client",
    source: node.id,
    target: "incoming",
    endpointId: null,
    says: `${(node.kind === "client" && node.client?.name) || "Anyone"} sends to Incoming`,
  }));
  for (const { id, name, connected } of structure.endpoints) {
    if (!connected && !draining.includes(id)) continue;
    wires.push({
      id: wireOf(id),
      kind: connected ? "wire" : "draining",
      source: "incoming",
      target: nodeOf(id),
      endpointId: id,
      says: connected ? `Wire from Incoming to ${name}` : `${name} is draining`,
    });
  }
  return { nodes, wires };
}

function endpointNodes(structure: Structure): GraphNode[] {
  const places = shownPlaces(structure.endpoints);
  return structure.endpoints.map((endpoint) => {
    const place = places.get(endpoint.id) ?? { x: endpoint.pos_x, y: endpoint.pos_y };
    return { id: nodeOf(endpoint.id), kind: "endpoint", place, movable: true, endpoint };
  });
}

function clientNodes(structure: Structure): GraphNode[] {
  if (!structure.clients.length) {
    const place = {
      x: structure.incoming.x - CLIENT_SIZE.width - 160,
      y: structure.incoming.y + (INCOMING_SIZE.height - CLIENT_SIZE.height) / 2,
    };
    return [{ id: ANYONE, kind: "client", place, movable: false, client: null }];
  }
  let environment = 0;
  return structure.clients.map((client) => {
    const movable = client.id !== null;
    const place = movable ? { x: client.x, y: client.y } : placeOfEnvironmentClient(structure, environment++);
    return { id: `client-${client.key}`, kind: "client", place, movable, client };
  });
}

export function nodeOf(endpointId: number): string {
  return `endpoint-${endpointId}`;
}

export function wireOf(endpointId: number): string {
  return `wire-${endpointId}`;
}

/** The endpoint a node or a wire belongs to; null for the others. */
export function endpointIdOf(id: string | null | undefined): number | null {
  const match = /^(?:endpoint|wire)-(\d+)$/.exec(id ?? "");
  return match ? Number(match[1]) : null;
}
