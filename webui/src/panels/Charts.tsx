// Tokens, requests and times by time, for all endpoints or one. Fetched by the page only when somebody looks.

import { useEffect, useMemo, useState } from "react";
import type { SeriesView } from "../api/types";
import { Button } from "../design/parts";
import { compact, duration } from "../logic/format";
import { isEmpty, type Line, type Points, pointsOf, RANGES, type Range, seriesPath } from "../logic/series";
import { useEditor, useNumbers, useUi } from "../state/context";
import { selectedEndpoints } from "../state/ui";
import "./drawer.css";
import "./Charts.css";
import { type ChartLine, TimeChart } from "../design/TimeChart";
import { EndpointFilter, PanelScroll } from "./pieces";
import { useEvery, useLoaded } from "./useLoaded";

interface Figure {
  title: string;
  unit: string;
  lines: (ChartLine & { of: (points: Points) => Line })[];
  format: (value: number) => string;
}

const figures = (range: Range): readonly Figure[] => [
  {
    title: "Tokens",
    unit: "per second",
    format: compact,
    lines: [
      { label: "out", colour: "--accent", filled: true, of: (points) => points.completionTokens },
      { label: "in", colour: "--busy", of: (points) => points.promptTokens },
    ],
  },
  {
    title: "Requests",
    unit: "per second",
    format: compact,
    lines: [
      { label: "all", colour: "--accent", filled: true, of: (points) => points.requests },
      { label: "failed", colour: "--bad", of: (points) => points.failures },
    ],
  },
  {
    title: range === "minutes" ? "First byte" : "Whole answers",
    unit: "mean time",
    format: duration,
    lines: [{ label: "time", colour: "--accent", points: true, of: (points) => points.wait }],
  },
];

export function Charts() {
  useSelectionAsEndpoint();
  const [range, setRange] = useState<Range>("minutes");
  const endpoint = useUi((state) => state.drawerEndpoint);
  const frozen = useNumbers((state) => state.frozen);
  const path = seriesPath(range, endpoint);
  const { value, from, problem, reload } = useLoaded<SeriesView>(path);
  const { stepSeconds, stepLabel, refreshSeconds, label } = RANGES[range];
  useEvery(refreshSeconds, () => {
    if (!frozen) reload();
  });
  const points = useMemo(
    () => (value && from === path ? pointsOf(value, stepSeconds) : null),
    [value, from, path, stepSeconds],
  );
  return (
    <div className="panel">
      <div className="panel-tools">
        <fieldset className="segments chart-ranges">
          <legend className="visually-hidden">Range</legend>
          {(Object.keys(RANGES) as Range[]).map((each) => (
            <Button key={each} aria-pressed={each === range} onClick={() => setRange(each)}>
              {RANGES[each].label}
            </Button>
          ))}
        </fieldset>
        <EndpointFilter />
        <div className="grow" />
        <span className="small muted">
          {points && isEmpty(points) ? `No traffic in the last ${label}` : `each point is ${stepLabel}`}
        </span>
      </div>
      {problem && <p className="note warn panel-note">{problem}</p>}
      <PanelScroll label="Charts by time" className="charts">
        {figures(range).map(({ title, unit, lines, format }) => (
          <TimeChart
            key={title}
            title={title}
            unit={unit}
            lines={lines}
            format={format}
            at={points?.at ?? NOTHING}
            sync="drawer-charts"
            values={points ? lines.map((each) => each.of(points)) : lines.map(() => NOTHING)}
            span={RANGES[range].seconds}
          />
        ))}
      </PanelScroll>
    </div>
  );
}

const NOTHING: number[] = [];

/** Whoever selects one endpoint while charts are open wants to see that one. */
function useSelectionAsEndpoint(): void {
  const editor = useEditor();
  const selected = useUi((state) => {
    const [id, ...others] = selectedEndpoints(state.selection);
    return others.length ? null : (id ?? null);
  });
  useEffect(() => {
    if (selected !== null) editor.ui.setState({ drawerEndpoint: selected });
  }, [editor, selected]);
}
