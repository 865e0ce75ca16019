// The whole balancer in five numbers, over the last minute. Fixed widths: nothing moves as they change.

import { compact, duration } from "../logic/format";
import type { Numbers } from "../logic/structure";
import { useNumbers } from "../state/context";

export function KpiStrip() {
  const numbers = useNumbers((state) => state.numbers);
  const { totals } = numbers;
  return (
    <section className="kpis" aria-label="Now">
      <Kpi value={compact(totals.tokens_per_second)} label="tokens / s" title="Input and output, mean of 60 s" />
      <Kpi value={compact(totals.requests_per_second)} label="requests / s" title="Mean of 60 s" />
      <Kpi value={totals.total_inflight.toLocaleString("en")} label="in flight" title="Requests under way now" />
      <Kpi value={duration(firstByte(numbers))} label="first byte" title="Mean over the requests of 60 s" />
      <Kpi
        value={duration(totals.overheadSeconds)}
        label="own overhead"
        title="The balancer's own time per request, median since the start"
        good
      />
      {totals.queueSize > 0 && (
        <Kpi
          value={`${totals.queueDepth}`}
          label="waiting"
          title={`Requests waiting for room, of ${totals.queueSize}`}
        />
      )}
    </section>
  );
}

function Kpi({ value, label, title, good }: { value: string; label: string; title: string; good?: boolean }) {
  return (
    <div className="kpi card" title={title}>
      <span className={`kpi-value${good && value !== "–" ? " tone-good" : ""}`}>{value}</span>
      <span className="small muted">{label}</span>
    </div>
  );
}

function firstByte(numbers: Numbers): number | null {
  let sum = 0;
  let weight = 0;
  for (const each of numbers.endpoints.values()) {
    if (each.ttfb_seconds === null) continue;
    sum += each.ttfb_seconds * each.requests_per_second;
    weight += each.requests_per_second;
  }
  return weight > 0 ? sum / weight : null;
}
