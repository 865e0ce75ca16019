// The way from the editor to the load tester, and what comes back from it. A key is never part of an address.

export interface LoadTarget {
  url: string;
  model: string;
  name: string;
  /** Null: the balancer itself. */
  endpoint: number | null;
}

/** Where the load tester fills in a card for the target. `editor` is this page, without a fragment. */
export function loadTestAddress(loadTester: string, target: LoadTarget, editor: string): string {
  const asked = new URLSearchParams({ url: target.url, model: target.model, name: target.name, editor });
  if (target.endpoint !== null) asked.set("endpoint", String(target.endpoint));
  return `${loadTester.replace(/\/+$/, "")}/#/new?${asked}`;
}

/** Where clients reach the balancer, seen from the page at `origin`: with administration on a port of its own, elsewhere. */
export function clientsAddress(origin: string, settings: readonly { name: string; value: string }[]): string {
  const value = (name: string) => settings.find((each) => each.name === name)?.value ?? "";
  const url = new URL(origin);
  if (value("LB_ADMIN_PORT")) url.port = value("LB_PORT");
  return `${url.origin}/v1`;
}

/** What a sweep proposes for an endpoint; the operator accepts it or not. */
export interface Suggestion {
  endpoint: number;
  maxConcurrent: number;
}

const MOST_CONCURRENT = 10_000;

/** "#/endpoint/7?suggest_max_concurrent=18"; null where nothing, or nothing usable, is proposed. */
export function readSuggestion(hash: string): Suggestion | null {
  const [path = "", query = ""] = hash.split("?", 2);
  const endpoint = /^#\/endpoint\/(\d{1,9})$/.exec(path)?.[1];
  const value = new URLSearchParams(query).get("suggest_max_concurrent") ?? "";
  if (!endpoint || !/^\d{1,6}$/.test(value)) return null;
  const maxConcurrent = Number(value);
  if (maxConcurrent < 1 || maxConcurrent > MOST_CONCURRENT) return null;
  return { endpoint: Number(endpoint), maxConcurrent };
}
