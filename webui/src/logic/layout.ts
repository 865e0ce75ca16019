// Places on the canvas: the tidy star, the next node in a direction, free room for a new one.

import type { EndpointConfig, Structure } from "./structure";

export interface Place {
  x: number;
  y: number;
}

/** Places by node id: "incoming", "endpoint-7", "client-3". */
export type Places = Record<string, Place>;

export const GRID = 20;
export const ENDPOINT_SIZE = { width: 260, height: 140 };
export const INCOMING_SIZE = { width: 180, height: 100 };
export const CLIENT_SIZE = { width: 180, height: 60 };
export const GAP = 20;
const COLUMN_GAP = 60;
const WIRE_ROOM = 320;

/** Clients at the left, Incoming in the middle, endpoints at the right in columns of at most `perColumn`, centred. */
export function tidy(structure: Structure, perColumn = 8): Places {
  const places: Places = {};
  const rank = (each: EndpointConfig) => (structure.mode === "priority" ? each.priority_order : 0);
  const endpoints = [...structure.endpoints].sort(
    (one, other) => Number(other.connected) - Number(one.connected) || rank(one) - rank(other) || one.id - other.id,
  );
  const rows = Math.min(perColumn, Math.max(1, endpoints.length));
  const height = rows * (ENDPOINT_SIZE.height + GAP) - GAP;
  const left = CLIENT_SIZE.width + WIRE_ROOM / 2;
  const right = left + INCOMING_SIZE.width + WIRE_ROOM;
  places.incoming = snapped({ x: left, y: (height - INCOMING_SIZE.height) / 2 });
  endpoints.forEach((each, place) => {
    const column = Math.floor(place / perColumn);
    const inColumn = Math.min(perColumn, endpoints.length - column * perColumn);
    const top = (height - (inColumn * (ENDPOINT_SIZE.height + GAP) - GAP)) / 2;
    places[`endpoint-${each.id}`] = snapped({
      x: right + column * (ENDPOINT_SIZE.width + COLUMN_GAP),
      y: top + (place % perColumn) * (ENDPOINT_SIZE.height + GAP),
    });
  });
  const movable = structure.clients.filter((each) => each.id !== null);
  const clientsTop = (height - (structure.clients.length * (CLIENT_SIZE.height + GAP) - GAP)) / 2;
  movable.forEach((each, place) => {
    places[`client-${each.key}`] = snapped({ x: 0, y: clientsTop + place * (CLIENT_SIZE.height + GAP) });
  });
  return places;
}

export function snapped(place: Place): Place {
  return { x: Math.round(place.x / GRID) * GRID, y: Math.round(place.y / GRID) * GRID };
}

/** Where tokens of the environment stand: below Incoming's left, as they have no place of their own. */
export function placeOfEnvironmentClient(structure: Structure, index: number): Place {
  const below = structure.clients.filter((each) => each.id !== null).length;
  return {
    x: structure.incoming.x - CLIENT_SIZE.width - WIRE_ROOM / 2,
    y: structure.incoming.y + (below + index) * (CLIENT_SIZE.height + GAP),
  };
}

/** Where endpoints are shown, by id. Those that were given no place all have the same one: they stand below each other,
 *  past those that have their own, until somebody moves them. */
export function shownPlaces(endpoints: readonly EndpointConfig[]): Map<number, Place> {
  const shown = new Map<number, Place>();
  const own = new Set(endpoints.map((each) => `${each.pos_x} ${each.pos_y}`));
  const taken = new Set<string>();
  for (const { id, pos_x: x, pos_y } of endpoints) {
    let y = pos_y;
    const free = () => !taken.has(`${x} ${y}`) && (y === pos_y || !own.has(`${x} ${y}`));
    while (!free()) y += ENDPOINT_SIZE.height + GAP;
    taken.add(`${x} ${y}`);
    shown.set(id, { x, y });
  }
  return shown;
}

/** A free place for a new endpoint: below the lowest in the column of the others, and not on Incoming. */
export function freePlace(structure: Structure): Place {
  const { endpoints, incoming } = structure;
  if (!endpoints.length) return snapped({ x: incoming.x + INCOMING_SIZE.width + WIRE_ROOM, y: incoming.y });
  const last = [...shownPlaces(endpoints).values()].reduce((lowest, each) => (each.y > lowest.y ? each : lowest));
  const below = snapped({ x: last.x, y: last.y + ENDPOINT_SIZE.height + GAP });
  const beside = below.x >= incoming.x + INCOMING_SIZE.width || below.x + ENDPOINT_SIZE.width <= incoming.x;
  const apart = below.y >= incoming.y + INCOMING_SIZE.height || below.y + ENDPOINT_SIZE.height <= incoming.y;
  return beside || apart ? below : snapped({ x: below.x, y: incoming.y + INCOMING_SIZE.height + GAP });
}

export type Direction = "left" | "right" | "up" | "down";

/** The nearest node in a direction; sideways distance counts twice. Null: nobody there. */
export function nearest(from: Place, others: ReadonlyMap<string, Place>, direction: Direction): string | null {
  let best: string | null = null;
  let bestScore = Infinity;
  for (const [id, to] of others) {
    const along = distanceAlong(from, to, direction);
    if (along <= 0) continue;
    const across = direction === "left" || direction === "right" ? Math.abs(to.y - from.y) : Math.abs(to.x - from.x);
    const score = along + 2 * across;
    if (score < bestScore) [best, bestScore] = [id, score];
  }
  return best;
}

function distanceAlong(from: Place, to: Place, direction: Direction): number {
  switch (direction) {
    case "left":
      return from.x - to.x;
    case "right":
      return to.x - from.x;
    case "up":
      return from.y - to.y;
    case "down":
      return to.y - from.y;
  }
}
