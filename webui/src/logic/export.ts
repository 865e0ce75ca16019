// The configuration as a file, without keys and tokens, and back again.

import type { NewEndpoint } from "./acts";
import { type EndpointConfig, freeName, PORTABLE, type Structure } from "./structure";

const FORMAT = "llm-balancer";
const VERSION = 1;

export interface Exported {
  format: typeof FORMAT;
  version: number;
  routing_mode: string;
  endpoints: NewEndpoint[];
}

export function exported(structure: Structure, ids?: readonly number[]): Exported {
  const endpoints = structure.endpoints.filter((each) => !ids || ids.includes(each.id));
  return { format: FORMAT, version: VERSION, routing_mode: structure.mode, endpoints: endpoints.map(portable) };
}

export function portable(endpoint: EndpointConfig): NewEndpoint {
  return Object.fromEntries(PORTABLE.map((name) => [name, endpoint[name]])) as unknown as NewEndpoint;
}

/** Copies that can stand beside the originals: other names, not wired, a little aside. */
export function copies(endpoints: readonly NewEndpoint[], structure: Structure): NewEndpoint[] {
  let known = structure;
  return endpoints.map((each) => {
    const name = freeName(each.name.replace(/ \d+$/, ""), known);
    known = { ...known, endpoints: [...known.endpoints, { name } as EndpointConfig] };
    const { api_key: _key, ...rest } = each;
    return { ...rest, name, connected: false, pos_x: (each.pos_x ?? 500) + 40, pos_y: (each.pos_y ?? 200) + 40 };
  });
}

export class NotAnExport extends Error {}

/** Raises NotAnExport with what is wrong, in words. */
export function readExport(text: string): Exported {
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch (error) {
    throw new NotAnExport(`This is no JSON: ${error instanceof Error ? error.message : error}`);
  }
  const file = given as Partial<Exported> | null;
  if (file?.format !== FORMAT)
    throw new NotAnExport(`This is no export of this balancer: "format" must be "${FORMAT}".`);
  if (file.version !== VERSION)
    throw new NotAnExport(`Version ${file.version} of the format is not known; ${VERSION} is.`);
  if (!Array.isArray(file.endpoints)) throw new NotAnExport('"endpoints" must be a list.');
  const names = new Set<string>();
  const endpoints = file.endpoints.map((each, place): NewEndpoint => {
    if (typeof each?.name !== "string" || typeof each.base_url !== "string") {
      throw new NotAnExport(`endpoints[${place}] needs a "name" and a "base_url".`);
    }
    if (names.has(each.name)) throw new NotAnExport(`endpoints[${place}]: the name "${each.name}" is there twice.`);
    names.add(each.name);
    // Keys do not travel in files, whoever wrote them there.
    const { api_key: _key, ...rest } = each;
    return rest;
  });
  return { format: FORMAT, version: VERSION, routing_mode: String(file.routing_mode ?? ""), endpoints };
}

export interface ImportPlan {
  create: NewEndpoint[];
  change: { id: number; fields: NewEndpoint }[];
  /** Names of endpoints that are here and not in the file: they stay. */
  stay: string[];
}

/** What an import would do: by name, an endpoint that is here is changed, one that is not is added. Keys stay. */
export function planImport(file: Exported, structure: Structure): ImportPlan {
  const here = new Map(structure.endpoints.map((each) => [each.name, each]));
  const plan: ImportPlan = { create: [], change: [], stay: [] };
  for (const each of file.endpoints) {
    const known = here.get(each.name);
    if (!known) plan.create.push(each);
    else if (JSON.stringify(pick(portable(known), each)) !== JSON.stringify(pick(each, each))) {
      plan.change.push({ id: known.id, fields: each });
    }
  }
  const named = new Set(file.endpoints.map((each) => each.name));
  plan.stay = structure.endpoints.filter((each) => !named.has(each.name)).map((each) => each.name);
  return plan;
}

function pick(from: object, keys: object): unknown[] {
  return Object.keys(keys)
    .sort()
    .map((name) => (from as Record<string, unknown>)[name] ?? null);
}
