// What the charts draw: points of the series put together to steps of steady borders, as rates, and a summary in words.

import type { SeriesView } from "../api/types";

export type Range = "minutes" | "day";

export interface RangeOption {
  label: string;
  /** How far it looks back, and what one point of the chart stands for. */
  seconds: number;
  stepSeconds: number;
  stepLabel: string;
  refreshSeconds: number;
}

export const RANGES: Record<Range, RangeOption> = {
  minutes: { label: "15 minutes", seconds: 900, stepSeconds: 5, stepLabel: "5 seconds", refreshSeconds: 2 },
  day: { label: "24 hours", seconds: 86_400, stepSeconds: 300, stepLabel: "5 minutes", refreshSeconds: 30 },
};

export function seriesPath(range: Range, endpoint: number | null): string {
  const query = new URLSearchParams(range === "minutes" ? { seconds: "900" } : { minutes: "1440" });
  if (endpoint !== null) query.set("endpoint", String(endpoint));
  return `/series?${query}`;
}

export type Line = (number | null)[];

export interface Points {
  /** Unix seconds at which each step begins. */
  at: number[];
  promptTokens: Line;
  completionTokens: Line;
  requests: Line;
  failures: Line;
  /** Seconds to the first byte; of whole answers where only those were kept. Null without any. */
  wait: Line;
}

interface Step {
  promptTokens: number;
  completionTokens: number;
  requests: number;
  failures: number;
  waitSum: number;
  waitWeight: number;
}

/** Rates by the second over steps that begin at multiples of `stepSeconds`, so that points stay where they are.
 *  Steps that have not ended are left out: half a step looks like a fall. */
export function pointsOf(view: SeriesView, stepSeconds: number): Points {
  const steps = new Map<number, Step>();
  view.at.forEach((at, place) => {
    const begin = Math.floor(at / stepSeconds) * stepSeconds;
    const step = steps.get(begin) ?? {
      promptTokens: 0,
      completionTokens: 0,
      requests: 0,
      failures: 0,
      waitSum: 0,
      waitWeight: 0,
    };
    steps.set(begin, step);
    const requests = view.requests[place] ?? 0;
    step.promptTokens += view.prompt_tokens[place] ?? 0;
    step.completionTokens += view.completion_tokens[place] ?? 0;
    step.requests += requests;
    step.failures += view.failures[place] ?? 0;
    const wait = waitSeconds(view, place);
    if (wait !== null) {
      step.waitSum += wait * Math.max(1, requests);
      step.waitWeight += Math.max(1, requests);
    }
  });
  const oldest = view.at[0] ?? 0;
  const running = view.at.at(-1) ?? 0;
  const whole = [...steps].filter(([begin]) => begin >= oldest && begin + stepSeconds <= running);
  // A correction may exceed what was counted in the same second.
  const rate = (value: number) => Math.max(0, value / stepSeconds);
  return {
    at: whole.map(([begin]) => begin),
    promptTokens: whole.map(([, step]) => rate(step.promptTokens)),
    completionTokens: whole.map(([, step]) => rate(step.completionTokens)),
    requests: whole.map(([, step]) => rate(step.requests)),
    failures: whole.map(([, step]) => rate(step.failures)),
    wait: whole.map(([, step]) => (step.waitWeight ? step.waitSum / step.waitWeight : null)),
  };
}

function waitSeconds(view: SeriesView, place: number): number | null {
  const first = view.ttfb_seconds[place] ?? null;
  if (first !== null) return first;
  const whole = view.latency_ms[place] ?? null;
  return whole === null ? null : whole / 1000;
}

export interface Summary {
  least: number;
  mean: number;
  most: number;
}

/** Null where there is nothing to sum up. */
export function summaryOf(line: Line): Summary | null {
  const values = line.filter((each): each is number => each !== null);
  if (!values.length) return null;
  return {
    least: Math.min(...values),
    mean: values.reduce((sum, each) => sum + each, 0) / values.length,
    most: Math.max(...values),
  };
}

export function summaryInWords(line: Line, format: (value: number) => string): string {
  const summary = summaryOf(line);
  if (!summary) return "no values";
  return `min ${format(summary.least)} · mean ${format(summary.mean)} · max ${format(summary.most)}`;
}

/** Whether anything happened at all. */
export function isEmpty(points: Points): boolean {
  return points.requests.every((each) => !each) && points.failures.every((each) => !each);
}
