// The request log in words: which requests are asked for, the way each one took, and how it ended.

import type { AttemptView, CandidateView, ExplanationView, RequestView } from "../api/types";
import { count, duration } from "./format";
import { modeOf } from "./modes";
import type { IconName, Tone } from "./status";

export const LOGGED = 200;
const CLIENT_LEFT = 499;

export type StatusClass = "" | "2xx" | "4xx" | "5xx";

export interface RequestFilter {
  endpoint: number | null;
  status: StatusClass;
  /** As it was asked for; empty: any. */
  model: string;
}

/** The path of the newest requests that pass the filter. */
export function requestsPath(filter: RequestFilter): string {
  const query = new URLSearchParams({ limit: String(LOGGED) });
  if (filter.endpoint !== null) query.set("endpoint", String(filter.endpoint));
  if (filter.status) query.set("status", filter.status);
  if (filter.model) query.set("model", filter.model);
  return `/requests?${query}`;
}

/** How a request ended: never colour alone. */
export interface Ending {
  tone: Tone;
  icon: IconName;
  word: string;
}

export function endingOf(request: RequestView): Ending {
  const { status, attempts, error } = request;
  if (status === CLIENT_LEFT) return { tone: "idle", icon: "drain", word: "client left" };
  if (status < 300) {
    if (error) return { tone: "bad", icon: "cross", word: "broken off" };
    if (attempts.length > 1) return { tone: "warn", icon: "check", word: "retried" };
    return { tone: "good", icon: "check", word: "ok" };
  }
  if (status === 401 || status === 403) return { tone: "bad", icon: "key", word: "no access" };
  if (status === 429) return { tone: "warn", icon: "clock", word: "throttled" };
  if (status === 504) return { tone: "bad", icon: "clock", word: "timed out" };
  if (status < 500) return { tone: "warn", icon: "cross", word: "refused" };
  return { tone: "bad", icon: "cross", word: attempts.length ? "failed" : "no endpoint" };
}

/** What was asked for, and what was sent on where that differs. */
export function modelWords(request: RequestView): string {
  const { model, upstream_model } = request;
  if (model && upstream_model && model !== upstream_model) return `${model} → ${upstream_model}`;
  return model ?? upstream_model ?? "–";
}

/** "gpu-3 → gpu-1": all that were tried, in order. */
export function wayOf(request: RequestView): string {
  const names = request.attempts.map((each) => each.endpoint);
  return names.join(" → ") || request.endpoint || "–";
}

/** "1,204 + 388"; a sign behind it when the balancer counted by itself. */
export function tokensOf(request: RequestView): string {
  const { prompt_tokens, completion_tokens } = request;
  if (prompt_tokens === null && completion_tokens === null) return "–";
  return `${(prompt_tokens ?? 0).toLocaleString("en")} + ${(completion_tokens ?? 0).toLocaleString("en")}`;
}

const PROVENANCE: Record<string, string> = {
  reported: "as the endpoint reported them",
  estimated: "estimated from the bytes that passed: the answer told no usage",
  partial: "partial: what had passed until the answer was cut",
};

export function provenanceInWords(provenance: string | null): string {
  return provenance === null ? "not known" : (PROVENANCE[provenance] ?? provenance);
}

export function totalOf(request: RequestView): string {
  const time = duration(request.total_seconds);
  return request.status === CLIENT_LEFT ? `left after ${time}` : time;
}

const OUTCOMES: Record<string, Ending> = {
  success: { tone: "good", icon: "check", word: "served" },
  failed: { tone: "bad", icon: "cross", word: "failed" },
  rejected: { tone: "warn", icon: "clock", word: "throttled" },
  neutral: { tone: "idle", icon: "dot", word: "no verdict" },
};

export function outcomeOf(attempt: AttemptView): Ending {
  return OUTCOMES[attempt.outcome] ?? { tone: "idle", icon: "question", word: attempt.outcome };
}

/** Why it ended where it did, in one sentence. */
export function whyThere(request: RequestView): string {
  const { attempts } = request;
  const last = attempts.at(-1);
  if (!last) return "No endpoint was asked.";
  const panic = last.panic ? " Nothing else was left, so it was asked although it was thought to be down." : "";
  if (attempts.length === 1) return `${last.endpoint} was chosen and asked.${panic}`;
  const before = attempts.slice(0, -1).map((each) => `${each.endpoint} ${each.result}`);
  return `${last.endpoint} was asked after ${before.join(", then ")}.${panic}`;
}

/** The latest rows, but those that were known already as the same values: a finished request never changes. */
export function sameRows(known: readonly RequestView[], latest: readonly RequestView[]): RequestView[] {
  const byNumber = new Map(known.map((each) => [each.number, each]));
  return latest.map((each) => {
    const before = byNumber.get(each.number);
    // After a restart the numbers begin anew.
    return before?.request_id === each.request_id ? before : each;
  });
}

/** "laptop (full), gpu-4 (cooling down)": who could not be used; empty: all others could. */
export function passedOver(attempt: AttemptView): string {
  return Object.entries(attempt.passed_over)
    .map(([name, reason]) => `${name} (${reason})`)
    .join(", ");
}

/** How many of `latest` are newer than what is shown; both newest first. */
export function newerThan(shown: readonly RequestView[], latest: readonly RequestView[]): number {
  const newest = shown[0]?.number ?? 0;
  return latest.filter((each) => each.number > newest).length;
}

/** A first request that can be pasted into a shell. */
export function curlLine(origin: string, model: string, needsToken: boolean): string {
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }] });
  return [
    `curl ${origin}/v1/chat/completions`,
    ...(needsToken ? ['-H "Authorization: Bearer $TOKEN"'] : []),
    "-H 'Content-Type: application/json'",
    `-d '${body.replaceAll("'", "'\\''")}'`,
  ].join(" \\\n  ");
}

// -- who would take it now ---------------------------------------------------------------------------------------------

export function verdictInWords(explanation: ExplanationView): string {
  const { would, endpoint, refusal, panic, strategy } = explanation;
  if (would === "serve" && endpoint) {
    const need = panic ? ", although it is thought to be down: nothing else is left" : "";
    return `${endpoint.name} would take it now, by ${modeOf(strategy).label.toLowerCase()}${need}.`;
  }
  if (would === "wait") return "It would wait in the queue until an endpoint has room.";
  const again = refusal?.retry_after == null ? "" : ` Try again in ${count(refusal.retry_after, "second")}.`;
  return `It would be refused with ${refusal?.status}: ${refusal?.message ?? ""}${again}`;
}

/** Why a candidate may not take it, or what else is to be said of it; empty: nothing. */
export function candidateInWords(candidate: CandidateView): string {
  const parts = [candidate.reason_text ?? candidate.reason ?? ""];
  // The other reasons name their time themselves.
  if (candidate.reason === "full" && candidate.wait_seconds) {
    parts.push(`perhaps room in ${duration(candidate.wait_seconds)}`);
  }
  if (candidate.affinity_preferred) parts.push("the session's first choice");
  return parts.filter(Boolean).join(", ");
}

/** The chosen one first, then those that may by score, then the others. */
export function inOrder(explanation: ExplanationView): CandidateView[] {
  const place = (each: CandidateView) => {
    if (each.id === explanation.endpoint?.id) return 0;
    return each.score !== null ? 1 : each.eligible ? 2 : 3;
  };
  return [...explanation.candidates].sort(
    (one, other) => place(one) - place(other) || (one.score ?? 0) - (other.score ?? 0) || one.id - other.id,
  );
}
