// The live numbers, apart from the graph: a tick changes this store and nothing else.

import { createStore } from "zustand/vanilla";
import type { EndpointNumbers } from "../api/types";
import type { Numbers } from "../logic/structure";

/** Points of a sparkline: one a tick. */
export const SPARK_POINTS = 60;
const CLIENT_WINDOW_TICKS = 30;

export interface NumbersState {
  numbers: Numbers;
  /** When the newest came, in milliseconds of Date.now(); 0: never. */
  at: number;
  /** Tokens per second of the last ticks, oldest first. */
  sparks: ReadonlyMap<number, readonly number[]>;
  /** Tokens per second by client key. */
  clientRates: ReadonlyMap<string, number>;
  /** Shown numbers stand still; the state goes on. */
  frozen: boolean;
}

export const NO_NUMBERS: Numbers = {
  endpoints: new Map(),
  clients: new Map(),
  totals: {
    tokens_per_second: 0,
    requests_per_second: 0,
    total_inflight: 0,
    overheadSeconds: null,
    queueDepth: 0,
    queueSize: 0,
    retriesRefused: 0,
  },
  version: "",
};

export type NumbersStore = ReturnType<typeof createNumbersStore>;

export function createNumbersStore() {
  return createStore<NumbersState>(() => ({
    numbers: NO_NUMBERS,
    at: 0,
    sparks: new Map(),
    clientRates: new Map(),
    frozen: false,
  }));
}

interface ClientTick {
  at: number;
  tokens: ReadonlyMap<string, number>;
}

/** Puts ticks into the store; remembers what rates are made of. */
export class Ticker {
  private readonly store: NumbersStore;
  private readonly ticks: ClientTick[] = [];

  constructor(store: NumbersStore) {
    this.store = store;
  }

  take(numbers: Numbers, now: number): void {
    const { sparks, frozen } = this.store.getState();
    if (frozen) return;
    this.store.setState({
      numbers,
      at: now,
      sparks: extended(sparks, numbers.endpoints),
      clientRates: this.clientRates(numbers, now),
    });
  }

  private clientRates(numbers: Numbers, now: number): ReadonlyMap<string, number> {
    const tokens = new Map([...numbers.clients].map(([key, each]) => [key, each.tokens]));
    this.ticks.push({ at: now, tokens });
    if (this.ticks.length > CLIENT_WINDOW_TICKS) this.ticks.shift();
    const oldest = this.ticks[0];
    const seconds = oldest ? (now - oldest.at) / 1000 : 0;
    return new Map(
      [...tokens].map(([key, total]) => {
        const grown = total - (oldest?.tokens.get(key) ?? total);
        return [key, seconds > 0 ? Math.max(0, grown / seconds) : 0];
      }),
    );
  }
}

function extended(
  sparks: ReadonlyMap<number, readonly number[]>,
  endpoints: ReadonlyMap<number, EndpointNumbers>,
): ReadonlyMap<number, readonly number[]> {
  return new Map(
    [...endpoints].map(([id, each]) => {
      const points = [...(sparks.get(id) ?? []), each.tokens_per_second];
      return [id, points.length > SPARK_POINTS ? points.slice(-SPARK_POINTS) : points];
    }),
  );
}
