// Which revisions this operator's own acts made: what they hold is known here, and is no conflict with what comes next.

import type { Act } from "../logic/acts";

const MOST_KEPT = 200;

export class OwnRevisions {
  private readonly acts = new Map<number, Act>();

  add(revision: number, act: Act): void {
    this.acts.set(revision, act);
    const [oldest] = this.acts.keys();
    if (this.acts.size > MOST_KEPT && oldest !== undefined) this.acts.delete(oldest);
  }

  /** The last revision behind `seen` that only own acts lead to. */
  reachedFrom(seen: number): number {
    let reached = seen;
    while (this.acts.has(reached + 1)) reached += 1;
    return reached;
  }

  since(seen: number): Act[] {
    return [...this.acts].flatMap(([revision, act]) => (revision > seen ? act : []));
  }

  forget(): void {
    this.acts.clear();
  }
}
