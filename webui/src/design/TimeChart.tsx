// One chart over time: uPlot draws it, the legend tells the values at the cursor, a line below sums it up in words.

import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { type Line, summaryInWords } from "../logic/series";
import "./chart.css";

export interface ChartLine {
  label: string;
  /** The name of a token, as "--accent". */
  colour: string;
  filled?: boolean;
  /** Values stand apart: gaps stay open. */
  points?: boolean;
}

interface Props {
  title: string;
  unit: string;
  lines: readonly ChartLine[];
  format: (value: number) => string;
  at: number[];
  /** Of each line, as long as `at`. */
  values: Line[];
  /** How many seconds the axis shows. */
  span: number;
  /** Charts of one name move their cursors together. */
  sync: string;
  /** How a point of `at` is told; without it `at` is in Unix seconds and told as the time of day. */
  moment?: (at: number) => string;
}

const HEIGHT_PIXELS = 132;

export function TimeChart({ title, unit, lines, format, at, values, span, sync, moment = timeOf }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [cursor, setCursor] = useState<number | null>(null);
  const theme = useTheme();
  const data = useRef<uPlot.AlignedData>([[]]);
  data.current = [at, ...values];

  // Made anew with the theme: colours are read from the tokens once.
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const axis = moment === timeOf ? minuteOf : moment;
    const options = optionsOf({ lines, format, axis, sync }, element.clientWidth, setCursor);
    const made = new uPlot(options, data.current, element);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT_PIXELS }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [theme, title]);

  useEffect(() => {
    const made = plot.current;
    if (!made) return;
    const newest = moment === timeOf ? (at.at(-1) ?? Math.floor(Date.now() / 1000)) : Math.max(at.at(-1) ?? 0, span);
    made.batch(() => {
      made.setData(data.current, false);
      made.setScale("x", { min: newest - span, max: newest });
    });
  }, [at, theme, title]);

  const shown = cursor !== null && cursor < at.length ? cursor : at.length - 1;
  return (
    <figure className="chart">
      <figcaption className="chart-head">
        <h3>{title}</h3>
        <span className="small muted grow">{unit}</span>
        <span className="small muted">
          {cursor !== null && at[shown] ? moment(at[shown]) : moment === timeOf ? "now" : ""}
        </span>
        {lines.map((each, place) => (
          <span key={each.label} className={`chart-value key${each.colour}`}>
            {each.label} <strong>{words(values[place]?.[shown], format)}</strong>
          </span>
        ))}
      </figcaption>
      <div ref={box} className="chart-box" aria-hidden="true" />
      <ul className="chart-summary small muted">
        {lines.map((each, place) => (
          <li key={each.label}>
            {lines.length > 1 && `${each.label}: `}
            {summaryInWords(values[place] ?? [], format)}
          </li>
        ))}
      </ul>
    </figure>
  );
}

function words(value: number | null | undefined, format: (value: number) => string): string {
  return value == null ? "–" : format(value);
}

function timeOf(at: number): string {
  const date = new Date(at * 1000);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((each) => String(each).padStart(2, "0")).join(":");
}

/** The theme of the page, as it changes. */
function useTheme(): string {
  const [theme, setTheme] = useState(() => document.documentElement.dataset.theme ?? "");
  useEffect(() => {
    const observer = new MutationObserver(() => setTheme(document.documentElement.dataset.theme ?? ""));
    observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => observer.disconnect();
  }, []);
  return theme;
}

function minuteOf(at: number): string {
  return timeOf(at).slice(0, 5);
}

interface Drawing {
  lines: readonly ChartLine[];
  format: (value: number) => string;
  axis: (at: number) => string;
  sync: string;
}

function optionsOf(
  { lines, format, axis: moment, sync }: Drawing,
  width: number,
  onCursor: (place: number | null) => void,
): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const token = (name: string) => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: token("--text-2"),
    font: `11px ${token("--font")}`,
    grid: { stroke: token("--line"), width: 1 },
    ticks: { show: false },
    border: { show: false },
  };
  return {
    width,
    height: HEIGHT_PIXELS,
    padding: [8, 20, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: sync }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (_, __, most) => [0, nice(most)] } },
    axes: [
      { ...axis, size: 24, space: 72, values: (_, splits) => splits.map(moment) },
      { ...axis, size: 56, space: 28, values: (_, splits) => splits.map((each) => (each === 0 ? "0" : format(each))) },
    ],
    series: [{}, ...lines.map((each) => seriesOf(each, token))],
    hooks: { setCursor: [(made) => onCursor(made.cursor.idx ?? null)] },
  };
}

function seriesOf(line: ChartLine, token: (name: string) => string): uPlot.Series {
  const stroke = token(line.colour);
  return {
    stroke,
    width: 1.5,
    ...(line.filled ? { fill: token("--accent-soft") } : {}),
    points: { show: line.points === true, size: 3, fill: stroke },
    spanGaps: false,
  };
}

/** A top for the axis that does not follow every small change. */
function nice(most: number | null): number {
  if (!most || most <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(most));
  const step = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((each) => each * size >= most * 1.05) ?? 12;
  return step * size;
}
