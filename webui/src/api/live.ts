// The balancer's state as it changes, for this tab. Of all tabs of a browser one holds the stream and tells the others,
// since a browser has only six connections to a host. Where locks are missing (plain http on a LAN) every tab asks
// each two seconds. A hidden tab lets go. Lost, it counts down and tries again.

import { EventReader } from "../logic/sse";
import { type AdminClient, ApiProblem } from "./client";
import type { State } from "./types";

export type Link =
  | { kind: "connecting" }
  | { kind: "live"; by: "stream" | "tab" | "polling" }
  | { kind: "paused" }
  | { kind: "offline"; retryAt: number; problem: string };

const LOCK = "lb-live-state";
const POLL_MILLISECONDS = 2000;
/** The stream tells once a second; silence for this long means that it hangs. */
const SILENCE_MILLISECONDS = 8000;
const BACKOFF_SECONDS = [1, 2, 4, 8, 15];

export interface LiveStateOptions {
  client: AdminClient;
  onState: (state: State) => void;
  onLink: (link: Link) => void;
}

/** Runs between `start` and `stop`; both may be called any number of times. */
export class LiveState {
  private readonly options: LiveStateOptions;
  private running: AbortController | null = null;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private channel: BroadcastChannel | null = null;
  private readonly onVisibility = () => (document.hidden ? this.rest() : this.wake());

  constructor(options: LiveStateOptions) {
    this.options = options;
  }

  start(): void {
    document.addEventListener("visibilitychange", this.onVisibility);
    if (document.hidden) this.options.onLink({ kind: "paused" });
    else this.wake();
  }

  stop(): void {
    document.removeEventListener("visibilitychange", this.onVisibility);
    this.rest();
  }

  /** Try at once, whatever the countdown says. */
  retryNow(): void {
    this.rest(false);
    this.wake();
  }

  private wake(): void {
    if (this.running) return;
    clearTimeout(this.retryTimer);
    this.running = new AbortController();
    void this.run(this.running.signal);
  }

  private rest(say = true): void {
    clearTimeout(this.retryTimer);
    this.running?.abort();
    this.running = null;
    this.channel?.close();
    this.channel = null;
    if (say) this.options.onLink({ kind: "paused" });
  }

  private async run(signal: AbortSignal): Promise<void> {
    try {
      // The first look does not wait for whoever holds the stream.
      this.take(await this.options.client.get<State>("/state"), signal);
      if (sharing()) await this.share(signal);
      else await this.poll(signal);
    } catch (error) {
      this.failed(error, signal);
    }
  }

  /** Listen to the tab that streams, and stream as soon as this one may. */
  private async share(signal: AbortSignal): Promise<void> {
    const channel = new BroadcastChannel(LOCK);
    this.channel = channel;
    this.options.onLink({ kind: "live", by: "tab" });
    let leading = false;
    let heardAt = Date.now();
    channel.onmessage = ({ data }: MessageEvent<State>) => {
      heardAt = Date.now();
      if (!leading) this.take(data, signal, "tab");
    };
    // The leader may have gone with the network: then this tab looks for itself.
    const watch = setInterval(() => {
      if (leading || Date.now() - heardAt < SILENCE_MILLISECONDS) return;
      heardAt = Date.now();
      this.options.client.get<State>("/state").then(
        (state) => this.take(state, signal, "tab"),
        (error) => this.failed(error, signal),
      );
    }, 1000);
    try {
      await navigator.locks.request(LOCK, { signal }, async () => {
        leading = true;
        await this.stream(signal, (state) => channel.postMessage(state));
      });
    } finally {
      clearInterval(watch);
    }
  }

  private async stream(signal: AbortSignal, tell: (state: State) => void): Promise<void> {
    const own = new AbortController();
    const abort = () => own.abort();
    signal.addEventListener("abort", abort);
    let silence: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(abort, SILENCE_MILLISECONDS);
    };
    try {
      heard();
      const body = await this.options.client.open("/events", own.signal);
      const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
      const events = new EventReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw new ApiProblem(0, "The stream of states has ended.");
        heard();
        for (const { event, data } of events.feed(value)) {
          if (event !== "state") continue;
          const state = JSON.parse(data) as State;
          this.take(state, signal, "stream");
          tell(state);
        }
      }
    } catch (error) {
      if (own.signal.aborted && !signal.aborted) throw new ApiProblem(0, "The balancer went silent.");
      throw error;
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", abort);
      own.abort();
    }
  }

  private async poll(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
      if (signal.aborted) return;
      this.take(await this.options.client.get<State>("/state"), signal, "polling");
    }
  }

  private take(state: State, signal: AbortSignal, by?: "stream" | "tab" | "polling"): void {
    if (signal.aborted) return;
    this.failures = 0;
    if (by) this.options.onLink({ kind: "live", by });
    this.options.onState(state);
  }

  private failed(error: unknown, signal: AbortSignal): void {
    if (signal.aborted || this.running?.signal !== signal) return;
    this.rest(false);
    // Signed out: whoever signs in starts this again.
    if (error instanceof ApiProblem && error.status === 401) return;
    const seconds = BACKOFF_SECONDS[Math.min(this.failures, BACKOFF_SECONDS.length - 1)] ?? 15;
    this.failures += 1;
    const problem = error instanceof Error ? error.message : String(error);
    this.options.onLink({ kind: "offline", retryAt: Date.now() + seconds * 1000, problem });
    this.retryTimer = setTimeout(() => this.wake(), seconds * 1000);
  }
}

function sharing(): boolean {
  return "locks" in navigator && "BroadcastChannel" in globalThis;
}
