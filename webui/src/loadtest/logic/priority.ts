// Whether the target prefers requests of a higher priority: cards that differ in it, held beside each other.

import { milliseconds } from "./words";

/** As much as this, in either direction, may be chance. */
const SAME_PART = 0.1;

export interface Prioritised {
  card: { priority: number | null };
  summary: { latencies: { e2e: { p50: number | null } } } | null;
}

/** In a sentence; null where there are no two priorities to compare. The lower the number, the higher the priority. */
export function priorityCheck(outcomes: readonly Prioritised[]): string | null {
  const known = outcomes.flatMap(({ card, summary }) => {
    const p50 = summary?.latencies.e2e.p50;
    return card.priority === null || p50 == null ? [] : [{ priority: card.priority, p50 }];
  });
  const priorities = known.map((each) => each.priority);
  const [highest, lowest] = [Math.min(...priorities), Math.max(...priorities)];
  if (!known.length || highest === lowest) return null;
  const mean = (priority: number) => {
    const of = known.filter((each) => each.priority === priority);
    return of.reduce((sum, each) => sum + each.p50, 0) / of.length;
  };
  const [first, last] = [mean(highest), mean(lowest)];
  const figures = `E2E p50 ${milliseconds(first)} at priority ${highest} (highest), ${milliseconds(last)} at ${lowest} (lowest)`;
  return `${verdict(first, last)}: ${figures}.`;
}

function verdict(first: number, last: number): string {
  if (last > first * (1 + SAME_PART)) return "The higher priority was served faster";
  if (first > last * (1 + SAME_PART)) return "The higher priority was served slower";
  return "Priority made no difference";
}
