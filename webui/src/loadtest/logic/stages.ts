// Stages as a line of text, as on the command line: "30s@0-20, 60s@20" is 30 seconds from 0 to 20, then 60 at 20.

import type { Stage } from "../types";

const STAGE = /^(\d+(?:\.\d+)?)\s*(s|m|min)?\s*@\s*(?:(\d+(?:\.\d+)?)\s*-\s*)?(\d+(?:\.\d+)?)$/;

/** Raises an Error that says what was expected. */
export function readStages(text: string): Stage[] {
  const parts = text
    .split(/[,\n]/)
    .map((each) => each.trim())
    .filter(Boolean);
  if (!parts.length) throw new Error("needs at least one stage, such as 30s@0-20");
  return parts.map((part) => {
    const found = STAGE.exec(part);
    if (!found) throw new Error(`"${part}" is no stage: expected seconds@level or seconds@from-to, such as 30s@0-20`);
    const [, length, unit, start, end] = found;
    const seconds = Number(length) * (unit?.startsWith("m") ? 60 : 1);
    return { seconds, end: Number(end), ...(start === undefined ? {} : { start: Number(start) }) };
  });
}

export function stagesText(stages: readonly Stage[]): string {
  return stages
    .map(({ seconds, start, end }) => `${seconds}s@${start === undefined || start === null ? "" : `${start}-`}${end}`)
    .join(", ");
}
