// Everything an operator can do to the routing, as values: what to send, what it touches, what comes of it, how to say
// it. One act is one request and one revision.

import type { Call } from "../api/client";
import type { Conflict, EndpointFields, EndpointNumbers } from "../api/types";
import { count } from "./format";
import { modeOf } from "./modes";
import { type EndpointConfig, endpointOf, receivers, type Structure } from "./structure";

export type Changes = Partial<EndpointFields> & { api_key?: string };
export type NewEndpoint = Changes & Pick<EndpointFields, "name" | "base_url">;

export interface Update {
  id: number;
  fields: Changes;
}

export type Act =
  /** `updates`: what becomes of others at the same moment. */
  | { kind: "create"; endpoints: NewEndpoint[]; updates?: Update[] }
  | { kind: "change"; updates: Update[] }
  | { kind: "delete"; ids: number[] }
  | { kind: "mode"; mode: string }
  | { kind: "revert"; number: number; says?: string }
  | { kind: "restore"; number: number };

export function connect(ids: readonly number[], connected: boolean): Act {
  return { kind: "change", updates: ids.map((id) => ({ id, fields: { connected } })) };
}

/** The request that carries it out. `revision`: what the operator has seen; null: whatever is there. */
export function callOf(act: Act, revision: number | null): Call {
  const ifMatch = revision;
  switch (act.kind) {
    case "create":
      return act.updates?.length
        ? { method: "POST", path: "/batch", body: { create: act.endpoints, update: act.updates }, ifMatch }
        : { method: "POST", path: "/endpoints", body: act.endpoints, ifMatch };
    case "change":
      return { method: "PATCH", path: "/endpoints", body: act.updates, ifMatch };
    case "delete":
      return { method: "DELETE", path: "/endpoints", body: act.ids, ifMatch };
    case "mode":
      return { method: "PATCH", path: "/routing", body: { routing_mode: act.mode }, ifMatch };
    case "revert":
      // The server itself refuses where a field has changed since.
      return { method: "POST", path: `/revisions/${act.number}/revert` };
    case "restore":
      return { method: "POST", path: `/revisions/${act.number}/restore`, ifMatch };
  }
}

/** What it changes of endpoints that are there. */
export function updatesOf(act: Act): Update[] {
  if (act.kind === "change") return act.updates;
  return act.kind === "create" ? (act.updates ?? []) : [];
}

/** What it would overwrite, by the names a Conflict uses. */
export function touches(act: Act): string[] {
  switch (act.kind) {
    case "revert":
      return [];
    case "create":
    case "change":
      return updatesOf(act).flatMap(({ id, fields }) => [
        `endpoints.${id}`,
        ...Object.keys(fields).map((name) => `endpoints.${id}.${name}`),
      ]);
    case "delete":
      return act.ids.map((id) => `endpoints.${id}`);
    case "mode":
      return ["routing_mode"];
    case "restore":
      return ["*"];
  }
}

/** Which of the changes made meanwhile this act would overwrite, but what one's `own` acts made of it. An unknown past
 *  may hold anything. */
export function clashes(act: Act, conflict: Conflict, own: readonly Act[] = []): string[] {
  const mine = touches(act);
  const all = Object.keys(conflict.changed);
  if (!mine.length) return [];
  if (!all.length) return ["*"];
  const theirs = all.filter((name) => !own.some((each) => agrees(each, name, conflict)));
  if (mine.includes("*")) return theirs;
  if (act.kind === "delete") {
    return theirs.filter((name) => mine.some((each) => name === each || name.startsWith(`${each}.`)));
  }
  return theirs.filter((name) => mine.includes(name) && !agrees(act, name, conflict));
}

