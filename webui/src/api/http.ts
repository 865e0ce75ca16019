// JSON over fetch: one door for every request of a page, which turns every refusal into an ApiProblem.

import type { Conflict } from "./types";

export interface FieldProblem {
  /** The field's name, or the way to it ("model_aliases.gpt-4"). */
  field: string;
  /** Its place in a batch, null outside of one. */
  index: number | null;
  /** Which part of a batch of several kinds. */
  part?: "create" | "update";
  message: string;
}

/** A request that was not carried out. `status` 0: the server was not reached. */
export class ApiProblem extends Error {
  readonly status: number;
  readonly fields: FieldProblem[];
  readonly conflict: Conflict | null;

  constructor(status: number, message: string, fields: FieldProblem[] = [], conflict: Conflict | null = null) {
    super(message);
    this.name = "ApiProblem";
    this.status = status;
    this.fields = fields;
    this.conflict = conflict;
  }

  get unreachable(): boolean {
    return this.status === 0 || this.status === 502 || this.status === 504;
  }
}

export interface Answer<T> {
  value: T;
  /** The configuration's revision after it, null where the answer does not say. */
  revision: number | null;
}

export interface Call {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  path: string;
  body?: unknown;
  /** Sent as it is, instead of `body`. */
  file?: Blob;
  ifMatch?: number | null;
  /** It goes on when the page is left. */
  keepalive?: boolean;
}

const TIMEOUT_MILLISECONDS = 20_000;

/** Speaks for one browser session. `onSignedOut` hears of every 401. */
export class JsonClient {
  csrfToken: string | null = null;
  onSignedOut: () => void = () => {};
  private readonly prefix: string;
  private readonly server: string;

  /** `prefix` is the API's address; `server` completes "The … cannot be reached." */
  constructor(prefix: string, server: string) {
    this.prefix = prefix;
    this.server = server;
  }

  async send<T>(call: Call): Promise<Answer<T>> {
    const response = await this.fetch(call, AbortSignal.timeout(TIMEOUT_MILLISECONDS));
    const text = await response.text().catch(() => null);
    const parsed = parse(text ?? "");
    if (!response.ok) throw this.problem(response.status, parsed, text ?? "");
    if (text === null) throw new ApiProblem(0, `The ${this.server}'s answer broke off.`);
    // A page of a proxy or of a network's login, for instance.
    if (text && parsed === null) throw new ApiProblem(0, `Something else than the ${this.server} answered.`);
    return { value: parsed as T, revision: revisionOf(response) };
  }

  async get<T>(path: string): Promise<T> {
    return (await this.send<T>({ method: "GET", path })).value;
  }

  async post<T>(path: string, body?: unknown): Promise<T> {
    return (await this.send<T>({ method: "POST", path, body })).value;
  }

  /** A body that goes on; raises ApiProblem when it does not begin. */
  async open(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const response = await this.fetch({ method: "GET", path }, signal);
    if (!response.ok || !response.body) {
      const text = await response.text().catch(() => "");
      throw this.problem(response.status, parse(text), text);
    }
    return response.body;
  }

  private async fetch(call: Call, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { accept: "application/json" };
    if (call.body !== undefined) headers["content-type"] = "application/json";
    if (call.ifMatch != null) headers["if-match"] = `"${call.ifMatch}"`;
    if (call.method !== "GET" && this.csrfToken) headers["x-csrf-token"] = this.csrfToken;
    const body = call.file ?? (call.body === undefined ? null : JSON.stringify(call.body));
    try {
      return await fetch(this.prefix + call.path, {
        method: call.method,
        headers,
        body,
        signal,
        cache: "no-store",
        credentials: "same-origin",
        redirect: "error",
        keepalive: call.keepalive ?? false,
      });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ApiProblem(0, `The ${this.server} cannot be reached.`);
    }
  }

  private problem(status: number, parsed: unknown, text: string): ApiProblem {
    if (status === 401) this.onSignedOut();
    return problemOf(status, parsed, text, this.server);
  }
}

function parse(text: string): unknown {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

function revisionOf(response: Response): number | null {
  const match = /^"(\d+)"$/.exec(response.headers.get("etag") ?? "");
  return match ? Number(match[1]) : null;
}

/** What an error answer says, whatever its shape. */
export function problemOf(status: number, parsed: unknown, text: string, server = "balancer"): ApiProblem {
  const body = (parsed ?? {}) as { detail?: unknown; field?: unknown; state?: unknown };
  if (status === 409 && body.state) return new ApiProblem(409, String(body.detail), [], parsed as Conflict);
  if (Array.isArray(body.detail)) {
    const fields = body.detail.map(fieldOf);
    const words = fields.map(({ field, message }) => (field ? `${field}: ${message}` : message));
    return new ApiProblem(status, words.join("; ") || `The ${server} answered ${status}.`, fields);
  }
  if (typeof body.detail === "string") {
    const named = typeof body.field === "string" && body.field !== "";
    return new ApiProblem(
      status,
      body.detail,
      named ? [{ field: String(body.field), index: null, message: body.detail }] : [],
    );
  }
  return new ApiProblem(status, text.slice(0, 200) || `The ${server} answered ${status}.`);
}

function fieldOf(given: unknown): FieldProblem {
  const { loc = [], msg } = (given ?? {}) as { loc?: (string | number)[]; msg?: string };
  const all = loc.slice(1).filter((part) => part !== "fields");
  const part = typeof all[1] === "number" && (all[0] === "create" || all[0] === "update") ? all[0] : undefined;
  const inBody = part ? all.slice(1) : all;
  const index = typeof inBody[0] === "number" ? inBody[0] : null;
  const field = (index === null ? inBody : inBody.slice(1)).join(".");
  return { field, index, message: msg ?? String(given), ...(part ? { part } : {}) };
}
