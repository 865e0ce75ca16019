// How live traffic looks on a wire: width, dots, their speed, the label. All numbers of the last minute.

import type { EndpointNumbers } from "../api/types";
import { percent } from "./format";
import { byRank } from "./shares";
import { type EndpointConfig, receivers, type Structure } from "./structure";

export const MOST_DOTS = 12;
const SLOWEST_SECONDS = 6;
const FASTEST_SECONDS = 0.8;

/** Width in pixels of a wire with this part (0 to 1) of all tokens. */
export function widthOf(part: number): number {
  return 2 + 10 * Math.sqrt(Math.min(1, Math.max(0, part)));
}

/** Dots on a wire: about one for each request per second, at least one while anything flows. */
export function dotsOf(requestsPerSecond: number): number {
  if (!(requestsPerSecond > 0)) return 0;
  return Math.max(1, Math.min(MOST_DOTS, Math.round(requestsPerSecond)));
}

/** How long a dot takes from end to end: a quick first byte makes a quick dot. */
export function travelSeconds(ttfbSeconds: number | null): number {
  const seconds = 0.8 + 2 * Math.sqrt(ttfbSeconds ?? 0.3);
  return Math.min(SLOWEST_SECONDS, Math.max(FASTEST_SECONDS, seconds));
}

/** The part of the dots that are errors, 0 to 1. */
export function errorPart(numbers: EndpointNumbers): number {
  const all = numbers.requests_per_second;
  return all > 0 ? Math.min(1, numbers.failures_per_second / all) : 0;
}

export interface WireLabel {
  actual: string;
  /** Empty where the mode has no target. */
  target: string;
}

export function labelOf(
  endpoint: EndpointConfig,
  numbers: EndpointNumbers | undefined,
  structure: Structure,
  target: number | undefined,
): WireLabel {
  const actual = `${(numbers?.share_percent ?? 0).toFixed(1)} %`;
  switch (structure.mode) {
    case "percentage":
      return { actual, target: target === undefined ? "" : percent(target) };
    case "priority":
      return { actual, target: `rank ${endpoint.priority_order}${overflow(endpoint, structure)}` };
    case "weighted":
    case "least_loaded":
      return { actual, target: `weight ${endpoint.weight}` };
    default:
      return { actual, target: "" };
  }
}

function overflow(endpoint: EndpointConfig, structure: Structure): string {
  const serving = new Set(receivers(structure).map((each) => each.id));
  const first = byRank(structure).find((id) => serving.has(id));
  const top = structure.endpoints.find((each) => each.id === first)?.priority_order;
  return top !== undefined && endpoint.priority_order > top ? " · overflow" : "";
}
