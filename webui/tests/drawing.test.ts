// Everything the canvas is drawn from: graph, places, wires, curves, badges.

import { describe, expect, test } from "vitest";
import type { EndpointNumbers } from "../src/api/types";
import { along, curveOf } from "../src/logic/curve";
import { endpointIdOf, graphOf } from "../src/logic/graph";
import {
  CLIENT_SIZE,
  ENDPOINT_SIZE,
  freePlace,
  GRID,
  INCOMING_SIZE,
  nearest,
  type Place,
  snapped,
  tidy,
} from "../src/logic/layout";
import { MODES, modeOf } from "../src/logic/modes";
import { spoken, statusOf } from "../src/logic/status";
import type { Structure } from "../src/logic/structure";
import { dotsOf, errorPart, labelOf, MOST_DOTS, travelSeconds, widthOf } from "../src/logic/wires";
import { selectedEndpoints } from "../src/state/ui";
import { config, endpoint, generator, NUMBERS, structure, token } from "./made";

const SIZES = { endpoint: ENDPOINT_SIZE, incoming: INCOMING_SIZE, client: CLIENT_SIZE };

function overlaps(of: Structure): string[] {
  const boxes = graphOf(of, []).nodes.map(({ id, kind, place }) => ({ id, ...place, ...SIZES[kind] }));
  return boxes.flatMap((one, at) =>
    boxes
      .slice(at + 1)
      .filter(
        (other) =>
          one.x < other.x + other.width &&
          other.x < one.x + one.width &&
          one.y < other.y + other.height &&
          other.y < one.y + one.height,
      )
      .map((other) => `${one.id} and ${other.id}`),
  );
}

/** The structure after its nodes were put there. */
function placed(of: Structure, places: Record<string, Place>): Structure {
  return {
    ...of,
    incoming: places.incoming ?? of.incoming,
    endpoints: of.endpoints.map((each) => {
      const { x, y } = places[`endpoint-${each.id}`] ?? { x: each.pos_x, y: each.pos_y };
      return { ...each, pos_x: x, pos_y: y };
    }),
    clients: of.clients.map((each) => ({ ...each, ...places[`client-${each.key}`] })),
  };
}

describe("tidy", () => {
  test.each(Array.from({ length: 61 }, (_, count) => count))("no overlaps with %i endpoints", (count) => {
    const random = generator(count);
    const endpoints = Array.from({ length: count }, (_, place) =>
      endpoint(place + 1, { connected: random.next() < 0.6, priority_order: random.whole(1, 9) }),
    );
    const clients = Array.from({ length: count % 7 }, (_, place) => token(place + 1));
    const environment = Array.from({ length: count % 3 }, (_, place) => token(null, { name: `env-${place}` }));
    const made = structure(endpoints, { client_tokens: clients, environment_tokens: environment });
    const places = tidy(made);
    expect(Object.keys(places)).toHaveLength(count + clients.length + 1);
    expect(Object.values(places).every(({ x, y }) => x % GRID === 0 && y % GRID === 0)).toBe(true);
    expect(overlaps(placed(made, places))).toEqual([]);
  });

  test("clients at the left, endpoints at the right, receivers first, then by rank", () => {
    const made = structure(
      [endpoint(1, { connected: false }), endpoint(2, { priority_order: 9 }), endpoint(3, { priority_order: 1 })],
      { client_tokens: [token(4)], routing_mode: "priority" },
    );
    const places = tidy(made);
    expect(places["client-4"]?.x).toBeLessThan(places.incoming?.x ?? 0);
    expect(places.incoming?.x).toBeLessThan(places["endpoint-3"]?.x ?? 0);
    const order = [3, 2, 1].map((id) => places[`endpoint-${id}`]?.y ?? 0);
    expect(order).toEqual([...order].sort((one, other) => one - other));
  });

  test("is the same when done again", () => {
    const made = structure([endpoint(1), endpoint(2)]);
    expect(tidy(placed(made, tidy(made)))).toEqual(tidy(made));
  });
});

