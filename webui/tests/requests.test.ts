import { describe, expect, it } from "vitest";
import type { CandidateView, ExplanationView, RequestView } from "../src/api/types";
import {
  candidateInWords,
  curlLine,
  endingOf,
  inOrder,
  modelWords,
  newerThan,
  passedOver,
  requestsPath,
  sameRows,
  tokensOf,
  totalOf,
  verdictInWords,
  wayOf,
  whyThere,
} from "../src/logic/requests";

const attempt = {
  endpoint_id: 1,
  endpoint: "gpu-1",
  seconds: 1,
  outcome: "success",
  result: "answered 200",
  panic: false,
  passed_over: {},
};
const failed = { ...attempt, endpoint_id: 3, endpoint: "gpu-3", outcome: "failed", result: "connection refused" };

function request(fields: Partial<RequestView> = {}): RequestView {
  return {
    number: 1,
    at: "2026-01-01T00:00:00Z",
    request_id: "req-1",
    client: "ci",
    operation: "chat",
    model: "llama",
    upstream_model: "llama",
    endpoint_id: 1,
    endpoint: "gpu-1",
    attempts: [attempt],
    streamed: true,
    status: 200,
    first_byte_seconds: 0.2,
    total_seconds: 1.9,
    overhead_seconds: 0.0002,
    prompt_tokens: 1204,
    completion_tokens: 388,
    provenance: "reported",
    error: "",
    ...fields,
  };
}

describe("the path of the request log", () => {
  it("names only the filters that are set", () => {
    expect(requestsPath({ endpoint: null, status: "", model: "" })).toBe("/requests?limit=200");
    expect(requestsPath({ endpoint: 7, status: "5xx", model: "a b&c" })).toBe(
      "/requests?limit=200&endpoint=7&status=5xx&model=a+b%26c",
    );
  });
});

describe("how a request ended", () => {
  it.each([
    [request(), "ok", "good"],
    [request({ attempts: [failed, attempt] }), "retried", "warn"],
    [request({ error: "connection broken" }), "broken off", "bad"],
    [request({ status: 499, error: "client left" }), "client left", "idle"],
    [request({ status: 401 }), "no access", "bad"],
    [request({ status: 429 }), "throttled", "warn"],
    [request({ status: 404 }), "refused", "warn"],
    [request({ status: 502, attempts: [failed] }), "failed", "bad"],
    [request({ status: 503, attempts: [] }), "no endpoint", "bad"],
    [request({ status: 504 }), "timed out", "bad"],
  ])("%#: is %s", (given, word, tone) => {
    expect(endingOf(given)).toMatchObject({ word, tone });
  });

  it("tells the way, and why it went on", () => {
    const retried = request({ attempts: [failed, attempt] });
    expect(wayOf(retried)).toBe("gpu-3 → gpu-1");
    expect(whyThere(retried)).toBe("gpu-1 was asked after gpu-3 connection refused.");
    expect(wayOf(request({ attempts: [], endpoint: null }))).toBe("–");
    expect(whyThere(request({ attempts: [] }))).toBe("No endpoint was asked.");
    expect(whyThere(request({ attempts: [{ ...attempt, panic: true }] }))).toContain("thought to be down");
  });

  it("tells who could not be used", () => {
    expect(passedOver(attempt)).toBe("");
    expect(passedOver({ ...attempt, passed_over: { laptop: "full", "gpu-4": "cooling down" } })).toBe(
      "laptop (full), gpu-4 (cooling down)",
    );
  });

  it("tells models, tokens and times", () => {
    expect(modelWords(request())).toBe("llama");
    expect(modelWords(request({ model: "auto", upstream_model: "qwen" }))).toBe("auto → qwen");
    expect(modelWords(request({ model: null, upstream_model: null }))).toBe("–");
    expect(tokensOf(request())).toBe("1,204 + 388");
    expect(tokensOf(request({ prompt_tokens: null, completion_tokens: null }))).toBe("–");
    expect(totalOf(request())).toBe("1.9 s");
    expect(totalOf(request({ status: 499 }))).toBe("left after 1.9 s");
  });
});