/** The act without what another operator deleted meanwhile, null where nothing is left of it; and the names of that. */
export function withoutGone(act: Act, conflict: Conflict): { left: Act | null; gone: string[] } {
  const isGone = (id: number) => conflict.changed[`endpoints.${id}`]?.after === null;
  const named = (ids: number[]) => ids.map((id) => String(conflict.changed[`endpoints.${id}`]?.before ?? id));
  if (act.kind === "change" || act.kind === "create") {
    const updates = updatesOf(act).filter(({ id }) => !isGone(id));
    const gone = named(updatesOf(act).flatMap(({ id }) => (isGone(id) ? id : [])));
    const left = act.kind === "create" || updates.length ? { ...act, updates } : null;
    return { left: gone.length ? left : act, gone };
  }
  if (act.kind === "delete") {
    const ids = act.ids.filter((id) => !isGone(id));
    const gone = named(act.ids.filter(isGone));
    return gone.length ? { left: ids.length ? { ...act, ids } : null, gone } : { left: act, gone };
  }
  return { left: act, gone: [] };
}

/** Both want the same, for instance because the answer to this very act was lost on the way. */
function agrees(act: Act, name: string, conflict: Conflict): boolean {
  const after = conflict.changed[name]?.after;
  if (act.kind === "mode") return after === act.mode;
  const [, id, field] = name.split(".");
  if (!field) return false;
  const fields = updatesOf(act).find((each) => each.id === Number(id))?.fields as Record<string, unknown> | undefined;
  return fields !== undefined && JSON.stringify(fields?.[field]) === JSON.stringify(after);
}

/** Whether what it would do has been done: its answer was lost on the way, and `now` is how things are since. What was
 *  there before it was sent counts for nothing. */
export function isDone(act: Act, before: Structure, now: Structure): boolean {
  if (act.kind === "delete") return act.ids.every((id) => !endpointOf(now, id));
  if (act.kind !== "create") return false;
  const made = act.endpoints.map(({ api_key: _key, ...fields }) => {
    const found = now.endpoints.find((each) => each.name === fields.name);
    return found && !endpointOf(before, found.id) && holds(found, fields);
  });
  return made.every(Boolean) && updatesOf(act).every(({ id, fields }) => holds(endpointOf(now, id), fields));
}

/** But for the address, which the server writes in its own way, and the key, which it never shows. */
function holds(endpoint: EndpointConfig | undefined, wanted: Changes): boolean {
  const { api_key: _key, base_url: _address, ...fields } = wanted;
  const shown = endpoint as Record<string, unknown> | undefined;
  return Object.entries(fields).every(([name, value]) => JSON.stringify(shown?.[name]) === JSON.stringify(value));
}

/** The structure as it would be. What only the server knows (new ids, what a revert does) is left as it is. */
export function applied(act: Act, structure: Structure): Structure {
  switch (act.kind) {
    case "create":
    case "change": {
      const byId = new Map(updatesOf(act).map((each) => [each.id, each.fields]));
      return {
        ...structure,
        endpoints: structure.endpoints.map((each) => {
          const fields = byId.get(each.id);
          if (!fields) return each;
          const { api_key: _key, ...shown } = fields;
          return { ...each, ...shown };
        }),
      };
    }
    case "delete":
      return { ...structure, endpoints: structure.endpoints.filter((each) => !act.ids.includes(each.id)) };
    case "mode":
      return { ...structure, mode: act.mode };
    default:
      return structure;
  }
}

/** In the words of a toast, of the past: "gpu-1 connected". */
export function saying(act: Act, before: Structure): string {
  const names = (ids: number[]) => named(ids, before);
  switch (act.kind) {
    case "create":
      return `${act.endpoints.length === 1 ? act.endpoints[0]?.name : count(act.endpoints.length, "endpoint")} added`;
    case "delete":
      return `${names(act.ids)} deleted`;
    case "mode":
      return `Mode is ${modeOf(act.mode).label}`;
    case "revert":
      return act.says ?? `Change ${act.number} taken back`;
    case "restore":
      return `Back to revision ${act.number}`;
    case "change":
      return changeInWords(act.updates, names);
  }
}