describe("a place for a new one", () => {
  test("is free, over and over", () => {
    let made = structure([], { incoming_pos: { x: 330, y: 70 } });
    for (let id = 1; id < 12; id += 1) {
      const { x, y } = freePlace(made);
      made = { ...made, endpoints: [...made.endpoints, { ...config(), id, pos_x: x, pos_y: y }] };
      expect(overlaps(made)).toEqual([]);
    }
  });

  test("is below those that were given none, where they are shown", () => {
    const made = structure([1, 2, 3].map((id) => endpoint(id, { pos_x: 500, pos_y: 200 })));
    expect(freePlace(made)).toEqual({ x: 500, y: 680 });
  });

  test("is free beside what stands anywhere", () => {
    for (let seed = 0; seed < 100; seed += 1) {
      const random = generator(seed);
      const endpoints = Array.from({ length: random.whole(1, 6) }, (_, place) =>
        endpoint(place + 1, { pos_x: random.whole(-500, 500), pos_y: random.whole(-500, 500) }),
      );
      const made = structure(endpoints, { incoming_pos: { x: random.whole(-300, 300), y: random.whole(-300, 900) } });
      const place = freePlace(made);
      const then = { ...made, endpoints: [...made.endpoints, { ...config(), id: 99, pos_x: place.x, pos_y: place.y }] };
      expect(overlaps(then).filter((each) => each.includes("endpoint-99"))).toEqual([]);
    }
  });

  test("snapping", () => {
    expect(snapped({ x: 31, y: -9 })).toEqual({ x: 40, y: -0 });
  });
});

describe("the nearest node in a direction", () => {
  const others = new Map<string, Place>([
    ["right", { x: 100, y: 10 }],
    ["far right", { x: 300, y: 0 }],
    ["above", { x: 5, y: -80 }],
    ["here", { x: 0, y: 0 }],
  ]);
  test.each([
    ["right", "right"],
    ["up", "above"],
    ["left", null],
  ] as const)("%s: %s", (direction, wanted) => {
    expect(nearest({ x: 0, y: 0 }, others, direction)).toBe(wanted);
  });

  test("is always in that direction, and found whenever there is one", () => {
    const random = generator(11);
    for (let round = 0; round < 300; round += 1) {
      const from = { x: random.whole(-9, 9), y: random.whole(-9, 9) };
      const all = new Map(
        Array.from({ length: random.whole(0, 8) }, (_, id) => [
          `${id}`,
          { x: random.whole(-9, 9), y: random.whole(-9, 9) },
        ]),
      );
      const direction = random.pick(["left", "right", "up", "down"] as const);
      const ahead = ({ x, y }: Place) =>
        ({ left: from.x - x, right: x - from.x, up: from.y - y, down: y - from.y })[direction] > 0;
      const found = nearest(from, all, direction);
      if (found === null) expect([...all.values()].some(ahead)).toBe(false);
      else expect(ahead(all.get(found) as Place)).toBe(true);
    }
  });
});

describe("graph", () => {
  test("those that were given no place stand below each other until they are moved", () => {
    const made = structure([1, 2, 3].map((id) => endpoint(id, { pos_x: 500, pos_y: 200 })));
    const cards = graphOf(made, []).nodes.filter((each) => each.kind === "endpoint");
    expect(new Set(cards.map((each) => each.place.x))).toEqual(new Set([500]));
    expect(cards.map((each) => each.place.y)).toEqual([200, 360, 520]);
  });

  test("and not on one that has that place of its own", () => {
    const made = structure([
      ...[1, 2].map((id) => endpoint(id, { pos_x: 500, pos_y: 200 })),
      endpoint(3, { pos_x: 500, pos_y: 360 }),
    ]);
    const cards = graphOf(made, []).nodes.filter((each) => each.kind === "endpoint");
    expect(cards.map((each) => each.place.y)).toEqual([200, 520, 360]);
  });

  test("an empty balancer is Incoming, open to anyone", () => {
    const { nodes, wires } = graphOf(structure(), []);
    expect(nodes.map((each) => each.id)).toEqual(["client-anyone", "incoming"]);
    expect(wires.map((each) => [each.id, each.kind, each.target])).toEqual([
      ["from-client-anyone", "client", "incoming"],
    ]);
  });

  test("clients have wires to Incoming; those of the environment cannot be moved", () => {
    const made = structure([], {
      client_tokens: [token(3, { name: "app" })],
      environment_tokens: [token(null, { name: "ci" })],
    });
    const { nodes, wires } = graphOf(made, []);
    expect(nodes.map((each) => [each.id, each.movable])).toEqual([
      ["client-3", true],
      ["client-env-ci", false],
      ["incoming", true],
    ]);
    expect(wires).toHaveLength(2);
  });

  test("a wire for each connected endpoint, a ghost for each that drains, none for the others", () => {
    const made = structure([endpoint(1), endpoint(2, { connected: false }), endpoint(3, { connected: false })]);
    const wires = graphOf(made, [2]).wires.filter((each) => each.source === "incoming");
    expect(wires.map((each) => [each.id, each.kind, each.endpointId])).toEqual([
      ["wire-1", "wire", 1],
      ["wire-2", "draining", 2],
    ]);
  });

  test("a disabled endpoint keeps its wire", () => {
    expect(graphOf(structure([endpoint(1, { enabled: false })]), []).wires).toHaveLength(2);
  });

  test.each([
    ["endpoint-7", 7],
    ["wire-12", 12],
    ["incoming", null],
    ["client-3", null],
    ["endpoint-x", null],
    [undefined, null],
  ])("%s belongs to endpoint %s", (id, wanted) => {
    expect(endpointIdOf(id)).toBe(wanted);
  });

  test("a selection of nodes and wires is one of endpoints", () => {
    expect(selectedEndpoints(new Set(["endpoint-2", "wire-2", "wire-3", "incoming", "client-9"]))).toEqual([2, 3]);
  });
});

