// The whole balancer in five numbers, over the last minute. Fixed widths: nothing moves as they change.

import { compact, duration } from "../logic/format";
import { useNumbers } from "../state/context";

export function KpiStrip() {
  const totals = useNumbers((state) => state.numbers.totals);
  return (
    <section className="kpis" aria-label="Now">
      <Kpi value={compact(totals.tokens_per_second)} label="tokens / s" title="Input and output, mean of 60 s" />
      <Kpi value={compact(totals.requests_per_second)} label="requests / s" title="Mean of 60 s" />
      <Kpi value={totals.total_inflight.toLocaleString("en")} label="in flight" title="Requests under way now" />
      <Kpi value={duration(totals.ttfb_median_seconds)} label="first byte" title="Median of the requests of 60 s" />
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
