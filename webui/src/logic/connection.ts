// What a test of a connection found, in words: a headline, what was said, and what to try.

import type { ConnectionTest } from "../api/types";
import { begunLarge, count, duration } from "./format";

export interface Finding {
  tone: "good" | "warn" | "bad";
  headline: string;
  /** What to try; empty when there is nothing to do. */
  advice: string;
}

const SHOWN_MODELS = 5;

export function findingOf(test: ConnectionTest, baseUrl: string, hasKey: boolean): Finding {
  const time = duration(test.latency_ms / 1000);
  if (test.ok && test.models.length) {
    const key = hasKey ? " · key accepted" : "";
    return { tone: "good", headline: `${count(test.models.length, "model")} found${key} · ${time}`, advice: "" };
  }
  if (test.ok) {
    const advice = "It answers, but serves no model yet. Load one, or name its models in the settings.";
    return { tone: "warn", headline: `Reachable · ${time}`, advice };
  }
  const headline = `${begunLarge(test.reason)}${test.status === null ? "" : ` · ${time}`}`;
  const tone = test.verdict === "no_models_route" ? "warn" : "bad";
  return { tone, headline, advice: adviceFor(test, baseUrl, hasKey) };
}

function adviceFor(test: ConnectionTest, baseUrl: string, hasKey: boolean): string {
  switch (test.verdict) {
    case "credentials":
      return hasKey ? "Check the API key, and that it belongs to this address." : "Put its API key below.";
    case "no_models_route":
      return "It may still serve requests: name its models in the settings.";
    case "unreachable":
    case "timeout":
      return unreachableAdvice(baseUrl);
    case "redirect":
      return "Use the address it redirects to; with https if it asks for that.";
    case "not_openai":
      return "Something else answers at this address. Check port and path.";
    default:
      return "";
  }
}

function unreachableAdvice(baseUrl: string): string {
  if (/^https?:\/\/(localhost|127\.|\[::1\])/i.test(baseUrl)) {
    return "localhost is the machine of the balancer, in Docker its container. Does the server run there?";
  }
  return "The balancer itself connects, not this browser. Does the server run, and may the balancer reach it?";
}

/** "a, b, c and 12 more". */
export function modelsInWords(models: readonly string[]): string {
  if (models.length <= SHOWN_MODELS) return models.join(", ");
  return `${models.slice(0, SHOWN_MODELS).join(", ")} and ${models.length - SHOWN_MODELS} more`;
}
