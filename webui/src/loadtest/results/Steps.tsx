// The stages of a card or the steps of its sweep, the knee among them, and what follows for the endpoint's setting.

import { Icon } from "../../design/parts";
import { compact } from "../../logic/format";
import { usePageState } from "../context";
import { editorAddress } from "../logic/links";
import { amount, figure, milliseconds, unitOf } from "../logic/words";
import type { Outcome, Segment, SweepFindings } from "../types";
import { Formula } from "./Definitions";
import { Scroll } from "./Scroll";

export function Steps({ outcome }: { outcome: Outcome }) {
  const { segments, sweep, card } = outcome;
  const sorted = sweep ? [...segments].sort((a, b) => a.of.localeCompare(b.of) || a.level - b.level) : segments;
  return (
    <section className="result-part">
      <h3>{card.load.kind === "sweep" ? "Steps of the sweep" : "Stages"}</h3>
      {sweep?.suggestion && <Suggestion url={card.url} suggestion={sweep.suggestion} />}
      <Scroll label="Steps">
        <table className="table" data-testid="steps">
          <thead>
            <tr>
              <th>Step</th>
              <th className="number">Level</th>
              <th className="number">Output tok/s</th>
              <th className="number">Requests/s</th>
              <th className="number">In flight</th>
              <th className="number">TTFT p95</th>
              <th className="number">E2E mean</th>
              <th className="number">E2E p95</th>
              <th className="number">Errors</th>
              <th>Found</th>
            </tr>
          </thead>
          <tbody>
            {sorted.map((each) => (
              <StepRow key={`${each.label} ${each.begun_seconds}`} step={each} sweep={sweep} />
            ))}
          </tbody>
        </table>
      </Scroll>
      {sweep && (
        <p className="small muted">
          Knee: <Formula of="knee" />. Below it the target idles, above it requests mostly wait.
        </p>
      )}
    </section>
  );
}

function StepRow({ step, sweep }: { step: Segment; sweep: SweepFindings | null }) {
  const { summary } = step;
  const isKnee = sweep?.knee?.label === step.label;
  const isLargest = sweep?.largest_meeting_slo?.label === step.label && step.slo.length > 0;
  return (
    <tr aria-selected={isKnee || undefined}>
      <th scope="row">{step.label}</th>
      <td className="number">
        {amount(step.level)} {unitOf(step.of)}
      </td>
      <td className="number">{compact(summary.output_tokens_per_second)}</td>
      <td className="number">{compact(summary.requests_per_second)}</td>
      <td className="number">{compact(summary.in_flight_mean)}</td>
      <td className="number">{milliseconds(summary.latencies.ttft.p95)}</td>
      <td className="number">{milliseconds(summary.latencies.e2e.mean)}</td>
      <td className="number">{milliseconds(summary.latencies.e2e.p95)}</td>
      <td className={`number${summary.failed ? " tone-bad" : ""}`}>{figure(summary.error_percent, "%")}</td>
      <td>
        <span className="row">
          {isKnee && <Mark icon="fit" tone="busy" word="knee" />}
          {isLargest && <Mark icon="check" tone="good" word="largest within objectives" />}
          {step.slo_met === false && <Mark icon="cross" tone="bad" word="objectives missed" />}
        </span>
      </td>
    </tr>
  );
}

function Mark({ icon, tone, word }: { icon: "fit" | "check" | "cross"; tone: string; word: string }) {
  return (
    <span className={`badge tone-${tone}`}>
      <Icon name={icon} />
      {word}
    </span>
  );
}

function Suggestion({ url, suggestion }: { url: string; suggestion: NonNullable<SweepFindings["suggestion"]> }) {
  const link = usePageState((state) => state.links[url]);
  const value = suggestion.max_concurrent;
  return (
    <div className="note suggestion" data-testid="suggestion">
      <span className="grow">
        Suggestion: <strong>{value} at once</strong> at this endpoint ({suggestion.words}).
      </span>
      {link && link.endpoint !== null ? (
        <a className="button" href={editorAddress(link, value)} target="_blank" rel="noopener">
          <Icon name="external" />
          Hand it to the editor
        </a>
      ) : (
        <span className="small muted">
          In the balancer's editor this is "Most at once" of the endpoint; a test opened from there hands it over.
        </span>
      )}
    </div>
  );
}
