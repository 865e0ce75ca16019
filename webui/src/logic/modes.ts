// The routing modes: their names, what they do in a sentence, and which field of an endpoint they go by.

export type SteeringField = "token_quota_percent" | "priority_order" | "weight" | "price_per_million_output" | null;

export interface Mode {
  id: string;
  label: string;
  does: string;
  field: SteeringField;
}

export const MODES: readonly Mode[] = [
  {
    id: "percentage",
    label: "Percentage",
    does: "Each endpoint gets its quota of all tokens.",
    field: "token_quota_percent",
  },
  {
    id: "priority",
    label: "Priority",
    does: "The first in rank takes all; what it has no room for overflows to the next.",
    field: "priority_order",
  },
  {
    id: "least_loaded",
    label: "Least loaded",
    does: "The endpoint with the fewest requests in flight for its weight.",
    field: "weight",
  },
  { id: "weighted", label: "Weighted", does: "Requests in proportion to the weights.", field: "weight" },
  { id: "latency", label: "Latency", does: "The endpoint that answered fastest lately.", field: null },
  {
    id: "cost",
    label: "Cost",
    does: "The cheapest first; what it has no room for overflows to the next.",
    field: "price_per_million_output",
  },
  { id: "round_robin", label: "Round robin", does: "One after the other.", field: null },
  { id: "random", label: "Random", does: "Any endpoint, evenly.", field: null },
];

/** The mode with that id; an unknown one stands for itself. */
export function modeOf(id: string): Mode {
  return MODES.find((each) => each.id === id) ?? { id, label: id, does: "", field: null };
}
