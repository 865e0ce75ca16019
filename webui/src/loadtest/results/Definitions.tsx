// What each figure is: the formula at the figure itself, and all of them together at the end of the page.

import { useLibrary } from "../context";
import type { Definition } from "../types";

export function useDefinition(key: string): Definition | undefined {
  return useLibrary().definitions.find((each) => each.key === key);
}

/** The name of a figure; what it means, on hover and for whoever listens. */
export function Name({ of, fallback }: { of: string; fallback?: string }) {
  const found = useDefinition(of);
  const title = found && [found.formula, found.also].filter(Boolean).join(" · ");
  return (
    <span className={found ? "defined" : undefined} title={title}>
      {found?.name ?? fallback ?? of}
    </span>
  );
}

/** The formula beside a figure. */
export function Formula({ of }: { of: string }) {
  return <span className="small muted formula">{useDefinition(of)?.formula}</span>;
}

export function Definitions() {
  const { definitions } = useLibrary();
  return (
    <section className="card result-part" aria-labelledby="definitions-title">
      <h2 id="definitions-title">Definitions</h2>
      <p className="small muted">
        t_sched: planned; t_send: sent; t_1 to t_m: chunks with content, reasoning or a tool call; t_o: the first of
        them that is not reasoning; n_out: output tokens.
      </p>
      <dl className="definitions">
        {definitions.map((each) => (
          <div key={each.key}>
            <dt>
              {each.name}
              {each.unit && <span className="muted"> {each.unit}</span>}
            </dt>
            <dd className="small muted">
              {each.formula}
              {each.also && ` (${each.also})`}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
