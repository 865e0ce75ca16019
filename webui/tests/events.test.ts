// Text as it comes: server-sent events cut anywhere, and finding by a few letters.

import { describe, expect, test } from "vitest";
import { ranked } from "../src/logic/find";
import { EventReader } from "../src/logic/sse";
import { generator } from "./made";

const STREAM = [
  ": hello\n\n",
  'event: state\ndata: {"name":"gpü-1 🦙"}\n\n',
  "data: plain\n\n",
  "event: nothing\n\n",
  'id: 4\nevent: state\ndata: {"a":\ndata: 1}\n\n',
].join("");
const EVENTS = [
  { event: "state", data: '{"name":"gpü-1 🦙"}' },
  { event: "message", data: "plain" },
  { event: "state", data: '{"a":\n1}' },
];

function read(pieces: readonly Uint8Array[]) {
  const reader = new EventReader();
  const decoder = new TextDecoder();
  return pieces.flatMap((each) => reader.feed(decoder.decode(each, { stream: true })));
}

describe("events", () => {
  const bytes = new TextEncoder().encode(STREAM);

  test("whole", () => {
    expect(read([bytes])).toEqual(EVENTS);
  });

  test("byte by byte", () => {
    expect(read(Array.from(bytes, (each) => Uint8Array.of(each)))).toEqual(EVENTS);
  });

  test("cut anywhere", () => {
    const random = generator(5);
    for (let round = 0; round < 200; round += 1) {
      const cuts = Array.from({ length: random.whole(0, 9) }, () => random.whole(0, bytes.length)).sort(
        (a, b) => a - b,
      );
      const pieces = [0, ...cuts].map((from, place) => bytes.slice(from, cuts[place] ?? bytes.length));
      expect(read(pieces)).toEqual(EVENTS);
    }
  });

  test("what is not complete waits", () => {
    const reader = new EventReader();
    expect(reader.feed("event: state\ndata: 1\n")).toEqual([]);
    expect(reader.feed("\n")).toEqual([{ event: "state", data: "1" }]);
    expect(reader.feed("")).toEqual([]);
  });
});

describe("finding", () => {
  const all = ["Connect to Incoming", "Cut the wire", "Disconnect it", "gpu-1", "gpu-11", "Reset statistics"];
  const find = (text: string) => ranked(text, all, (each) => each);

  test("nothing typed: all, as they are", () => {
    expect(find("  ")).toEqual(all);
  });

  test("all words must occur, in any order", () => {
    expect(find("wire cut")).toEqual(["Cut the wire"]);
    expect(find("wire gpu")).toEqual([]);
  });

  test("better where a word begins, then as they are", () => {
    expect(find("con")).toEqual(["Connect to Incoming", "Disconnect it"]);
    expect(find("GPU-1")).toEqual(["gpu-1", "gpu-11"]);
    expect(find("st")).toEqual(["Reset statistics"]);
    expect(find("in")).toEqual(["Connect to Incoming"]);
  });

  test("signs are letters like others", () => {
    expect(find("(.*")).toEqual([]);
  });
});
