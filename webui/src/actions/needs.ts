// What an act needs to apply, and whom it is about.

import type { ActionContext } from "./registry";

export const needsEndpoint = ({ ids }: ActionContext) => ids.length > 0 || "Select an endpoint first.";
export const needsOne = ({ ids }: ActionContext) => ids.length === 1 || "Select one endpoint first.";
export const always = () => true as const;

export const endpointsOf = ({ structure, ids }: ActionContext) =>
  structure.endpoints.filter((each) => ids.includes(each.id));
