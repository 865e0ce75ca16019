import { describe, expect, test } from "vitest";
import { addition, NEWCOMER, suggestedQuota, targetChanges, withNewcomer } from "../src/logic/newcomer";
import { quotaSum } from "../src/logic/shares";
import type { EndpointConfig, Structure } from "../src/logic/structure";

const structure = (...quotas: number[]): Structure => ({
  revision: 1,
  mode: "percentage",
  endpoints: quotas.map(
    (token_quota_percent, place) =>
      ({
        id: place + 1,
        name: `gpu-${place + 1}`,
        connected: true,
        enabled: true,
        token_quota_percent,
      }) as EndpointConfig,
  ),
  incoming: { x: 0, y: 0 },
  clients: [],
  open: true,
});
const fields = { name: "new", base_url: "http://x/v1", connected: true, token_quota_percent: 20 };

describe("a newcomer", () => {
  test("is offered an equal part", () => {
    expect(suggestedQuota(structure())).toBe(100);
    expect(suggestedQuota(structure(40, 30, 20, 10))).toBe(20);
    expect(suggestedQuota(structure(50, 50))).toBe(33);
  });

  test("the others make room in proportion", () => {
    const after = withNewcomer(structure(75, 25), fields, true);
    expect(quotaSum(after)).toBe(100);
    expect(targetChanges(structure(75, 25), after)).toEqual([
      { id: NEWCOMER, name: "new", before: null, after: 20 },
      { id: 1, name: "gpu-1", before: 75, after: 60 },
      { id: 2, name: "gpu-2", before: 25, after: 20 },
    ]);
  });

  test("unasked, the quotas stay and the targets are their proportion", () => {
    const after = withNewcomer(structure(75, 25), { ...fields, token_quota_percent: 100 }, false);
    expect(quotaSum(after)).toBe(200);
    expect(targetChanges(structure(75, 25), after).map((each) => each.after)).toEqual([50, 37.5, 12.5]);
  });

  test("unwired, it takes nothing from anyone", () => {
    const after = withNewcomer(structure(75, 25), { ...fields, connected: false }, true);
    expect(targetChanges(structure(75, 25), after).map((each) => each.after)).toEqual([75, 25]);
  });

  test("comes with the others' quotas, as one act", () => {
    expect(addition(structure(75, 25), fields, true)).toEqual({
      kind: "create",
      endpoints: [fields],
      updates: [
        { id: 1, fields: { token_quota_percent: 60 } },
        { id: 2, fields: { token_quota_percent: 20 } },
      ],
    });
    expect(addition(structure(75, 25), fields, false)).toEqual({ kind: "create", endpoints: [fields] });
    const unwired = { ...fields, connected: false };
    expect(addition(structure(75, 25), unwired, true)).toEqual({ kind: "create", endpoints: [unwired] });
  });
});
