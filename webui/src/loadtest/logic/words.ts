// What is done and what came of it, in words.

import { compact, count, duration } from "../../logic/format";
import type { Card, Difference, Load, PairedName, RunState, Verdict } from "../types";

/** Milliseconds as people read them. */
export function milliseconds(value: number | null | undefined): string {
  return duration(value == null ? null : value / 1000);
}

/** A figure with its unit. */
export function figure(value: number | null | undefined, unit: string): string {
  if (value == null || !Number.isFinite(value)) return "–";
  if (unit === "ms") return milliseconds(value);
  if (unit === "%") return `${trimmed(value)} %`;
  return unit && unit !== "1/s" && unit !== "/s" ? `${amount(value)} ${unit}` : amount(value);
}

/** A number of things: whole where it is whole. */
export function amount(value: number | null | undefined): string {
  return value != null && Number.isInteger(value) && Math.abs(value) < 100_000
    ? value.toLocaleString("en")
    : value && Math.abs(value) < 0.1
      ? value.toFixed(2)
      : compact(value);
}

function trimmed(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 0.1 ? 2 : 1);
}

const PER_SECOND = "requests/s";

export function loadInWords(load: Load): string {
  switch (load.kind) {
    case "closed":
      return count(load.concurrency, "user");
    case "constant":
      return `${load.rate} ${PER_SECOND}, evenly`;
    case "poisson":
      return `${load.rate} ${PER_SECOND}, at random`;
    case "batch":
      return `${load.batch} at once every ${load.delay_ms} ms`;
    case "ramp":
      return `from ${load.start} to ${load.end} ${unitOf(load.of)} in ${load.seconds} s`;
    case "stages":
      return `${count(load.stages.length, "stage")} of ${unitOf(load.of)}`;
    case "sweep":
      return load.of === "concurrency" ? `sweep to ${load.most} users` : `sweep of rates, ${load.most} users at most`;
  }
}

export function unitOf(of: string): string {
  return of === "rate" ? PER_SECOND : "users";
}

/** What a card is called where it stands beside others. */
export function titleOf(card: Pick<Card, "name" | "model" | "url">, place: number): string {
  return card.name || card.model || `Card ${place + 1}`;
}

/** What a test is called: its name, else its cards. */
export function testName(name: string, cards: readonly Pick<Card, "name" | "model" | "url">[]): string {
  return name || cards.map(titleOf).join(", ") || "Test without a name";
}

const REASONS: Record<string, string> = {
  seconds: "ended by time",
  requests: "ended by number of requests",
  errors: "ended by failures",
  tokens: "ended by output tokens",
  stages: "ended behind the last stage",
  sweep: "the sweep is complete",
  cap: "ended by a cap of the settings",
  stopped: "stopped by hand",
  aborted: "cut off by hand",
  failed: "failed",
};

export function reasonInWords(reason: string): string {
  return REASONS[reason] ?? reason;
}

export const STATES: Record<RunState, string> = {
  running: "running",
  done: "done",
  stopped: "stopped",
  failed: "failed",
};

export function verdictInWords(verdict: Verdict): string {
  const name = `${metricName(verdict.metric)}${verdict.statistic ? ` ${statisticName(verdict.statistic)}` : ""}`;
  return `${name} ${verdict.at_least ? "at least" : "at most"} ${figure(verdict.limit, verdict.unit)}`;
}

const METRICS: Record<string, string> = {
  ttft: "TTFT",
  ttft_star: "TTFT*",
  ttfo: "TTFO",
  e2e: "E2E",
  e2e_star: "E2E*",
  tpot: "TPOT",
  icl: "ICL",
  queue: "client queue time",
  error_percent: "errors",
  good_percent: "good requests",
  goodput: "goodput",
  requests_per_second: "requests/s",
  output_tokens_per_second: "output tok/s",
  tokens_per_second: "tok/s of a request",
  in_flight_mean: "in flight, mean",
  ok: "answered",
  knee_level: "knee",
  knee_throughput: "throughput at the knee",
  knee_e2e: "mean E2E at the knee",
  slo_level: "largest within objectives",
  max_concurrent: "suggested most at once",
};

export function metricName(key: string): string {
  return METRICS[key] ?? key;
}

export function statisticName(key: string): string {
  return key === "p99_9" ? "p99.9" : key;
}

/** "adds 1.8 ms to TTFT (4.1 %), 95 % between 1.2 ms and 2.4 ms". `what` is the second card. */
export function differenceInWords(name: PairedName, given: Difference, what: string): string {
  const metric = metricName(name);
  if (given.mean === null) return `Nothing to compare in ${metric}: no request was answered on both ways.`;
  if (given.mean_low === null || given.mean_high === null || given.clear === null) {
    return `${metric} differs by ${signed(given.mean, given.unit)} on average, from ${count(given.n, "pair")} only: too few to say more.`;
  }
  const between = `95 % between ${signed(given.mean_low, given.unit)} and ${signed(given.mean_high, given.unit)}`;
  if (!given.clear) {
    return `No clear difference in ${metric}: ${signed(given.mean, given.unit)} on average, ${between}, which includes none at all.`;
  }
  const share = given.baseline_mean ? ` (${trimmed((100 * Math.abs(given.mean)) / given.baseline_mean)} %)` : "";
  const size = figure(Math.abs(given.mean), given.unit);
  const range = [given.mean_low, given.mean_high].map(Math.abs).sort((a, b) => a - b);
  const plain = `95 % between ${figure(range[0], given.unit)} and ${figure(range[1], given.unit)}`;
  return given.mean > 0
    ? `${what} adds ${size} to ${metric}${share}, ${plain}.`
    : `${what} takes ${size} off ${metric}${share}, ${plain}.`;
}

export function signed(value: number, unit: string): string {
  const size = figure(Math.abs(value), unit);
  return value < 0 ? `−${size}` : `+${size}`;
}

/** "0:07", "12:30", "1:02:03". */
export function elapsed(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value: number) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
