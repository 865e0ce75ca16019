// The load tester's API as docs/load-testing.md tells it: what the page reads of it.

export type LoadKind = "closed" | "constant" | "poisson" | "batch" | "ramp" | "stages" | "sweep";
export type Of = "concurrency" | "rate";
export type Arrivals = "constant" | "poisson";

export interface Stage {
  seconds: number;
  end: number;
  start?: number | null;
}

export type Load =
  | { kind: "closed"; concurrency: number }
  | { kind: "constant" | "poisson"; rate: number; max_in_flight: number }
  | { kind: "batch"; batch: number; delay_ms: number; max_in_flight: number }
  | {
      kind: "ramp";
      of: Of;
      start: number;
      end: number;
      seconds: number;
      arrivals: Arrivals;
      max_in_flight: number;
    }
  | { kind: "stages"; of: Of; stages: Stage[]; arrivals: Arrivals; max_in_flight: number }
  | { kind: "sweep"; of: Of; most: number; steps: number; step_seconds: number; arrivals: Arrivals };

export type Prompt =
  | { kind: "fixed"; text: string }
  | { kind: "synthetic"; lengths: string }
  | { kind: "set"; set: string };

export interface Card {
  name: string;
  url: string;
  model: string;
  system_prompt: string;
  prompt: Prompt;
  load: Load;
  stop: { seconds: number; requests: number; errors: number; tokens: number };
  warmup_seconds: number;
  drain_seconds: number;
  timeout_seconds: number;
  max_tokens: number;
  temperature: number | null;
  priority: number | null;
  stream: boolean;
  include_usage: boolean;
  ignore_eos: boolean;
  verify_tls: boolean;
  unique_prefix: boolean;
  shared_prefix_tokens: number;
  shared_prefix_groups: number;
  seed: number;
  slo: Record<string, string | number>;
}

export interface SessionView {
  csrf_token: string | null;
  needs_token: boolean;
}

export interface About {
  version: string;
  /** Empty: at the address of the target. */
  editor_url: string;
  /** How many tests the history keeps; 0: all. */
  keep_runs: number;
  host_rewrites: { typed: string; connects_to: string }[];
  card: Card;
}

export interface Definition {
  key: string;
  name: string;
  unit: string;
  formula: string;
  also: string;
}

export interface Preset {
  id: string;
  name: string;
  question: string;
  cards: Card[];
  paired?: boolean;
}

export interface Profile {
  name: string;
  saved_at: string;
  cards: Card[];
  paired: boolean;
  notes: string;
}

export interface HeldKey {
  id: string;
  label: string;
  preview: string;
}

export interface PromptSetView {
  id: string;
  name: string;
  lines: number;
}

export interface Models {
  ok: boolean;
  models: string[];
  status: number;
  detail: string;
  seconds: number;
}

export interface Trial {
  ok: boolean;
  status: number;
  class: string;
  meaning: string;
  detail: string;
  advice: string;
  ttft_ms: number | null;
  e2e_ms: number | null;
  input_tokens: number | null;
  output_tokens: number | null;
  token_source: string;
  endpoint: string;
}

export interface Distribution {
  unit: string;
  n: number;
  mean: number | null;
  stddev: number | null;
  min: number | null;
  max: number | null;
  p50: number | null;
  p90: number | null;
  p95: number | null;
  p99: number | null;
  p99_9: number | null;
  p99_is_firm: boolean;
  exact: boolean;
}

export interface ErrorGroup {
  class: string;
  meaning: string;
  sample: string;
  count: number;
}

export interface EndpointPart {
  endpoint: string;
  requests: number;
  share_percent: number;
  ok: number;
  failed: number;
  attempts: number;
  failovers: number;
  input_tokens: number;
  output_tokens: number;
  ttft: Distribution;
  e2e: Distribution;
  tpot: Distribution;
}

export type LatencyName = "ttft" | "ttft_star" | "ttfo" | "e2e" | "e2e_star" | "tpot" | "icl" | "queue";

export interface Summary {
  window_seconds: number;
  sent: number;
  ok: number;
  failed: number;
  cancelled: number;
  completed: number;
  error_percent: number | null;
  good_percent: number | null;
  requests_per_second: number | null;
  offered_per_second: number | null;
  output_tokens_per_second: number | null;
  input_tokens_per_second: number | null;
  total_tokens_per_second: number | null;
  goodput: number | null;
  input_tokens: number;
  output_tokens: number;
  in_flight_mean: number | null;
  in_flight_peak: number;
  latencies: Record<LatencyName, Distribution>;
  request_tokens_per_second: Distribution;
  input_length: Distribution;
  output_length: Distribution;
  send_interval: Distribution;
  errors: ErrorGroup[];
  endpoints: EndpointPart[];
}

