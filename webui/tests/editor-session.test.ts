// The editor without its views against a balancer in memory: places, the session, the line, toasts.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { endpoint } from "./made";
import { askedOf, change, gate, meet, one, page, settle, toastsOf } from "./met";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("layout", () => {
  const place = { x: 11, y: 22 };

  test("moves are seen at once, saved together after a pause, without a revision", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2));
    editor.move({ "endpoint-1": place });
    await vi.advanceTimersByTimeAsync(300);
    editor.move({ "endpoint-2": place, incoming: { x: 1, y: 2 } });
    expect(one(editor)).toMatchObject({ pos_x: 11, pos_y: 22 });
    await vi.advanceTimersByTimeAsync(499);
    expect(server.seen).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(server.writes).toEqual(["PATCH /layout"]);
    expect(server.seen[0]?.headers.get("if-match")).toBe(null);
    expect(server.seen[0]?.body).toEqual({
      endpoints: { 1: place, 2: place },
      tokens: {},
      incoming: { x: 1, y: 2 },
    });
    expect(server.state.revision).toBe(1);
    expect(editor.flow.getState().moves).toEqual({});
    expect(one(editor)).toMatchObject({ pos_x: 11, pos_y: 22 });
    expect(toastsOf(editor)).toEqual([]);
  });

  test("never conflicts: the last one wins, whatever else changed", async () => {
    const { server, editor } = await meet(endpoint(1));
    server.change(1, { weight: 9 });
    server.state = { ...server.state, endpoints: [{ ...server.of(1), pos_x: 500 }] };
    editor.move({ "endpoint-1": place });
    await vi.advanceTimersByTimeAsync(500);
    expect(askedOf(editor)).toBe(null);
    expect(server.of(1)).toMatchObject({ pos_x: 11, pos_y: 22, weight: 9 });
  });

  test("what somebody deleted meanwhile does not hold up the others", async () => {
    const { server, editor } = await meet(endpoint(1), endpoint(2));
    server.remove(2);
    editor.move({ "endpoint-1": place, "endpoint-2": place });
    await vi.advanceTimersByTimeAsync(500);
    expect(server.of(1)).toMatchObject({ pos_x: 11, pos_y: 22 });
    expect(editor.flow.getState().moves).toEqual({});
    expect(toastsOf(editor)).toEqual([]);
  });

  test("a move made while another is being saved stays", async () => {
    const { server, editor } = await meet(endpoint(1));
    editor.move({ "endpoint-1": place });
    server.before = ({ path }) => {
      if (path !== "/layout") return;
      server.before = () => {};
      editor.move({ "endpoint-1": { x: 99, y: 99 } });
    };
    await vi.advanceTimersByTimeAsync(500);
    expect(one(editor)?.pos_x).toBe(99);
    await vi.advanceTimersByTimeAsync(500);
    expect(server.of(1).pos_x).toBe(99);
    expect(server.layoutWrites).toBe(2);
  });

  test("a save that is slow does not arrive behind the next one", async () => {
    const { server, editor } = await meet(endpoint(1));
    const slow = gate();
    server.before = ({ path }) => (path === "/layout" ? slow.passed : undefined);
    editor.move({ "endpoint-1": place });
    await vi.advanceTimersByTimeAsync(500);
    server.before = () => {};
    editor.move({ "endpoint-1": { x: 99, y: 99 } });
    await vi.advanceTimersByTimeAsync(5000);
    expect(server.writes).toEqual(["PATCH /layout"]);
    slow.open();
    await vi.advanceTimersByTimeAsync(500);
    expect(server.of(1)).toMatchObject({ pos_x: 99, pos_y: 99 });
    expect(server.layoutWrites).toBe(2);
  });

  test("offline it is kept and tried again", async () => {
    const { server, editor } = await meet(endpoint(1));
    server.down = true;
    editor.move({ "endpoint-1": place });
    await vi.advanceTimersByTimeAsync(3000);
    expect(one(editor)?.pos_x).toBe(11);
    server.down = false;
    await vi.advanceTimersByTimeAsync(2500);
    expect(server.of(1).pos_x).toBe(11);
    expect(editor.flow.getState().moves).toEqual({});
  });

  test("several steps of one move are undone as one", async () => {
    const { server, editor } = await meet(endpoint(1));
    const { "endpoint-1": from } = editor.placesOf(["endpoint-1"]);
    editor.drag({ "endpoint-1": { x: 1, y: 1 } });
    editor.drag({ "endpoint-1": { x: 2, y: 2 } });
    expect(one(editor)?.pos_x).toBe(2);
    expect(editor.canUndo).toBe(false);
    editor.move({ "endpoint-1": { x: 2, y: 2 } }, { "endpoint-1": from ?? place });
    await vi.advanceTimersByTimeAsync(500);
    expect(server.of(1).pos_x).toBe(2);
    await editor.undo();
    await vi.advanceTimersByTimeAsync(500);
    expect(server.of(1).pos_x).toBe(600);
    expect(editor.canUndo).toBe(false);
  });

  test("a move is undone like any act, in order", async () => {
    const { server, editor } = await meet(endpoint(1));
    editor.move({ "endpoint-1": place });
    await editor.submit(change(1, { weight: 2 }));
    await editor.undo();
    expect(server.of(1).weight).toBe(1);
    await editor.undo();
    await vi.advanceTimersByTimeAsync(500);
    expect(server.of(1).pos_x).toBe(600);
    await editor.redo();
    await vi.advanceTimersByTimeAsync(500);
    expect(server.of(1).pos_x).toBe(11);
  });
});

