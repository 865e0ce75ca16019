// A balancer in memory behind globalThis.fetch: as much of the admin API as the editor's state needs. It honours
// If-Match, keeps revisions, can be switched off, and remembers every request.

import type { EndpointView, State } from "../src/api/types";
import { endpoint, state } from "./made";

type Fields = Record<string, unknown>;
type Update = { id: number; fields: Fields };
interface Revision {
  number: number;
  before: Map<number, EndpointView>;
  after: Map<number, EndpointView>;
  mode: [string, string];
}

export interface Seen {
  method: string;
  path: string;
  body: unknown;
  headers: Headers;
}

export class FakeServer {
  readonly seen: Seen[] = [];
  state: State;
  /** Nobody answers. */
  down = false;
  signedIn = true;
  layoutWrites = 0;
  /** Called before each request is carried out: another operator's moment. */
  before: (seen: Seen) => void | Promise<void> = () => {};
  /** The same for its answer. */
  after: (seen: Seen) => void | Promise<void> = () => {};
  private readonly revisions: Revision[] = [];
  private nextId: number;

  constructor(...endpoints: EndpointView[]) {
    this.state = state(endpoints);
    this.nextId = Math.max(0, ...endpoints.map((each) => each.id)) + 1;
  }

  readonly fetch = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    const text = init.body === null || init.body === undefined ? "" : String(init.body);
    const path = String(input).replace("/admin/api", "");
    const body = text ? JSON.parse(text) : undefined;
    const seen = { method: init.method ?? "GET", path, body, headers: new Headers(init.headers) };
    this.seen.push(seen);
    await this.before(seen);
    await Promise.resolve();
    if (this.down) throw new TypeError("Failed to fetch");
    const answer = this.carryOut(seen);
    await this.after(seen);
    if (this.down) throw new TypeError("Failed to fetch");
    return answer;
  };

  /** Requests that change something, as "METHOD /path". */
  get writes(): string[] {
    return this.seen.filter((each) => each.method !== "GET").map((each) => `${each.method} ${each.path}`);
  }

  of(id: number): EndpointView {
    const found = this.state.endpoints.find((each) => each.id === id);
    if (!found) throw new Error(`no endpoint ${id}`);
    return found;
  }

  /** Another operator changes an endpoint. */
  change(id: number, fields: Fields): void {
    this.commit(() => this.set(id, fields));
  }

  remove(id: number): void {
    this.commit(() => {
      this.state.endpoints = this.state.endpoints.filter((each) => each.id !== id);
    });
  }

  private carryOut(seen: Seen): Response {
    const { method, path } = seen;
    if (path === "/session" && method === "POST") return this.login(seen.body as { token: string });
    if (!this.signedIn) return json({ detail: "log in" }, 401);
    if (path === "/session") return json({ via: "session", csrf_token: "csrf", expires_at: null });
    if (path === "/state") return this.answer(this.state);
    if (path === "/layout") return this.layout(seen.body as Layout);
    const seenRevision = seen.headers.get("if-match");
    if (seenRevision && seenRevision !== `"${this.state.revision}"`) {
      return this.conflict(Number(seenRevision.slice(1, -1)));
    }
    const revert = /^\/revisions\/(\d+)\/revert$/.exec(path);
    if (revert) return this.revert(Number(revert[1]));
    if (path === "/routing") return this.commit(() => Object.assign(this.state, seen.body));
    if (path === "/endpoints") return this.endpoints(method, seen.body);
    if (path === "/batch") return this.batch(seen.body as { create: Fields[]; update: Update[] });
    return json({ detail: "not found" }, 404);
  }

  private endpoints(method: string, body: unknown): Response {
    if (method === "POST") return this.batch({ create: body as Fields[], update: [] });
    if (method === "DELETE") {
      const gone = body as number[];
      return this.commit(() => {
        this.state.endpoints = this.state.endpoints.filter((each) => !gone.includes(each.id));
      });
    }
    const updates = body as Update[];
    const missing = updates.find(({ id }) => !this.state.endpoints.some((each) => each.id === id));
    if (missing) return json({ detail: `unknown endpoint ${missing.id}` }, 404);
    const wrong = updates.findIndex(({ fields }) => Number(fields.weight) < 0);
    if (wrong >= 0) {
      return json({ detail: [{ loc: ["body", wrong, "fields", "weight"], msg: "must be positive", type: "x" }] }, 422);
    }
    return this.commit(() => {
      for (const { id, fields } of updates) this.set(id, fields);
    });
  }

  private batch({ create, update }: { create: Fields[]; update: Update[] }): Response {
    const taken = create.find(({ name }) => this.state.endpoints.some((each) => each.name === name));
    if (taken) return json({ detail: `the name '${taken.name}' is taken` }, 409);
    return this.commit(() => {
      const made = create.map((each) => endpoint(this.nextId++, each));
      this.state.endpoints = [...this.state.endpoints, ...made];
      for (const { id, fields } of update) this.set(id, fields);
    });
  }

  private set(id: number, fields: Fields): void {
    this.state.endpoints = this.state.endpoints.map((each) => (each.id === id ? { ...each, ...fields } : each));
  }

  /** A change that changes nothing makes no revision. */
  private commit(work: () => unknown): Response {
    const before = new Map(this.state.endpoints.map((each) => [each.id, each]));
    const mode = this.state.routing_mode;
    this.state = { ...this.state };
    work();
    const after = new Map(this.state.endpoints.map((each) => [each.id, each]));
    const same = JSON.stringify([...before, mode]) === JSON.stringify([...after, this.state.routing_mode]);
    if (!same) {
      this.state.revision += 1;
      this.revisions.push({ number: this.state.revision, before, after, mode: [mode, this.state.routing_mode] });
    }
    return this.answer({ ok: true });
  }

  private revert(number: number): Response {
    const revision = this.revisions.find((each) => each.number === number);
    if (!revision) return json({ detail: "unknown revision" }, 404);
    const undone = differences(revision.before, revision.after);
    const since = differences(revision.after, new Map(this.state.endpoints.map((each) => [each.id, each])));
    const both = Object.keys(undone).filter((name) => name in since);
    if (both.length) return json({ detail: `changed again since: ${both.join(", ")}`, fields: both }, 409);
    return this.commit(() => {
      for (const [name, { before }] of Object.entries(undone)) {
        const [, id, field] = name.split(".");
        if (field) this.set(Number(id), { [field]: before });
        else if (before === null) this.state.endpoints = this.state.endpoints.filter((each) => each.id !== Number(id));
        else this.state.endpoints = [...this.state.endpoints, before as EndpointView];
      }
      if (revision.mode[0] !== revision.mode[1]) this.state.routing_mode = revision.mode[0];
    });
  }

  private conflict(seen: number): Response {
    const since = this.revisions.find((each) => each.number === seen + 1);
    const now = new Map(this.state.endpoints.map((each) => [each.id, each]));
    const changed: Record<string, unknown> = since ? differences(since.before, now) : {};
    for (const [name, each] of Object.entries(changed) as [string, { before: unknown; after: unknown }][]) {
      // A whole endpoint is told by its name.
      const nameOf = (value: unknown) => (value as EndpointView | null)?.name ?? null;
      if (name.split(".").length === 2) changed[name] = { before: nameOf(each.before), after: nameOf(each.after) };
    }
    if (since && since.mode[0] !== this.state.routing_mode) {
      changed.routing_mode = { before: since.mode[0], after: this.state.routing_mode };
    }
    return json({ detail: "changed meanwhile", revision: this.state.revision, state: this.state, changed }, 409);
  }

  private layout(body: Layout): Response {
    this.layoutWrites += 1;
    const unknown = Object.keys(body.endpoints).find((id) => !this.state.endpoints.some((each) => each.id === +id));
    if (unknown) return json({ detail: `unknown endpoint ${unknown}` }, 404);
    this.state = { ...this.state, incoming_pos: body.incoming ?? this.state.incoming_pos };
    for (const [id, { x, y }] of Object.entries(body.endpoints)) this.set(+id, { pos_x: x, pos_y: y });
    return json({ ok: true });
  }

  private login({ token }: { token: string }): Response {
    if (token !== "right") return json({ detail: "wrong admin token" }, 401);
    this.signedIn = true;
    return json({ via: "session", csrf_token: "csrf", expires_at: null });
  }

  private answer(value: unknown): Response {
    return json(value, 200, { etag: `"${this.state.revision}"` });
  }
}

interface Layout {
  endpoints: Record<string, { x: number; y: number }>;
  tokens: Record<string, { x: number; y: number }>;
  incoming?: { x: number; y: number };
}

function differences(one: ReadonlyMap<number, EndpointView>, other: ReadonlyMap<number, EndpointView>) {
  const found: Record<string, { before: unknown; after: unknown }> = {};
  for (const id of new Set([...one.keys(), ...other.keys()])) {
    const [before, after] = [one.get(id), other.get(id)];
    if (!before || !after) {
      found[`endpoints.${id}`] = { before: before ?? null, after: after ?? null };
      continue;
    }
    for (const name of Object.keys(after) as (keyof EndpointView)[]) {
      if (name.startsWith("pos_")) continue;
      if (JSON.stringify(before[name]) !== JSON.stringify(after[name])) {
        found[`endpoints.${id}.${name}`] = { before: before[name], after: after[name] };
      }
    }
  }
  return found;
}

export function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json", ...headers } });
}
