// One run as it goes on: everything at first, then what is new. Lost, it comes back by itself and has everything again.

import { ApiProblem } from "../../api/http";
import { EventReader } from "../../logic/sse";
import type { LoadTesterClient } from "../api";
import { merged, NO_SERIES, type Series } from "../logic/series";
import type { RunResult, Tick } from "../types";

/** A run on the page. `tick` is null before the first and after the end. */
export interface Watched {
  result: RunResult;
  tick: Tick | null;
  series: readonly Series[];
  /** The line is lost; it is being tried again. */
  lost: boolean;
}

export type RunEvent = { event: "run" | "end"; value: RunResult } | { event: "tick"; value: Tick };

/** The run after something came. */
export function after(known: Watched | null, { event, value }: RunEvent): Watched | null {
  if (event !== "tick") {
    const series = value.cards.map((card) => merged(NO_SERIES, card.series));
    return { result: value, tick: null, series, lost: false };
  }
  if (!known || known.result.id !== value.id) return known;
  const series = value.cards.map((card, place) => merged(known.series[place] ?? NO_SERIES, card.series));
  return { ...known, tick: value, series, lost: false };
}

const RETRY_MILLISECONDS = 1500;
/** A tick comes each second; silence for this long means that the line hangs. */
const SILENCE_MILLISECONDS = 8000;

export interface WatchOptions {
  client: LoadTesterClient;
  onEvent: (event: RunEvent) => void;
  onLost: () => void;
  /** There is no such run. */
  onGone: (problem: ApiProblem) => void;
}

/** Watches one run at a time. */
export class Watcher {
  private readonly options: WatchOptions;
  private running: AbortController | null = null;

  constructor(options: WatchOptions) {
    this.options = options;
  }

  watch(id: string): void {
    this.stop();
    const running = new AbortController();
    this.running = running;
    void this.follow(id, running.signal);
  }

  stop(): void {
    this.running?.abort();
    this.running = null;
  }

  private async follow(id: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (await this.listen(id, signal)) return;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiProblem && !error.unreachable) {
          if (error.status !== 401) this.options.onGone(error);
          return;
        }
      }
      if (signal.aborted) return;
      this.options.onLost();
      await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
    }
  }

  /** Whether the run came to its end. */
  private async listen(id: string, signal: AbortSignal): Promise<boolean> {
    const own = new AbortController();
    const abort = () => own.abort();
    signal.addEventListener("abort", abort);
    let silence = setTimeout(abort, SILENCE_MILLISECONDS);
    try {
      const body = await this.options.client.open(`/runs/${encodeURIComponent(id)}/live`, own.signal);
      const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
      const events = new EventReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return false;
        clearTimeout(silence);
        silence = setTimeout(abort, SILENCE_MILLISECONDS);
        for (const { event, data } of events.feed(value)) {
          if (signal.aborted) return true;
          this.options.onEvent({ event, value: JSON.parse(data) } as RunEvent);
          if (event === "end") return true;
        }
      }
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", abort);
      own.abort();
    }
  }
}
