// How figures are spread: counts in bins of equal width, the few largest together in the last one.

export interface Histogram {
  /** Counts, from the smallest values to the largest. */
  bins: number[];
  /** Where the first bin begins, and where the last but the largest values end. */
  low: number;
  high: number;
  /** Values above `high`, counted into the last bin. */
  beyond: number;
}

const BINS = 24;
/** So much of the values decides on the width; a single slow one would leave everything else in one bin. */
const SHARE = 0.99;

/** Null where there are fewer than two different values. */
export function histogramOf(values: readonly number[], bins = BINS): Histogram | null {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  const low = sorted[0];
  const high = sorted[Math.ceil(sorted.length * SHARE) - 1];
  if (low === undefined || high === undefined || high <= low) return null;
  const counts = new Array<number>(bins).fill(0);
  for (const value of sorted) {
    const bin = Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins));
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  return { bins: counts, low, high, beyond: sorted.filter((value) => value > high).length };
}
