// The live numbers, apart from the graph: a tick changes this store and nothing else.

import { createStore } from "zustand/vanilla";
import type { Numbers } from "../logic/structure";

/** Points of a sparkline: one a tick. */
export const SPARK_POINTS = 90;
const SPARK_WINDOW_TICKS = 6;

export interface NumbersState {
  numbers: Numbers;
  /** When the newest came, in milliseconds of Date.now(); 0: never. */
  at: number;
  /** Tokens per second of the last ticks, oldest first. */
  sparks: ReadonlyMap<number, readonly number[]>;
  /** Shown numbers stand still; the state goes on. */
  frozen: boolean;
}

export const NO_NUMBERS: Numbers = {
  endpoints: new Map(),
  clients: new Map(),
  totals: {
    tokens_per_second: 0,
    requests_per_second: 0,
    ttfb_median_seconds: null,
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
    frozen: false,
  }));
}

/** Totals at one moment: rates over any window are the difference of two. */
interface Tick {
  at: number;
  endpoints: ReadonlyMap<number, number>;
}

/** Puts ticks into the store; remembers what rates are made of. */
export class Ticker {
  private readonly store: NumbersStore;
  private readonly ticks: Tick[] = [];

  constructor(store: NumbersStore) {
    this.store = store;
  }

  take(numbers: Numbers, now: number): void {
    const { sparks, frozen } = this.store.getState();
    if (frozen) return;
    const tick = tickOf(numbers, now);
    // Two answers within a moment, for instance after an act: too short a time to make a rate of.
    const newest = this.ticks.at(-1);
    if (!newest || now - newest.at > 500) this.ticks.push(tick);
    if (this.ticks.length > SPARK_WINDOW_TICKS) this.ticks.shift();
    const recent = this.ticks[0];
    this.store.setState({
      numbers,
      at: now,
      sparks: extended(sparks, rates(recent?.endpoints, tick.endpoints, now - (recent?.at ?? now))),
    });
  }
}

function tickOf(numbers: Numbers, at: number): Tick {
  return {
    at,
    endpoints: new Map(
      [...numbers.endpoints].map(([id, each]) => [id, each.prompt_tokens_total + each.completion_tokens_total]),
    ),
  };
}

/** Per second. What began again at zero did not go backwards. */
function rates(
  before: ReadonlyMap<number, number> | undefined,
  after: ReadonlyMap<number, number>,
  milliseconds: number,
): ReadonlyMap<number, number> {
  return new Map(
    [...after].map(([key, total]) => {
      const grown = total - (before?.get(key) ?? total);
      return [key, milliseconds > 0 ? Math.max(0, (1000 * grown) / milliseconds) : 0];
    }),
  );
}

function extended(
  sparks: ReadonlyMap<number, readonly number[]>,
  newest: ReadonlyMap<number, number>,
): ReadonlyMap<number, readonly number[]> {
  return new Map(
    [...newest].map(([id, value]) => {
      const points = [...(sparks.get(id) ?? []), value];
      return [id, points.length > SPARK_POINTS ? points.slice(-SPARK_POINTS) : points];
    }),
  );
}