describe("wires", () => {
  test("width grows with the share, within bounds", () => {
    expect([widthOf(0), widthOf(1), widthOf(-1), widthOf(9)]).toEqual([2, 12, 2, 12]);
    expect(widthOf(0.25)).toBe(7);
  });

  test.each([
    [0, 0],
    [Number.NaN, 0],
    [0.01, 1],
    [3.4, 3],
    [500, MOST_DOTS],
  ])("%s requests per second are %s dots", (rate, dots) => {
    expect(dotsOf(rate)).toBe(dots);
  });

  test("a quick first byte makes a quick dot, within bounds", () => {
    expect(travelSeconds(0)).toBe(0.8);
    expect(travelSeconds(60)).toBe(6);
    expect(travelSeconds(0.1)).toBeLessThan(travelSeconds(1));
    expect(travelSeconds(null)).toBe(travelSeconds(0.3));
  });

  test("errors are a part of the requests", () => {
    expect(errorPart({ ...NUMBERS, requests_per_second: 4, failures_per_second: 1 })).toBe(0.25);
    expect(errorPart({ ...NUMBERS, requests_per_second: 1, failures_per_second: 3 })).toBe(1);
    expect(errorPart({ ...NUMBERS, failures_per_second: 3 })).toBe(0);
  });

  test.each([
    ["percentage", { actual: "38.4 %", target: "40 %" }],
    ["priority", { actual: "38.4 %", target: "rank 2 · overflow" }],
    ["weighted", { actual: "38.4 %", target: "weight 3" }],
    ["least_loaded", { actual: "38.4 %", target: "weight 3" }],
    ["random", { actual: "38.4 %", target: "" }],
  ])("the label in mode %s", (mode, label) => {
    const made = structure([endpoint(1), endpoint(2, { weight: 3 })], { routing_mode: mode });
    const two = made.endpoints[1];
    if (!two) throw new Error("there are two");
    expect(labelOf(two, { ...NUMBERS, share_percent: 38.4 }, made, 40)).toEqual(label);
  });

  test("without traffic the share is nothing, not unknown", () => {
    const made = structure([endpoint(1)]);
    const one = made.endpoints[0];
    if (!one) throw new Error("there is one");
    expect(labelOf(one, NUMBERS, made, undefined)).toEqual({ actual: "0.0 %", target: "" });
  });

  test("the first in rank does not overflow, nor do its equals", () => {
    const made = structure([endpoint(1, { priority_order: 3 }), endpoint(2, { priority_order: 3 })], {
      routing_mode: "priority",
    });
    for (const each of made.endpoints) expect(labelOf(each, NUMBERS, made, 0).target).toBe("rank 3");
  });
});

