// What the server says and what the operator sees: the structure with acts and moves on top, and the live numbers.

import { describe, expect, test } from "vitest";
import type { EndpointView, State } from "../src/api/types";
import { connect } from "../src/logic/acts";
import { numbersOf, type Structure, structureOf } from "../src/logic/structure";
import { createFlowStore, setMoves, setPending, takeServer } from "../src/state/flow";
import { createNumbersStore, SPARK_POINTS, Ticker } from "../src/state/numbers";
import { endpoint, state, token } from "./made";

function take(store: ReturnType<typeof createFlowStore>, given: State) {
  takeServer(store, structureOf(given), numbersOf(given));
}
const viewOf = (store: ReturnType<typeof createFlowStore>) => store.getState().view as Structure;

describe("the flow store", () => {
  test("a tick that changes numbers only does not touch the view", () => {
    const store = createFlowStore();
    take(store, state([endpoint(1)]));
    const before = viewOf(store);
    let told = 0;
    store.subscribe(() => {
      told += 1;
    });
    take(store, state([endpoint(1, { tokens_per_second: 900, inflight: 3, total_requests: 9 })]));
    expect(viewOf(store)).toBe(before);
    expect(told).toBe(0);
  });

  test("an answer that was overtaken does not bring back what was", () => {
    const store = createFlowStore();
    take(store, state([endpoint(1, { weight: 2 })], { revision: 5 }));
    take(store, state([endpoint(1, { weight: 1 })], { revision: 4 }));
    expect(viewOf(store).endpoints[0]?.weight).toBe(2);
  });

  test("pending acts and moves lie on top of whatever the server says", () => {
    const store = createFlowStore();
    take(store, state([endpoint(1, { connected: false }), endpoint(2)], { client_tokens: [token(3)] }));
    setPending(store, [connect([1], true)]);
    setMoves(store, { "endpoint-2": { x: 7, y: 8 }, incoming: { x: 1, y: 2 }, "client-3": { x: 5, y: 6 } });
    expect(viewOf(store).endpoints[0]?.connected).toBe(true);
    take(store, state([endpoint(1, { connected: false, weight: 4 }), endpoint(2)], { revision: 2 }));
    expect(viewOf(store)).toMatchObject({
      endpoints: [
        { connected: true, weight: 4 },
        { pos_x: 7, pos_y: 8 },
      ],
      incoming: { x: 1, y: 2 },
    });
    setPending(store, []);
    setMoves(store, {});
    expect(viewOf(store).endpoints[0]?.connected).toBe(false);
    expect(viewOf(store).endpoints[1]?.pos_x).toBe(600);
  });

  test("moves of what is gone do no harm", () => {
    const store = createFlowStore();
    take(store, state([endpoint(1)]));
    setMoves(store, { "endpoint-9": { x: 0, y: 0 } });
    expect(viewOf(store).endpoints).toHaveLength(1);
  });

  test("what is cut and still has work is draining, until it has none", () => {
    const store = createFlowStore();
    take(store, state([endpoint(1, { connected: false, inflight: 2 }), endpoint(2, { inflight: 2 })]));
    expect(store.getState().draining).toEqual([1]);
    const { draining } = store.getState();
    take(store, state([endpoint(1, { connected: false, inflight: 1 }), endpoint(2)]));
    expect(store.getState().draining).toBe(draining);
    take(store, state([endpoint(1, { connected: false }), endpoint(2)]));
    expect(store.getState().draining).toEqual([]);
  });

  test("before the first state there is no view", () => {
    const store = createFlowStore();
    setPending(store, [connect([1], true)]);
    setMoves(store, { incoming: { x: 1, y: 1 } });
    expect(store.getState().view).toBe(null);
  });
});

describe("the numbers store", () => {
  const tick = (tokens: number, given: Partial<EndpointView> = {}) =>
    numbersOf(
      state([endpoint(1, { completion_tokens_total: tokens, prompt_tokens_total: tokens, ...given })], {
        client_tokens: [token(4, { completion_tokens_total: tokens })],
      }),
    );

  test("sparklines show the rate of the last ticks", () => {
    const store = createNumbersStore();
    const ticker = new Ticker(store);
    for (let second = 0; second <= 40; second += 1) ticker.take(tick(100 * second), 1000 * second);
    expect(store.getState().sparks.get(1)?.at(-1)).toBeCloseTo(200);
    expect(store.getState().at).toBe(40_000);
  });

  test("they are of bounded length", () => {
    const store = createNumbersStore();
    const ticker = new Ticker(store);
    for (let second = 0; second < 300; second += 1) ticker.take(tick(second), 1000 * second);
    expect(store.getState().sparks.get(1)).toHaveLength(SPARK_POINTS);
  });

  test("counting that began again is no traffic backwards, a new endpoint no peak", () => {
    const store = createNumbersStore();
    const ticker = new Ticker(store);
    ticker.take(tick(5000), 0);
    ticker.take(tick(0), 1000);
    expect(store.getState().sparks.get(1)?.at(-1)).toBe(0);
    ticker.take(numbersOf(state([endpoint(1), endpoint(2, { completion_tokens_total: 1e9 })])), 2000);
    expect(store.getState().sparks.get(2)).toEqual([0]);
  });

  test("two answers within a moment make no absurd rate", () => {
    const store = createNumbersStore();
    const ticker = new Ticker(store);
    ticker.take(tick(0), 0);
    ticker.take(tick(0), 1000);
    ticker.take(tick(10), 1001);
    expect(store.getState().sparks.get(1)?.at(-1)).toBeLessThan(30);
    expect([...(store.getState().sparks.get(1) ?? [])].every(Number.isFinite)).toBe(true);
  });

  test("what is deleted is forgotten", () => {
    const store = createNumbersStore();
    const ticker = new Ticker(store);
    ticker.take(tick(1), 0);
    ticker.take(numbersOf(state([])), 1000);
    expect([...store.getState().sparks.keys()]).toEqual([]);
    expect([...store.getState().numbers.endpoints.keys()]).toEqual([]);
  });

  test("paused numbers stand still and go on without a jump", () => {
    const store = createNumbersStore();
    const ticker = new Ticker(store);
    ticker.take(tick(10, { inflight: 1 }), 0);
    store.setState({ frozen: true });
    ticker.take(tick(20, { inflight: 2 }), 1000);
    expect(store.getState().numbers.endpoints.get(1)?.inflight).toBe(1);
    store.setState({ frozen: false });
    ticker.take(tick(30, { inflight: 3 }), 2000);
    expect(store.getState().numbers.endpoints.get(1)?.inflight).toBe(3);
    expect(store.getState().sparks.get(1)?.at(-1)).toBeCloseTo(20);
  });
});
