import { describe, expect, it } from "vitest";
import { ApiProblem } from "../src/api/client";
import { problemOf } from "../src/api/http";
import { callOf } from "../src/logic/acts";
import { type Exported, exported, NotAnExport } from "../src/logic/export";
import { actOf, planned, problemsOf } from "../src/logic/importing";
import type { EndpointConfig, Structure } from "../src/logic/structure";

function endpoint(id: number, fields: Partial<EndpointConfig> = {}): EndpointConfig {
  return {
    id,
    name: `gpu-${id}`,
    base_url: `http://gpu-${id}:8000/v1`,
    timeout: 120,
    verify_tls: true,
    enabled: true,
    connected: true,
    token_quota_percent: 50,
    priority_order: 10,
    max_concurrent: 0,
    weight: 1,
    models: [],
    model_aliases: {},
    include_usage: true,
    price_per_million_input: null,
    price_per_million_output: null,
    tags: [],
    health_check: true,
    pos_x: 500,
    pos_y: 200,
    api_key_preview: "",
    has_api_key: false,
    discovered: false,
    ...fields,
  };
}

const structure: Structure = {
  revision: 3,
  mode: "percentage",
  endpoints: [endpoint(1), endpoint(2)],
  incoming: { x: 0, y: 0 },
  clients: [],
  open: true,
};

const fileOf = (change: (file: Exported) => void) => {
  const file = structuredClone(exported(structure));
  change(file);
  return JSON.stringify(file);
};

describe("an import", () => {
  it("of what is here already does nothing", () => {
    const plan = planned(JSON.stringify(exported(structure)), structure);
    expect(plan.same).toEqual(["gpu-1", "gpu-2"]);
    expect(actOf(plan, structure)).toBe(null);
  });

  it("adds and changes as one act, and sends only what differs", () => {
    const text = fileOf((file) => {
      const [first] = file.endpoints;
      if (first) first.weight = 3;
      file.endpoints[1] = { name: "new", base_url: "http://new/v1" };
    });
    const plan = planned(text, structure);
    expect(plan.plan.stay).toEqual(["gpu-2"]);
    expect(plan.changes).toEqual([
      { id: 1, name: "gpu-1", differences: [{ field: "weight", label: "Weight", before: "1", after: "3" }] },
    ]);
    const act = actOf(plan, structure);
    expect(act).toEqual({
      kind: "create",
      endpoints: [{ name: "new", base_url: "http://new/v1" }],
      updates: [{ id: 1, fields: { weight: 3 } }],
    });
    expect(act && callOf(act, 3)).toMatchObject({ method: "POST", path: "/batch", ifMatch: 3 });
  });

  it("refuses a name that is given twice", () => {
    const text = fileOf((file) => file.endpoints.push({ name: "gpu-1", base_url: "http://x/v1" }));
    expect(() => planned(text, structure)).toThrow(NotAnExport);
    expect(() => planned(text, structure)).toThrow('the name "gpu-1"');
  });

  it("refuses what is no export", () => {
    expect(() => planned("nonsense", structure)).toThrow("This is no JSON");
    expect(() => planned("[]", structure)).toThrow("no export of this balancer");
  });
});

describe("what the server refused", () => {
  const problem = new ApiProblem(422, "…", [{ field: "base_url", index: 0, message: "must start with http://" }]);

  it("is told by the endpoint's name", () => {
    const create = { kind: "create", endpoints: [{ name: "new", base_url: "x" }] } as const;
    expect(problemsOf(problem, { ...create, endpoints: [...create.endpoints] }, structure)).toEqual([
      "new: Base URL: must start with http://",
    ]);
    const change = { kind: "change" as const, updates: [{ id: 2, fields: {} }] };
    expect(problemsOf(problem, change, structure)).toEqual(["gpu-2: Base URL: must start with http://"]);
  });

  it("is told by the endpoint's name, of a batch too", () => {
    const act = {
      kind: "create" as const,
      endpoints: [{ name: "new", base_url: "x" }],
      updates: [{ id: 2, fields: {} }],
    };
    const refused = problemOf(
      422,
      {
        detail: [
          { loc: ["body", "create", 0, "base_url"], msg: "must start with http://" },
          { loc: ["body", "update", 0, "fields", "weight"], msg: "must be positive" },
        ],
      },
      "",
    );
    expect(problemsOf(refused, act, structure)).toEqual([
      "new: Base URL: must start with http://",
      "gpu-2: Weight: must be positive",
    ]);
  });

  it("is the message where no field is named", () => {
    expect(problemsOf(new ApiProblem(409, "name taken"), { kind: "delete", ids: [] }, structure)).toEqual([
      "name taken",
    ]);
  });
});
