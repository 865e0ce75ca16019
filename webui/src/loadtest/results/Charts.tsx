// A test by time: of one card in detail, or of all cards side by side. Pausing holds the picture, not the test.

import { useMemo, useState } from "react";
import { Button } from "../../design/parts";
import { type ChartLine, TimeChart } from "../../design/TimeChart";
import { compact } from "../../logic/format";
import { usePage, usePageState } from "../context";
import { joined, type Series } from "../logic/series";
import { elapsed, milliseconds, titleOf } from "../logic/words";
import type { Watched } from "../state/watching";
import type { Load } from "../types";

interface Picture {
  title: string;
  unit: string;
  format: (value: number) => string;
  lines: (ChartLine & { column: string; card: number })[];
}

const COLOURS = ["--accent", "--warn", "--good", "--busy", "--bad", "--text-2"];
const SHORTEST_SECONDS = 10;

export function Charts({ run, running }: { run: Watched; running: boolean }) {
  const page = usePage();
  const paused = usePageState((state) => state.paused);
  const [held, setHeld] = useState<readonly Series[]>([]);
  const [chosen, setChosen] = useState<number | null>(null);
  const { cards } = run.result;
  const series = paused && running ? held : run.series;
  const one = cards.length === 1 ? 0 : chosen;
  const titles = cards.map(({ card }, place) => titleOf(card, place));
  const open = cards[one ?? 0]?.card.load;
  const pictures = useMemo(
    () => (one === null ? ofAll(titles) : ofOne(one, open !== undefined && hasSchedule(open))),
    // Titles and loads are those of the run: they change with it alone.
    [run.result, one],
  );
  const pause = () => {
    setHeld(run.series);
    page.store.setState({ paused: !paused });
  };
  return (
    <section className="card result-part" aria-labelledby="charts-title">
      <div className="row wrap">
        <h2 id="charts-title" className="grow">
          By time
        </h2>
        {cards.length > 1 && (
          <select
            className="input chart-choice"
            aria-label="Card of the charts"
            value={chosen ?? ""}
            onChange={({ target }) => setChosen(target.value === "" ? null : Number(target.value))}
          >
            <option value="">All cards</option>
            {titles.map((title, place) => (
              <option key={title + String(place)} value={place}>
                {title}
              </option>
            ))}
          </select>
        )}
        {running && (
          <Button tight icon={paused ? "play" : "pause"} aria-pressed={paused} onClick={pause}>
            {paused ? "Go on" : "Pause"}
          </Button>
        )}
      </div>
      <div className="run-charts">
        {pictures.map((picture) => (
          <One key={`${one}-${picture.title}`} picture={picture} series={series} />
        ))}
      </div>
    </section>
  );
}

function One({ picture, series }: { picture: Picture; series: readonly Series[] }) {
  const { at, values } = useMemo(() => {
    const wanted = picture.lines.flatMap(({ card, column }) => {
      const found = series[card];
      return found ? [{ series: found, column }] : [];
    });
    return joined(wanted);
  }, [picture, series]);
  return (
    <TimeChart
      title={picture.title}
      unit={picture.unit}
      lines={picture.lines}
      format={picture.format}
      at={at}
      values={values}
      span={Math.max(SHORTEST_SECONDS, at.at(-1) ?? 0)}
      sync="run-charts"
      moment={elapsed}
    />
  );
}

function hasSchedule(load: Load): boolean {
  return !["closed", "sweep"].includes(load.kind) && !("of" in load && load.of === "concurrency");
}

function ofOne(card: number, scheduled: boolean): Picture[] {
  const line = (label: string, colour: string, column: string, more: Partial<ChartLine> = {}) => ({
    label,
    colour,
    column,
    card,
    ...more,
  });
  return [
    {
      title: "Output tokens",
      unit: "per second",
      format: compact,
      lines: [line("out", "--accent", "output_tokens_per_second", { filled: true })],
    },
    {
      title: "Requests",
      unit: "per second",
      format: compact,
      lines: [
        ...(scheduled ? [line("planned", "--text-2", "planned_per_second")] : []),
        line("sent", "--busy", "offered_per_second"),
        line("answered", "--accent", "ok_per_second"),
      ],
    },
    {
      title: "In flight",
      unit: "requests",
      format: compact,
      lines: [line("now", "--accent", "in_flight", { filled: true })],
    },
    {
      title: "TTFT",
      unit: "of each second",
      format: milliseconds,
      lines: [line("p50", "--accent", "ttft_p50_ms", { points: true }), line("p95", "--busy", "ttft_p95_ms")],
    },
    {
      title: "E2E",
      unit: "of each second",
      format: milliseconds,
      lines: [line("p50", "--accent", "e2e_p50_ms", { points: true }), line("p95", "--busy", "e2e_p95_ms")],
    },
    { title: "Errors", unit: "per second", format: compact, lines: [line("failed", "--bad", "failed_per_second")] },
  ];
}

function ofAll(titles: readonly string[]): Picture[] {
  const shown = titles.slice(0, COLOURS.length);
  const each = (column: string) =>
    shown.map((label, card) => ({ label, colour: COLOURS[card] ?? "--accent", column, card }));
  return [
    { title: "Output tokens", unit: "per second", format: compact, lines: each("output_tokens_per_second") },
    { title: "Answers", unit: "per second", format: compact, lines: each("ok_per_second") },
    { title: "In flight", unit: "requests", format: compact, lines: each("in_flight") },
    { title: "TTFT p95", unit: "of each second", format: milliseconds, lines: each("ttft_p95_ms") },
    { title: "E2E p95", unit: "of each second", format: milliseconds, lines: each("e2e_p95_ms") },
    { title: "Errors", unit: "per second", format: compact, lines: each("failed_per_second") },
  ];
}