export interface Verdict {
  name: string;
  metric: string;
  statistic: string;
  limit: number;
  at_least: boolean;
  unit: string;
  actual: number | null;
  met: boolean | null;
}

export interface Badge {
  id: string;
  level: "ok" | "note" | "warning";
  text: string;
}

export interface Segment {
  label: string;
  of: Of;
  level: number;
  begun_seconds: number;
  summary: Summary;
  slo: Verdict[];
  slo_met: boolean | null;
}

export interface FoundStep {
  label: string;
  level: number;
  throughput: number;
  e2e_mean_ms: number;
  in_flight_mean: number;
}

export interface SweepFindings {
  of: Of;
  knee: FoundStep | null;
  largest_meeting_slo: FoundStep | null;
  saturated: boolean;
  suggestion: { max_concurrent: number; because: string; words: string } | null;
}

export type Row = (number | null)[];

export interface SeriesPart {
  columns: string[];
  step_seconds: number;
  generation: number;
  from: number;
  rows: Row[];
}

export type Phase = "waiting" | "warmup" | "running" | "draining" | "done";

export interface Outcome {
  card: Card;
  phase: Phase;
  reason: string;
  problem: string;
  window: { begun_seconds: number; ended_seconds: number } | null;
  totals: { planned: number; sent: number; ok: number; failed: number; cancelled: number; tokens_out: number };
  connections_opened: number;
  summary: Summary | null;
  slo: Verdict[];
  slo_met: boolean | null;
  badges: Badge[];
  segments: Segment[];
  sweep: SweepFindings | null;
  series: SeriesPart;
  peak_tokens_per_second: number;
  changes: unknown[];
  limit_headers: Record<string, string>;
}

export interface Difference {
  unit: string;
  n: number;
  mean: number | null;
  mean_low: number | null;
  mean_high: number | null;
  median: number | null;
  median_low: number | null;
  median_high: number | null;
  baseline_mean: number | null;
  clear: boolean | null;
}

export type PairedName = "ttft" | "e2e" | "tpot" | "tokens_per_second";

export type Paired = { pairs: number; unpaired: number } & Record<PairedName, Difference>;

export type RunState = "running" | "done" | "stopped" | "failed";

export interface RunResult {
  id: string;
  name: string;
  notes: string;
  state: RunState;
  order: "together" | "in_turn";
  paired: boolean;
  started_at: string;
  ended_at: string | null;
  cards: Outcome[];
  comparison: Paired | null;
}

export interface LiveCard {
  phase: Phase;
  reason: string;
  elapsed_seconds: number;
  planned: number;
  sent: number;
  ok: number;
  failed: number;
  cancelled: number;
  in_flight: number;
  waiting: number;
  output_tokens: number;
  peak_tokens_per_second: number;
  ttft: Distribution;
  e2e: Distribution;
  errors: ErrorGroup[];
  segments: number;
  series: SeriesPart;
}

export interface Tick {
  id: string;
  state: RunState;
  generator: { loop_lag_p99_ms: number | null; cpu_percent: number | null };
  cards: LiveCard[];
}

export interface HeadlineCard {
  name: string;
  url: string;
  model: string;
  load: string;
  reason: string;
  ok: number;
  failed: number;
  requests_per_second: number | null;
  output_tokens_per_second: number | null;
  ttft_p95_ms: number | null;
  e2e_p95_ms: number | null;
  slo_met: boolean | null;
}

export interface Headline {
  id: string;
  name: string;
  notes: string;
  state: RunState;
  started_at: string;
  ended_at: string | null;
  paired: boolean;
  cards: HeadlineCard[];
}

export interface RunList {
  active: Headline[];
  past: Headline[];
  total: number;
}

export interface CompareLine {
  metric: string;
  statistic: string;
  unit: string;
  first: number;
  second: number;
  delta: number;
  delta_percent: number | null;
  better: boolean | null;
}

/** A step of a sweep, or a stage, that both took. */
export interface ComparedStep {
  label: string;
  of: string;
  level: number;
  lines: CompareLine[];
}

export interface Compared {
  runs: { id: string; name: string; started_at: string }[];
  cards: { card: number; first: Card; second: Card; lines: CompareLine[]; steps: ComparedStep[] }[];
}

export interface Imported {
  kind: "run" | "older";
  id?: string;
  cards?: { card: Card; key_left_out: boolean }[];
}
