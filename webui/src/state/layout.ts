// Where things stand on the canvas: shown at once, saved together after a pause, and the last one wins. No revision.

import { type AdminClient, ApiProblem } from "../api/client";
import type { Place, Places } from "../logic/layout";
import { type createFlowStore, setMoves } from "./flow";

const PAUSE_MILLISECONDS = 500;

interface Means {
  client: AdminClient;
  flow: ReturnType<typeof createFlowStore>;
  /** Looks how things are; raises what goes wrong. */
  refresh: () => Promise<void>;
  complain: (text: string) => void;
}

export class Layout {
  private readonly means: Means;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private underWay = 0;

  constructor(means: Means) {
    this.means = means;
  }

  private get moves(): Places {
    return this.means.flow.getState().moves;
  }

  place(places: Places): void {
    setMoves(this.means.flow, { ...this.moves, ...places });
    this.saveIn(PAUSE_MILLISECONDS);
  }

  /** One after the other: a save that is slow must not arrive behind the next one. */
  private saveIn(milliseconds: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (this.underWay) this.saveIn(PAUSE_MILLISECONDS);
      else void this.save();
    }, milliseconds);
  }

  /** Where they are; without those that are not there. */
  placesOf(ids: string[]): Places {
    const { view } = this.means.flow.getState();
    if (!view) return {};
    const places: Places = { incoming: view.incoming };
    for (const each of view.endpoints) places[`endpoint-${each.id}`] = { x: each.pos_x, y: each.pos_y };
    for (const each of view.clients) places[`client-${each.key}`] = { x: each.x, y: each.y };
    return Object.fromEntries(ids.flatMap((id) => (places[id] ? [[id, places[id] as Place]] : [])));
  }

  /** At once, for instance because the page is being left. */
  async save(): Promise<void> {
    clearTimeout(this.timer);
    const { client, flow, refresh, complain } = this.means;
    const moves = this.moves;
    if (!Object.keys(moves).length) return;
    this.underWay += 1;
    try {
      await client.send({ method: "PATCH", path: "/layout", body: bodyOf(moves), keepalive: true });
      await refresh();
      const left = Object.entries(this.moves).filter(([id, place]) => moves[id] !== place);
      setMoves(flow, Object.fromEntries(left));
    } catch (error) {
      if (error instanceof ApiProblem && error.unreachable) {
        this.saveIn(4 * PAUSE_MILLISECONDS);
      } else if (error instanceof ApiProblem && error.status === 404 && (await this.forgetGone())) {
        await this.save();
      } else if (error instanceof ApiProblem && error.status !== 401) {
        setMoves(flow, {});
        complain(`The layout was not saved: ${error.message}`);
      }
    } finally {
      this.underWay -= 1;
    }
  }

  /** Moves of what somebody deleted meanwhile must not hold up the others. Whether there were any. */
  private async forgetGone(): Promise<boolean> {
    await this.means.refresh().catch(() => undefined);
    const moves = this.moves;
    const left = Object.entries(this.placesOf(Object.keys(moves)));
    setMoves(this.means.flow, Object.fromEntries(left));
    return left.length < Object.keys(moves).length;
  }
}

function bodyOf(moves: Places): object {
  const of = (prefix: string) =>
    Object.fromEntries(
      Object.entries(moves).flatMap(([id, place]) => {
        const match = new RegExp(`^${prefix}-(\\d+)$`).exec(id);
        return match ? [[match[1], place]] : [];
      }),
    );
  return {
    endpoints: of("endpoint"),
    tokens: of("client"),
    ...(moves.incoming ? { incoming: moves.incoming } : {}),
  };
}