describe("curves", () => {
  test("out of a path", () => {
    expect(curveOf("M0,0 C10.5,-1 2,2 1e-3,3")).toEqual([0, 0, 10.5, -1, 2, 2, 0.001, 3]);
    expect(curveOf("M0,0 L1,1")).toBe(null);
    expect(curveOf("")).toBe(null);
  });

  test("begin at the start and end at the end", () => {
    const curve = [1, 2, 30, 4, 50, 6, 70, 8];
    expect(along(curve, 0)).toEqual([1, 2]);
    expect(along(curve, 1)).toEqual([70, 8]);
    expect(along([0, 0, 1, 1, 2, 2, 3, 3], 0.5)).toEqual([1.5, 1.5]);
  });
});

describe("badges", () => {
  const no = (reason: string, given: Partial<EndpointNumbers> = {}): EndpointNumbers => ({
    ...NUMBERS,
    eligible: false,
    reason,
    reason_text: `${reason}: in words`,
    ...given,
  });
  test.each<[string, Parameters<typeof config>[0], EndpointNumbers | undefined, string, string]>([
    ["disabled", { enabled: false }, NUMBERS, "disabled", "idle"],
    [
      "disabled, even while it drains",
      { enabled: false, connected: false },
      { ...NUMBERS, inflight: 2 },
      "disabled",
      "idle",
    ],
    ["not connected", { connected: false }, NUMBERS, "not connected", "idle"],
    ["not connected, no numbers", { connected: false }, undefined, "not connected", "idle"],
    ["draining", { connected: false }, { ...NUMBERS, inflight: 3 }, "draining 3", "busy"],
    ["no numbers yet", {}, undefined, "unknown", "idle"],
    ["ready", {}, NUMBERS, "ready", "good"],
    ["serving", {}, { ...NUMBERS, inflight: 1 }, "serving", "good"],
    ["serving lately", {}, { ...NUMBERS, requests_per_second: 0.2 }, "serving", "good"],
    ["trying again", {}, { ...NUMBERS, breaker: "half-open" }, "trying", "warn"],
    ["full", {}, no("full"), "full", "busy"],
    ["throttled", {}, no("throttled", { wait_seconds: 4.2 }), "throttled 5 s", "warn"],
    ["cooling", {}, no("cooling down", { wait_seconds: 12 }), "cooling 12 s", "warn"],
    ["cooling, by the other clock", {}, no("cooling down", { cooldown_remaining_s: 130 }), "cooling 2:10", "warn"],
    ["cooling, nobody knows how long", {}, no("cooling down"), "cooling", "warn"],
    ["key refused", {}, no("credentials refused"), "key refused", "bad"],
    ["down", {}, no("unhealthy"), "down", "bad"],
    ["another reason", {}, no("something new"), "something new", "warn"],
    ["no reason at all", {}, { ...NUMBERS, eligible: false }, "waiting", "warn"],
  ])("%s", (_, given, numbers, word, tone) => {
    const found = statusOf(config(given), numbers);
    expect([found.word, found.tone]).toEqual([word, tone]);
    if (numbers?.reason_text)
      expect(found.explanation).toBe(`${numbers.reason?.replace(/^./, (c) => c.toUpperCase())}: in words.`);
    else if (numbers?.reason !== null || numbers.eligible) expect(found.explanation).toMatch(/^[A-Z0-9].*\.\s?$/);
  });

  test("a time that runs down is told apart from the word", () => {
    expect(statusOf(config(), no("throttled", { wait_seconds: 4.2 })).seconds).toBe(4.2);
    expect(statusOf(config(), NUMBERS).seconds).toBe(null);
  });

  test("spoken: name, wire, state, share, load", () => {
    const live = { ...NUMBERS, inflight: 7, share_percent: 38.4 };
    expect(spoken(config({ max_concurrent: 16 }), live)).toBe(
      "gpu-1, connected, serving, 38 percent of tokens, 7 of 16 in flight",
    );
    expect(spoken(config(), NUMBERS)).toBe("gpu-1, connected, ready, 0 in flight");
    expect(spoken(config({ connected: false }), NUMBERS)).toBe("gpu-1, not connected");
  });
});

test("modes have names, and an unknown one stands for itself", () => {
  expect(new Set(MODES.map((each) => each.id)).size).toBe(8);
  expect(MODES.every((each) => each.label && each.does)).toBe(true);
  expect(modeOf("priority").label).toBe("Priority");
  expect(modeOf("new_one")).toMatchObject({ id: "new_one", label: "new_one", field: null });
});
