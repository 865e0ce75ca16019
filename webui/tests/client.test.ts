import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { AdminClient, ApiProblem, problemOf } from "../src/api/client";
import { state } from "./made";
import { json } from "./server";

const requests: { url: string; init: RequestInit }[] = [];
let answer: (init: RequestInit) => Promise<Response>;

beforeEach(() => {
  requests.length = 0;
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    requests.push({ url, init });
    return answer(init);
  });
});
afterEach(() => vi.unstubAllGlobals());

const problem = async (promise: Promise<unknown>): Promise<ApiProblem> => {
  const found = await promise.then(
    () => null,
    (error: unknown) => error,
  );
  expect(found).toBeInstanceOf(ApiProblem);
  return found as ApiProblem;
};

describe("what an error answer says", () => {
  const read = (status: number, body: unknown) => problemOf(status, body, JSON.stringify(body));

  test("words", () => {
    expect(read(503, { detail: "the store is closed" })).toMatchObject({
      status: 503,
      message: "the store is closed",
      fields: [],
      conflict: null,
    });
  });

  test("one field", () => {
    const found = read(422, { detail: [{ loc: ["body", "name"], msg: "is missing", type: "missing" }] });
    expect(found.fields).toEqual([{ field: "name", index: null, message: "is missing" }]);
    expect(found.message).toBe("name: is missing");
  });

  test("fields of a batch, with their places", () => {
    const found = read(422, {
      detail: [
        { loc: ["body", 1, "fields", "weight"], msg: "too small", type: "x" },
        { loc: ["body", 0, "base_url"], msg: "no address", type: "x" },
        { loc: ["body", 2, "fields", "model_aliases", "gpt-4"], msg: "is empty", type: "x" },
        { loc: ["body"], msg: "a list is expected", type: "x" },
      ],
    });
    expect(found.fields).toEqual([
      { field: "weight", index: 1, message: "too small" },
      { field: "base_url", index: 0, message: "no address" },
      { field: "model_aliases.gpt-4", index: 2, message: "is empty" },
      { field: "", index: null, message: "a list is expected" },
    ]);
    expect(found.message).toContain("a list is expected");
    expect(found.message).not.toMatch(/(^|; ): /);
  });

  test("a conflict carries the state and what changed", () => {
    const body = { detail: "changed meanwhile", revision: 7, state: state(), changed: { routing_mode: {} } };
    expect(read(409, body)).toMatchObject({ message: "changed meanwhile", conflict: { revision: 7 } });
  });

  test("an undo that is refused names the fields", () => {
    const detail = "revision 7 cannot be undone, changed again since: endpoints.1.weight, routing_mode";
    const found = read(409, { detail, fields: ["endpoints.1.weight", "routing_mode"] });
    expect(found.message).toBe(detail);
    expect(found.conflict).toBe(null);
  });

  test("a name that is taken is no conflict of revisions", () => {
    expect(read(409, { detail: "the name is taken" })).toMatchObject({ message: "the name is taken", conflict: null });
  });

  test.each([
    ["<html>Bad gateway</html>", "<html>Bad gateway</html>"],
    ["", "The balancer answered 502."],
    ["x".repeat(900), "x".repeat(200)],
  ])("no JSON at all: %.30s", (text, message) => {
    expect(problemOf(502, null, text).message).toBe(message);
  });

  test.each<[string, unknown]>([
    ["a string", "odd"],
    ["a number", 5],
    ["a list", []],
    ["no detail", {}],
    ["a detail that is an object", { detail: { odd: true } }],
    ["problems without a place", { detail: [{ msg: "odd" }, "odd", null] }],
  ])("%s is no reason to fail", (_, body) => {
    expect(read(500, body).message).not.toBe("");
  });

  test("not reached is told apart from refused", () => {
    const reached = [400, 401, 409, 422, 500, 503].map((status) => new ApiProblem(status, "").unreachable);
    expect(reached).toEqual(reached.map(() => false));
    expect([0, 502, 504].every((status) => new ApiProblem(status, "").unreachable)).toBe(true);
  });
});

describe("a request", () => {
  test("carries revision, body and CSRF token; a look carries none", async () => {
    answer = async () => json({ ok: true }, 200, { etag: '"8"' });
    const client = new AdminClient();
    client.csrfToken = "csrf";
    const done = await client.send({ method: "PATCH", path: "/endpoints", body: [1], ifMatch: 7 });
    expect(done).toEqual({ value: { ok: true }, revision: 8 });
    await client.get("/state");
    const [write, look] = requests.map(({ init }) => init.headers as Record<string, string>);
    expect(write).toMatchObject({ "if-match": '"7"', "x-csrf-token": "csrf", "content-type": "application/json" });
    expect(look).toEqual({ accept: "application/json" });
    expect(requests.map(({ url }) => url)).toEqual(["/admin/api/endpoints", "/admin/api/state"]);
    expect(requests.every(({ init }) => init.credentials === "same-origin" && init.redirect === "error")).toBe(true);
  });

  test("no ETag: no revision", async () => {
    answer = async () => json({});
    expect((await new AdminClient().send({ method: "GET", path: "/state" })).revision).toBe(null);
  });

  test("an answer without a body is none", async () => {
    answer = async () => new Response(null, { status: 204 });
    expect(await new AdminClient().post("/x")).toBe(null);
  });

  test("not reached", async () => {
    answer = async () => {
      throw new TypeError("Failed to fetch");
    };
    const found = await problem(new AdminClient().get("/state"));
    expect(found).toMatchObject({ status: 0, unreachable: true, message: "The balancer cannot be reached." });
  });

  test("a time that ran out is not reached; what was given up is no problem", async () => {
    answer = async () => {
      throw new DOMException("late", "TimeoutError");
    };
    expect((await problem(new AdminClient().get("/state"))).status).toBe(0);
    answer = async () => {
      throw new DOMException("stopped", "AbortError");
    };
    await expect(new AdminClient().open("/events", AbortSignal.abort())).rejects.toBeInstanceOf(DOMException);
  });

  test("an answer that breaks off is not reached, and never half a state", async () => {
    answer = async () => new Response(new ReadableStream({ pull: (out) => out.error(new TypeError("cut")) }));
    expect((await problem(new AdminClient().get("/state"))).status).toBe(0);
  });

  test("a 200 that is no JSON comes from somebody else", async () => {
    answer = async () => new Response("<html>Log in to the hotel</html>");
    expect((await problem(new AdminClient().get("/state"))).unreachable).toBe(true);
  });

  test("each 401 is told", async () => {
    answer = async () => json({ detail: "log in" }, 401);
    const client = new AdminClient();
    client.onSignedOut = vi.fn();
    await problem(client.get("/state"));
    await problem(client.open("/events", new AbortController().signal));
    expect(client.onSignedOut).toHaveBeenCalledTimes(2);
  });

  test("a stream is handed over as it is", async () => {
    answer = async () => new Response("data: 1\n\n");
    const body = await new AdminClient().open("/events", new AbortController().signal);
    expect(await new Response(body).text()).toBe("data: 1\n\n");
  });
});
