// The structure as this operator sees it: what the server holds, with the acts and moves on top that are being saved.

import { createStore } from "zustand/vanilla";
import { type Act, applied } from "../logic/acts";
import type { Place, Places } from "../logic/layout";
import { type Numbers, type Structure, sameStructure } from "../logic/structure";

/** "waiting": for the balancer to be reached again, or the operator to log in. */
export type Saving = "saved" | "saving" | "waiting" | "failed";

export interface FlowState {
  /** Null until the first state arrives. */
  server: Structure | null;
  view: Structure | null;
  pending: readonly Act[];
  /** Places this operator gave that the server does not have yet. */
  moves: Places;
  saving: Saving;
  /** Not connected any more, but with requests in flight: shown as ghost wires. */
  draining: readonly number[];
}

export type FlowStore = ReturnType<typeof createFlowStore>;

export function createFlowStore() {
  return createStore<FlowState>(() => ({
    server: null,
    view: null,
    pending: [],
    moves: {},
    saving: "saved",
    draining: [],
  }));
}

/** Take over what the server says; the view keeps its identity when nothing of it changed. */
export function takeServer(store: FlowStore, server: Structure, numbers: Numbers, evenOlder = false): void {
  const before = store.getState();
  // An answer that was overtaken on the way must not bring back what was.
  if (!evenOlder && before.server && server.revision < before.server.revision) return;
  const draining = server.endpoints
    .filter((each) => !each.connected && (numbers.endpoints.get(each.id)?.inflight ?? 0) > 0)
    .map((each) => each.id);
  const sameDraining = draining.join() === before.draining.join();
  if (before.server && sameStructure(before.server, server)) {
    if (!sameDraining) store.setState({ draining });
    return;
  }
  store.setState({
    server,
    view: viewOf(server, before.pending, before.moves),
    ...(sameDraining ? {} : { draining }),
  });
}

export function setPending(store: FlowStore, pending: readonly Act[]): void {
  const { server, moves } = store.getState();
  store.setState({ pending, view: server && viewOf(server, pending, moves) });
}

export function setMoves(store: FlowStore, moves: Places): void {
  const { server, pending } = store.getState();
  store.setState({ moves, view: server && viewOf(server, pending, moves) });
}

function viewOf(server: Structure, pending: readonly Act[], moves: Places): Structure {
  const acted = pending.reduce((structure, act) => applied(act, structure), server);
  if (!Object.keys(moves).length) return acted;
  return {
    ...acted,
    incoming: moves.incoming ?? acted.incoming,
    endpoints: acted.endpoints.map((each) => {
      const place = moves[`endpoint-${each.id}`];
      return place ? { ...each, pos_x: place.x, pos_y: place.y } : each;
    }),
    clients: acted.clients.map((each) => {
      const place: Place | undefined = moves[`client-${each.key}`];
      return place ? { ...each, ...place } : each;
    }),
  };
}
