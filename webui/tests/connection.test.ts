import { describe, expect, test } from "vitest";
import type { ConnectionTest } from "../src/api/types";
import { findingOf, modelsInWords } from "../src/logic/connection";

describe("a test of a connection in words", () => {
  const result = (more: Partial<ConnectionTest>): ConnectionTest => ({
    ok: false,
    verdict: "unreachable",
    reason: "connection refused at 127.0.0.1:1",
    status: null,
    latency_ms: 41,
    models: [],
    ...more,
  });
  test("what was found, and that the key was taken", () => {
    const found = result({ ok: true, verdict: "ok", models: ["a", "b", "c"], status: 200 });
    expect(findingOf(found, "http://x/v1", true)).toEqual({
      tone: "good",
      headline: "3 models found · key accepted · 41 ms",
      advice: "",
    });
    expect(findingOf(found, "http://x/v1", false).headline).not.toMatch(/key/);
  });
  test("what is wrong, and what to try", () => {
    const local = findingOf(result({}), "http://localhost:1/v1", false);
    expect(local.headline).toBe("Connection refused at 127.0.0.1:1");
    expect(local.advice).toMatch(/machine of the balancer/);
    expect(findingOf(result({}), "http://10.0.0.7/v1", false).advice).toMatch(/not this browser/);
    const key = result({ verdict: "credentials", reason: "a key is needed (401)", status: 401 });
    expect(findingOf(key, "http://x/v1", false).advice).toMatch(/Put its API key/);
    expect(findingOf(key, "http://x/v1", true).advice).toMatch(/Check the API key/);
  });
  test("reachable without models is no failure", () => {
    expect(findingOf(result({ ok: true, verdict: "ok", status: 200 }), "http://x/v1", false).tone).toBe("warn");
    expect(findingOf(result({ verdict: "no_models_route", status: 404 }), "http://x/v1", false).tone).toBe("warn");
  });
  test("many models are counted", () => {
    expect(modelsInWords(["a", "b"])).toBe("a, b");
    expect(modelsInWords([..."abcdefgh"])).toBe("a, b, c, d, e and 3 more");
  });
});
