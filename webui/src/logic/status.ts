// How an endpoint is, as one badge: an icon, a word, a tone, and the reason in a sentence. Never colour alone.

import type { EndpointNumbers } from "../api/types";
import { count, countdown, sentence } from "./format";
import type { EndpointConfig } from "./structure";

export type Tone = "good" | "warn" | "bad" | "busy" | "idle";
export type IconName = "check" | "dot" | "clock" | "cross" | "key" | "pause" | "plug" | "full" | "drain" | "question";

export interface Status {
  tone: Tone;
  icon: IconName;
  word: string;
  /** Why, in a sentence. */
  explanation: string;
  /** Seconds until it may change by itself, null when nobody knows. */
  seconds: number | null;
}

export function statusOf(config: EndpointConfig, numbers: EndpointNumbers | undefined): Status {
  const inflight = numbers?.inflight ?? 0;
  if (!config.enabled) return status("idle", "pause", "disabled", "Switched off: takes no traffic, even when wired.");
  if (!config.connected) {
    if (inflight) {
      return status(
        "busy",
        "drain",
        `draining ${inflight}`,
        `${count(inflight, "request")} still in flight will finish.`,
      );
    }
    return status("idle", "plug", "not connected", "Takes no traffic: draw a wire from Incoming to it.");
  }
  if (!numbers) return status("idle", "question", "unknown", "No numbers yet.");
  if (!numbers.eligible) return ineligible(numbers);
  if (numbers.breaker === "half-open") {
    return status("warn", "clock", "trying", "After a cooldown one request tries whether it works again.");
  }
  if (inflight > 0 || numbers.requests_per_second > 0) {
    return status("good", "check", "serving", `${count(inflight, "request")} in flight. ${healthWords(numbers)}`);
  }
  return status("good", "dot", "ready", `Takes requests; none lately. ${healthWords(numbers)}`);
}

function ineligible(numbers: EndpointNumbers): Status {
  const why = sentence(numbers.reason_text ?? numbers.reason ?? "");
  const wait = numbers.wait_seconds ?? (numbers.cooldown_remaining_s || null);
  const timed = (word: string) => (wait ? `${word} ${countdown(wait)}` : word);
  switch (numbers.reason) {
    case "full":
      return status("busy", "full", "full", why);
    case "throttled":
      return status("warn", "clock", timed("throttled"), why, wait);
    case "cooling down":
      return status("warn", "clock", timed("cooling"), why, wait);
    case "credentials refused":
      return status("bad", "key", "key refused", why, wait);
    case "unhealthy":
      return status("bad", "cross", "down", why, wait);
    default:
      return status("warn", "clock", numbers.reason ?? "waiting", why, wait);
  }
}

function healthWords(numbers: EndpointNumbers): string {
  return numbers.health.reason ? sentence(`last probe: ${numbers.health.reason}`) : "";
}

function status(tone: Tone, icon: IconName, word: string, explanation: string, seconds: number | null = null): Status {
  return { tone, icon, word, explanation, seconds };
}

/** For the screen reader: "gpu-1, connected, serving, 38 percent of tokens, 7 of 16 in flight". */
export function spoken(config: EndpointConfig, numbers: EndpointNumbers | undefined): string {
  const parts = [config.name, config.connected ? "connected" : "not connected", statusOf(config, numbers).word];
  if (numbers && config.connected) {
    if (numbers.share_percent !== null) parts.push(`${Math.round(numbers.share_percent)} percent of tokens`);
    parts.push(`${numbers.inflight}${config.max_concurrent ? ` of ${config.max_concurrent}` : ""} in flight`);
  }
  return [...new Set(parts)].join(", ");
}