describe("what arrived since", () => {
  it("counts what is newer than the first row", () => {
    const rows = [5, 4, 3].map((number) => request({ number }));
    expect(newerThan(rows.slice(2), rows)).toBe(2);
    expect(newerThan(rows, rows)).toBe(0);
    expect(newerThan([], rows)).toBe(3);
  });
});

describe("rows from answer to answer", () => {
  it("stay the same values, but not after a restart", () => {
    const known = [request({ number: 2 }), request({ number: 1, request_id: "req-old" })];
    const latest = [request({ number: 3 }), request({ number: 2 }), request({ number: 1, request_id: "req-new" })];
    const rows = sameRows(known, latest);
    expect(rows[0]).toBe(latest[0]);
    expect(rows[1]).toBe(known[0]);
    expect(rows[2]).toBe(latest[2]);
  });
});

describe("the first request", () => {
  it("is one shell command; quotes in names stay text", () => {
    expect(curlLine("http://lb:8090", "llama", false)).toBe(
      "curl http://lb:8090/v1/chat/completions \\\n  -H 'Content-Type: application/json' \\\n" +
        `  -d '{"model":"llama","messages":[{"role":"user","content":"Hello"}]}'`,
    );
    expect(curlLine("http://lb", "it's", true)).toContain(`"it'\\''s"`);
    expect(curlLine("http://lb", "x", true)).toContain('-H "Authorization: Bearer $TOKEN"');
  });
});

describe("who would take it now", () => {
  const candidate = (id: number, fields: Partial<CandidateView> = {}): CandidateView => ({
    id,
    name: `gpu-${id}`,
    eligible: true,
    reason: null,
    reason_text: null,
    wait_seconds: null,
    score: null,
    share: null,
    affinity_preferred: false,
    ...fields,
  });
  const explanation = (fields: Partial<ExplanationView>): ExplanationView => ({
    would: "serve",
    status: 200,
    endpoint: { id: 2, name: "gpu-2" },
    panic: false,
    model: { asked: "m", resolved: "m" },
    strategy: "least_loaded",
    affinity: "off",
    candidates: [],
    refusal: null,
    ...fields,
  });

  it("puts the chosen one first, then by score, the others last", () => {
    const candidates = [
      candidate(1, { eligible: false, reason: "full" }),
      candidate(2, { score: 5 }),
      candidate(3, { score: 2 }),
      candidate(4, { score: 1 }),
      candidate(5),
    ];
    expect(inOrder(explanation({ candidates })).map((each) => each.id)).toEqual([2, 4, 3, 5, 1]);
  });

  it("says it in a sentence", () => {
    expect(verdictInWords(explanation({}))).toBe("gpu-2 would take it now, by least loaded.");
    expect(verdictInWords(explanation({ panic: true }))).toContain("thought to be down");
    expect(verdictInWords(explanation({ would: "wait", endpoint: null }))).toContain("queue");
    const refusal = { status: 503, code: null, message: "all busy.", retry_after: 1 };
    expect(verdictInWords(explanation({ would: "refuse", endpoint: null, refusal }))).toBe(
      "It would be refused with 503: all busy. Try again in 1 second.",
    );
  });

  it("tells a wait only where the reason does not", () => {
    const waits = { eligible: false, wait_seconds: 2 };
    expect(candidateInWords(candidate(1, { ...waits, reason: "full", reason_text: "full: 2 in flight" }))).toBe(
      "full: 2 in flight, perhaps room in 2.0 s",
    );
    expect(candidateInWords(candidate(1, { ...waits, reason: "cooling down", reason_text: "for 2 s" }))).toBe(
      "for 2 s",
    );
    expect(candidateInWords(candidate(1))).toBe("");
  });
});
