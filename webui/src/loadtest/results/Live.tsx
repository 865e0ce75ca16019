// The numbers of this second, card by card, and what can be done with each while it runs.

import { Button } from "../../design/parts";
import { compact } from "../../logic/format";
import { usePage } from "../context";
import { column } from "../logic/series";
import { elapsed, loadInWords, milliseconds, reasonInWords, titleOf } from "../logic/words";
import type { Watched } from "../state/watching";
import type { Card, LiveCard, Phase } from "../types";
import { Errors } from "./Errors";

const PHASES: Record<Phase, string> = {
  waiting: "waits for its turn",
  warmup: "warms up, not measured yet",
  running: "being measured",
  draining: "sends no more, waits for the last answers",
  done: "is over",
};

export function Live({ run }: { run: Watched }) {
  const { tick, result } = run;
  if (!tick) return <p className="note">Starting …</p>;
  return (
    <section className="live-cards" aria-label="Now">
      {tick.cards.map((live, place) => {
        const card = result.cards[place]?.card;
        const series = run.series[place];
        const last = (name: string) => (series ? (column(series, name).at(-1) ?? null) : null);
        if (!card) return null;
        return <LiveOne key={place} live={live} card={card} place={place} last={last} />;
      })}
    </section>
  );
}

function LiveOne({
  live,
  card,
  place,
  last,
}: {
  live: LiveCard;
  card: Card;
  place: number;
  last: (name: string) => number | null;
}) {
  const page = usePage();
  const over = live.phase === "done";
  return (
    <section className="card live-card" aria-label={`Now: ${titleOf(card, place)}`} data-testid="live-card">
      <header className="row">
        <h2 className="truncate grow">{titleOf(card, place)}</h2>
        {!over && (
          <>
            <Button tight icon="sliders" onClick={() => page.open({ kind: "change", place })}>
              Change …
            </Button>
            <Button tight onClick={() => void page.stop({ place })}>
              Stop
            </Button>
          </>
        )}
      </header>
      <p className="small muted">
        {loadInWords(card.load)} · {over ? reasonInWords(live.reason) : PHASES[live.phase]} ·{" "}
        {elapsed(live.elapsed_seconds)}
        {progress(live, card)}
      </p>
      <dl className="live-figures">
        <Figure name="output tok/s" value={compact(last("output_tokens_per_second"))} />
        <Figure name="answers/s" value={compact(last("ok_per_second"))} />
        <Figure name="in flight" value={String(live.in_flight)} />
        <Figure name="TTFT p50" value={milliseconds(live.ttft.p50)} />
        <Figure name="TTFT p95" value={milliseconds(live.ttft.p95)} />
        <Figure name="answered" value={live.ok.toLocaleString("en")} testid="answered" />
        <Figure name="failed" value={live.failed.toLocaleString("en")} bad={live.failed > 0} />
        {live.waiting > 0 && <Figure name="waiting to leave" value={String(live.waiting)} bad />}
      </dl>
      {live.errors.length > 0 && <Errors errors={live.errors} />}
    </section>
  );
}

function progress(live: LiveCard, card: Card): string {
  const { requests, seconds } = card.stop;
  if (requests) return ` · ${live.sent.toLocaleString("en")} of ${requests.toLocaleString("en")} requests`;
  return seconds ? ` of ${elapsed(seconds)}` : "";
}

function Figure({ name, value, bad, testid }: { name: string; value: string; bad?: boolean; testid?: string }) {
  return (
    <div>
      <dd className={bad ? "tone-bad" : ""} data-testid={testid}>
        {value}
      </dd>
      <dt className="small muted">{name}</dt>
    </div>
  );
}