function changeInWords(updates: Update[], names: (ids: number[]) => string): string {
  const who = names(updates.map((each) => each.id));
  const fields = new Set(updates.flatMap((each) => Object.keys(each.fields)));
  const first = updates[0]?.fields ?? {};
  if (fields.size === 1 && fields.has("connected")) {
    const [on, off] = [true, false].map((connected) =>
      updates.flatMap((each) => (each.fields.connected === connected ? each.id : [])),
    ) as [number[], number[]];
    return [on.length ? `${names(on)} connected` : "", off.length ? `${names(off)} disconnected` : ""]
      .filter(Boolean)
      .join(", ");
  }
  if (fields.size === 1 && fields.has("enabled")) return `${who} ${first.enabled ? "enabled" : "disabled"}`;
  if (fields.size === 1 && fields.has("token_quota_percent")) {
    return updates.length === 1 ? `Quota of ${who} is ${first.token_quota_percent} %` : "Quotas changed";
  }
  if (fields.size === 1 && fields.has("priority_order")) return "Ranks changed";
  return `${who} changed`;
}

/** "gpu-1", "gpu-1 and gpu-2", "5 endpoints". */
export function named(ids: readonly number[], structure: Structure): string {
  const found = ids.map((id) => endpointOf(structure, id)?.name ?? `endpoint ${id}`);
  if (found.length === 1) return found[0] ?? "";
  if (found.length === 2) return `${found[0]} and ${found[1]}`;
  return count(found.length, "endpoint");
}

export interface Question {
  title: string;
  text: string;
  confirm: string;
  danger: boolean;
}

/** What has to be asked before it is done; null: do it, there is Undo. */
export function questionBefore(
  act: Act,
  structure: Structure,
  numbers: ReadonlyMap<number, EndpointNumbers>,
): Question | null {
  if (act.kind === "delete") return questionOfDelete(act.ids, structure, numbers);
  if (act.kind === "change") return questionOfChange(act.updates, structure);
  return null;
}

function questionOfDelete(
  ids: number[],
  structure: Structure,
  numbers: ReadonlyMap<number, EndpointNumbers>,
): Question | null {
  const inflight = ids.reduce((sum, id) => sum + (numbers.get(id)?.inflight ?? 0), 0);
  const who = named(ids, structure);
  if (leavesNobody({ kind: "delete", ids }, structure)) {
    return {
      title: `Delete ${who}?`,
      text: "No endpoint receives traffic then: clients get 503.",
      confirm: "Delete",
      danger: true,
    };
  }
  if (!inflight) return null;
  return {
    title: `Delete ${who}?`,
    text: `${count(inflight, "request")} in flight will finish; nothing new goes there.`,
    confirm: "Delete",
    danger: true,
  };
}

function questionOfChange(updates: Update[], structure: Structure): Question | null {
  const act: Act = { kind: "change", updates };
  if (leavesNobody(act, structure)) {
    const verb = updates.some(({ fields }) => fields.connected === false) ? "Disconnect" : "Disable";
    return {
      title: `${verb} ${updates.length > 1 ? "all endpoints that receive traffic" : "the last endpoint"}?`,
      text: "No endpoint receives traffic then: clients get 503.",
      confirm: verb,
      danger: true,
    };
  }
  for (const { id, fields } of updates) {
    const endpoint = endpointOf(structure, id);
    if (!endpoint) continue;
    if (fields.verify_tls === false && endpoint.verify_tls) {
      return {
        title: `Stop verifying the certificate of ${endpoint.name}?`,
        text: "Anyone on the way could then read the traffic and the key.",
        confirm: "Do not verify",
        danger: true,
      };
    }
    const question = endpoint.connected ? questionOfAddress(fields, endpoint) : null;
    if (question) return question;
  }
  return null;
}

function questionOfAddress(fields: Changes, endpoint: EndpointConfig): Question | null {
  const { name, base_url, has_api_key } = endpoint;
  if (fields.base_url !== undefined && fields.base_url !== base_url) {
    const text = `It is connected: new requests go there at once${has_api_key || fields.api_key ? ", with its key" : ""}.`;
    return { title: `Change where ${name} points?`, text, confirm: "Change", danger: false };
  }
  if (fields.api_key === undefined) return null;
  const [verb, text] = fields.api_key
    ? [has_api_key ? "Replace" : "Set", "It is connected: new requests carry this key at once."]
    : ["Remove", "It is connected: new requests carry no key from now on."];
  return { title: `${verb} the key of ${name}?`, text, confirm: verb, danger: false };
}

function leavesNobody(act: Act, structure: Structure): boolean {
  return receivers(structure).length > 0 && receivers(applied(act, structure)).length === 0;
}