describe("the session", () => {
  test("who is signed in goes on; who is not sees the login", async () => {
    const { server, editor } = await meet(endpoint(1));
    page();
    await editor.begin();
    expect(editor.session.getState().phase).toBe("ready");
    editor.live.stop();
    server.signedIn = false;
    await editor.begin();
    expect(editor.session.getState().phase).toBe("signedOut");
    await expect(editor.login("wrong")).rejects.toMatchObject({ status: 401, message: "wrong admin token" });
    await editor.login("right");
    expect(editor.session.getState().phase).toBe("ready");
    editor.live.stop();
  });

  test("a session that ended during an act: after the login the act is done and moves are saved", async () => {
    const { server, editor } = await meet(endpoint(1));
    page();
    await editor.begin();
    server.signedIn = false;
    const done = editor.submit(change(1, { weight: 2 }));
    await settle();
    expect(editor.session.getState().phase).toBe("signedOut");
    editor.move({ "endpoint-1": { x: 11, y: 22 } });
    await vi.advanceTimersByTimeAsync(600);
    expect(one(editor)).toMatchObject({ pos_x: 11, weight: 2 });
    await editor.login("right");
    await vi.advanceTimersByTimeAsync(3000);
    expect(await done).toBe(true);
    expect(server.of(1)).toMatchObject({ pos_x: 11, weight: 2 });
    editor.live.stop();
  });

  test("polling: news within two seconds, a countdown when it is gone, recovery by itself", async () => {
    const { server, editor } = await meet(endpoint(1));
    page();
    await editor.begin();
    await vi.advanceTimersByTimeAsync(2000);
    expect(editor.session.getState().link).toEqual({ kind: "live", by: "polling" });
    server.change(1, { weight: 6 });
    await vi.advanceTimersByTimeAsync(2000);
    expect(one(editor)?.weight).toBe(6);
    server.down = true;
    await vi.advanceTimersByTimeAsync(2000);
    expect(editor.session.getState().link).toMatchObject({ kind: "offline" });
    await vi.advanceTimersByTimeAsync(20_000);
    server.down = false;
    expect(editor.session.getState().link).toMatchObject({ kind: "offline", retryAt: expect.any(Number) });
    editor.live.retryNow();
    await vi.advanceTimersByTimeAsync(2100);
    expect(editor.session.getState().link.kind).toBe("live");
    editor.live.stop();
  });

  test("a balancer that came back with an older database is taken as it is", async () => {
    const { server, editor } = await meet(endpoint(1, { weight: 1 }));
    page();
    await editor.begin();
    await editor.submit(change(1, { weight: 6 }));
    server.down = true;
    await vi.advanceTimersByTimeAsync(4000);
    server.state = { ...server.state, revision: 1, endpoints: [endpoint(1, { weight: 3 })] };
    server.down = false;
    await vi.advanceTimersByTimeAsync(20_000);
    expect(one(editor)?.weight).toBe(3);
    expect(editor.revision).toBe(1);
    editor.live.stop();
  });

  test("an answer that was overtaken on the way brings back neither what was nor its numbers", async () => {
    const { server, editor } = await meet(endpoint(1));
    const slow = gate();
    server.after = () => slow.passed;
    const overtaken = editor.refresh();
    await settle();
    server.after = () => {};
    server.change(1, { weight: 6, inflight: 5 });
    await editor.refresh();
    slow.open();
    await overtaken;
    expect(one(editor)?.weight).toBe(6);
    expect(editor.numbers.getState().numbers.endpoints.get(1)?.inflight).toBe(5);
  });

  test("a hidden page rests and comes back", async () => {
    const { server, editor } = await meet(endpoint(1));
    page();
    await editor.begin();
    await vi.advanceTimersByTimeAsync(2000);
    Object.assign(document, { hidden: true });
    document.dispatchEvent(new Event("visibilitychange"));
    server.seen.length = 0;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.seen).toEqual([]);
    expect(editor.session.getState().link).toEqual({ kind: "paused" });
    server.change(1, { weight: 8 });
    Object.assign(document, { hidden: false });
    document.dispatchEvent(new Event("visibilitychange"));
    await vi.advanceTimersByTimeAsync(0);
    expect(one(editor)?.weight).toBe(8);
    editor.live.stop();
  });
});

describe("toasts", () => {
  test("go by themselves, at most four stand", async () => {
    const { editor } = await meet(endpoint(1));
    for (const text of ["a", "b", "c", "d", "e"]) editor.toast({ tone: "plain", text });
    expect(toastsOf(editor)).toEqual(["b", "c", "d", "e"]);
    editor.dismiss(editor.ui.getState().toasts[0]?.id ?? 0);
    expect(toastsOf(editor)).toEqual(["c", "d", "e"]);
    await vi.advanceTimersByTimeAsync(7000);
    expect(toastsOf(editor)).toEqual([]);
  });

  test("a problem is told, but not that somebody has to log in: that is seen", async () => {
    const { server, editor } = await meet(endpoint(1));
    page();
    editor.complain(new Error("odd"));
    expect(toastsOf(editor)).toEqual(["odd"]);
    server.signedIn = false;
    await editor.refresh().catch((error) => editor.complain(error));
    expect(toastsOf(editor)).toEqual(["odd"]);
  });
});
