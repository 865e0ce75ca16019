// An import before it is done: what it would add and change, what is wrong with the file, and what to send.

import type { ApiProblem } from "../api/client";
import type { FieldProblem } from "../api/http";
import { type Act, updatesOf as changesOf, type Update } from "./acts";
import { labelOf } from "./clash";
import { changedFields, type Difference, differencesBetween } from "./differences";
import { type Exported, type ImportPlan, planImport, portable, readExport } from "./export";
import { endpointOf, type Structure } from "./structure";

export interface PlannedChange {
  id: number;
  name: string;
  differences: Difference[];
}

export interface Import {
  file: Exported;
  plan: ImportPlan;
  changes: PlannedChange[];
  /** Names in the file that are as they are here already. */
  same: string[];
}

/** Raises NotAnExport with what is wrong, in words. */
export function planned(text: string, structure: Structure): Import {
  const file = readExport(text);
  const plan = planImport(file, structure);
  const touched = new Set([...plan.create.map((each) => each.name), ...plan.change.map((each) => each.fields.name)]);
  return {
    file,
    plan,
    changes: plan.change.map(({ id, fields }) => ({
      id,
      name: fields.name,
      differences: differencesBetween(here(id, structure), { ...fields }),
    })),
    same: file.endpoints.map((each) => each.name).filter((name) => !touched.has(name)),
  };
}

function here(id: number, structure: Structure): Record<string, unknown> {
  const endpoint = endpointOf(structure, id);
  return endpoint ? { ...portable(endpoint) } : {};
}

/** Only the fields that differ: what others change meanwhile stays. */
export function updatesOf(plan: ImportPlan, structure: Structure): Update[] {
  return plan.change.map(({ id, fields }) => {
    const given: Record<string, unknown> = { ...fields };
    const names = changedFields(here(id, structure), given);
    return { id, fields: Object.fromEntries(names.map((name) => [name, given[name]])) };
  });
}

/** What an import does, as one act; null: nothing. */
export function actOf({ plan }: Import, structure: Structure): Act | null {
  const updates = updatesOf(plan, structure);
  if (plan.create.length) return { kind: "create", endpoints: plan.create, ...(updates.length ? { updates } : {}) };
  return updates.length ? { kind: "change", updates } : null;
}

/** What the server refused, by the endpoint's name: "gpu-2: Base URL: ...". */
export function problemsOf(problem: ApiProblem, act: Act, structure: Structure): string[] {
  if (!problem.fields.length) return [problem.message];
  return problem.fields.map(({ field, index, part, message }) => {
    const who = index === null ? undefined : nameAt(act, index, part, structure);
    return [who, labelOf(field), message].filter(Boolean).join(": ");
  });
}

function nameAt(act: Act, index: number, part: FieldProblem["part"], structure: Structure): string | undefined {
  if (act.kind === "create" && part !== "update") return act.endpoints[index]?.name;
  return endpointOf(structure, changesOf(act)[index]?.id ?? 0)?.name;
}
