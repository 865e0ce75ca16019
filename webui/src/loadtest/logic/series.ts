// The points of a run as they come: rows from a place on replace what was there; several cards on one axis of time.

import type { Line } from "../../logic/series";
import type { Row, SeriesPart } from "../types";

/** What is known of one card's series. */
export interface Series {
  columns: readonly string[];
  stepSeconds: number;
  generation: number;
  rows: readonly Row[];
}

export const NO_SERIES: Series = { columns: [], stepSeconds: 1, generation: 0, rows: [] };

/** Rows up to `from` stay, unless the points were joined meanwhile: then all that came is all there is. */
export function merged(known: Series, part: SeriesPart): Series {
  const kept = part.generation === known.generation ? known.rows.slice(0, part.from) : [];
  return {
    columns: part.columns,
    stepSeconds: part.step_seconds,
    generation: part.generation,
    rows: part.rows.length || kept.length !== known.rows.length ? [...kept, ...part.rows] : known.rows,
  };
}

export function column(series: Series, name: string): Line {
  const place = series.columns.indexOf(name);
  return place < 0 ? [] : series.rows.map((row) => row[place] ?? null);
}

export interface Joined {
  /** Seconds since the start of each card, every one that any card has. */
  at: number[];
  /** Of each line that was asked for, as long as `at`. */
  values: Line[];
}

/** One column of each of several cards, on one axis. */
export function joined(wanted: readonly { series: Series; column: string }[]): Joined {
  const lines = wanted.map(({ series, column: name }) => {
    const times = column(series, "seconds");
    const values = column(series, name);
    return new Map(times.map((at, place) => [at ?? 0, values[place] ?? null]));
  });
  const at = [...new Set(lines.flatMap((line) => [...line.keys()]))].sort((a, b) => a - b);
  return { at, values: lines.map((line) => at.map((each) => line.get(each) ?? null)) };
}
