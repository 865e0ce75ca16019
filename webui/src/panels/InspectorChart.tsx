// The last 15 minutes of one endpoint: its tokens per second, and dashed what they would be at its target.

import { useEffect, useState } from "react";
import type { SeriesView } from "../api/types";
import { compact } from "../logic/format";
import { pathOf, type RecentLines, recentLines } from "../logic/recent";
import { useEditor, useNumbers } from "../state/context";

const SECONDS = 900;
const PAUSE_MILLISECONDS = 10_000;
const WIDTH = 286;
const HEIGHT = 84;

/** `target`: its part of all tokens by the settings, in percent; null: the mode has none. */
export function RecentChart({ id, target }: { id: number; target: number | null }) {
  const series = useSeries(id);
  const now = useNumbers((state) => state.numbers.endpoints.get(id)?.tokens_per_second ?? 0);
  const lines = series && recentLines(series.own, series.all, SECONDS, target);
  return (
    <figure className="recent">
      <figcaption className="row spread">
        <span className="small muted">Last 15 minutes, tok/s</span>
        {target !== null && (
          <span className="small muted row recent-legend">
            <svg width="18" height="4" aria-hidden="true">
              <path className="target" d="M0 2H18" />
            </svg>
            at its target
          </span>
        )}
      </figcaption>
      <Chart lines={lines} now={now} />
    </figure>
  );
}

function Chart({ lines, now }: { lines: RecentLines | null; now: number }) {
  const most = lines?.most ?? 1;
  const label = lines
    ? `Tokens per second over the last 15 minutes: now ${compact(now)}, at most ${compact(Math.max(...lines.actual))}`
    : "Tokens per second over the last 15 minutes: loading";
  const line = lines ? pathOf(lines.actual, most, WIDTH, HEIGHT) : "";
  return (
    <svg className="recent-chart" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label}>
      <path className="base" d={`M0 ${HEIGHT - 2}H${WIDTH}`} />
      {line && <path className="area" d={`${line}L${WIDTH} ${HEIGHT - 2}L0 ${HEIGHT - 2}Z`} />}
      {lines && lines.target.length > 0 && <path className="target" d={pathOf(lines.target, most, WIDTH, HEIGHT)} />}
      {line && <path className="actual" d={line} />}
      <text x="6" y="14">
        {lines ? compact(most) : ""}
      </text>
    </svg>
  );
}

function useSeries(id: number): { own: SeriesView; all: SeriesView } | null {
  const editor = useEditor();
  const [series, setSeries] = useState<{ id: number; own: SeriesView; all: SeriesView } | null>(null);
  useEffect(() => {
    let gone = false;
    const look = async () => {
      if (document.hidden || editor.numbers.getState().frozen) return;
      // A chart that fails says nothing: the banner tells of a lost line.
      const found = await Promise.all([
        editor.client.get<SeriesView>(`/series?seconds=${SECONDS}&endpoint=${id}`),
        editor.client.get<SeriesView>(`/series?seconds=${SECONDS}`),
      ]).catch(() => null);
      if (found && !gone) setSeries({ id, own: found[0], all: found[1] });
    };
    void look();
    const timer = setInterval(() => void look(), PAUSE_MILLISECONDS);
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, [editor, id]);
  return series?.id === id ? series : null;
}
