// The last minutes of an endpoint as lines: its tokens per second, and what they would be at its target.

import type { SeriesView } from "../api/types";

export interface RecentLines {
  /** Tokens per second, oldest first, one point every `stepSeconds`. */
  actual: number[];
  /** The part of all traffic it should get; empty where there is no target. */
  target: number[];
  stepSeconds: number;
  most: number;
}

const POINTS = 60;

/** `targetPercent`: its part of all tokens by the settings; null: the mode has none. */
export function recentLines(
  own: SeriesView,
  all: SeriesView,
  seconds: number,
  targetPercent: number | null,
): RecentLines {
  const stepSeconds = seconds / POINTS;
  // By the server's clock: this browser's may differ.
  const now = (all.at.at(-1) ?? own.at.at(-1) ?? 0) + 1;
  const actual = averaged(own, seconds, now);
  const target =
    targetPercent === null ? [] : averaged(all, seconds, now).map((value) => (value * targetPercent) / 100);
  return { actual, target, stepSeconds, most: Math.max(1, ...actual, ...target) };
}

/** Seconds without traffic may be left out by the server: they count as nothing. `now` in seconds of the epoch. */
function averaged(series: SeriesView, seconds: number, now: number): number[] {
  const step = seconds / POINTS;
  const sums = new Array<number>(POINTS).fill(0);
  series.at.forEach((at, place) => {
    const bin = Math.floor((at - (now - seconds)) / step);
    if (bin < 0 || bin >= POINTS) return;
    sums[bin] = (sums[bin] ?? 0) + (series.prompt_tokens[place] ?? 0) + (series.completion_tokens[place] ?? 0);
  });
  return sums.map((sum) => Math.max(0, sum) / step);
}

/** An SVG path through the points, from the left edge to the right. */
export function pathOf(points: readonly number[], most: number, width: number, height: number): string {
  if (points.length < 2) return "";
  const step = width / (points.length - 1);
  return points
    .map((value, place) => {
      const y = height - 2 - (Math.min(value, most) / most) * (height - 8);
      return `${place ? "L" : "M"}${(place * step).toFixed(1)} ${y.toFixed(1)}`;
    })
    .join("");
}
