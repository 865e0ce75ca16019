// What goes out as JSON and comes back: export, import, copies; and what people paste.

import { describe, expect, test } from "vitest";
import { copies, exported, NotAnExport, planImport, portable, readExport } from "../src/logic/export";
import { readPasted } from "../src/logic/paste";
import { freeName } from "../src/logic/structure";
import { endpoint, structure } from "./made";

const HERE = structure([
  endpoint(1, { has_api_key: true, api_key_preview: "sk-…1234", models: ["m"], tags: ["t"] }),
  endpoint(2),
]);

describe("export", () => {
  test("holds what describes an endpoint, and no key nor a trace of one", () => {
    const file = exported(HERE);
    expect(file).toMatchObject({ format: "llm-balancer", version: 1, routing_mode: "percentage" });
    expect(file.endpoints[0]).toMatchObject({ name: "gpu-1", models: ["m"], tags: ["t"], connected: true });
    expect(JSON.stringify(file)).not.toMatch(/key|sk-|"id"/);
  });

  test("of some only", () => {
    expect(exported(HERE, [2]).endpoints.map((each) => each.name)).toEqual(["gpu-2"]);
  });

  test("what was exported can be imported, and changes nothing", () => {
    const file = readExport(JSON.stringify(exported(HERE)));
    expect(planImport(file, HERE)).toEqual({ create: [], change: [], stay: [] });
  });
});

describe("copies", () => {
  test("have names of their own, no wire, no key, and stand aside", () => {
    const made = copies([{ ...portable(HERE.endpoints[0] as never), api_key: "sk-secret" }], HERE);
    expect(made).toHaveLength(1);
    expect(made[0]).toMatchObject({ name: "gpu-1 2", connected: false, pos_x: 640, pos_y: 200, models: ["m"] });
    expect(made[0]).not.toHaveProperty("api_key");
  });

  test("of copies do not pile up numbers, and are different from each other", () => {
    const here = structure([endpoint(1, { name: "a" }), endpoint(2, { name: "a 2" })]);
    const names = copies(exported(here).endpoints, here).map((each) => each.name);
    expect(names).toEqual(["a 3", "a 4"]);
  });

  test("of what has no place get one", () => {
    expect(copies([{ name: "x", base_url: "http://x/v1" }], HERE)[0]).toMatchObject({ pos_x: 540, pos_y: 240 });
  });

  test("a free name is never longer than a name may be", () => {
    const long = "n".repeat(120);
    expect(freeName(long, structure([endpoint(1, { name: long.slice(0, 110) })])).length).toBeLessThanOrEqual(120);
    expect(freeName("  ", HERE)).toBe("endpoint");
  });
});

describe("reading an export", () => {
  test.each([
    ["no json", /^This is no JSON: /],
    ["", /^This is no JSON: /],
    ["null", /"format" must be "llm-balancer"/],
    ["[]", /"format" must be/],
    ['{"format":"other"}', /"format" must be/],
    ['{"format":"llm-balancer","version":2,"endpoints":[]}', /Version 2 of the format is not known; 1 is/],
    ['{"format":"llm-balancer","version":1}', /"endpoints" must be a list/],
    [
      '{"format":"llm-balancer","version":1,"endpoints":[{"name":"a"}]}',
      /endpoints\[0\] needs a "name" and a "base_url"/,
    ],
    ['{"format":"llm-balancer","version":1,"endpoints":[null]}', /endpoints\[0\] needs/],
  ])("%s is refused in words", (text, words) => {
    expect(() => readExport(text)).toThrow(NotAnExport);
    expect(() => readExport(text)).toThrow(words);
  });

  test("the same name twice is refused: they could not both be here", () => {
    const twice = { ...exported(HERE), endpoints: [1, 2].map(() => ({ name: "a", base_url: "http://a/v1" })) };
    expect(() => readExport(JSON.stringify(twice))).toThrow('endpoints[1]: the name "a" is there twice.');
  });

  test("a key that somebody wrote into it is not taken", () => {
    const file = exported(HERE);
    const text = JSON.stringify({ ...file, endpoints: file.endpoints.map((each) => ({ ...each, api_key: "sk-x" })) });
    expect(JSON.stringify(readExport(text))).not.toContain("sk-x");
    expect(planImport(readExport(text), HERE).change).toEqual([]);
  });
});

test("an import plan: by name, changed, added, and those that stay", () => {
  const file = readExport(
    JSON.stringify({
      format: "llm-balancer",
      version: 1,
      endpoints: [
        { name: "gpu-2", base_url: "http://elsewhere/v1" },
        { name: "gpu-9", base_url: "http://gpu-9/v1", weight: 2 },
      ],
    }),
  );
  expect(planImport(file, HERE)).toEqual({
    create: [{ name: "gpu-9", base_url: "http://gpu-9/v1", weight: 2 }],
    change: [{ id: 2, fields: { name: "gpu-2", base_url: "http://elsewhere/v1" } }],
    stay: ["gpu-1"],
  });
});

describe("what is pasted", () => {
  test.each([
    ["http://gpu-1:8000/v1", "http://gpu-1:8000/v1", "gpu-1"],
    ["  http://gpu-1:8000  \n", "http://gpu-1:8000/v1", "gpu-1"],
    ["http://gpu-1:8000/", "http://gpu-1:8000/v1", "gpu-1"],
    ["http://gpu-1:8000/v1/", "http://gpu-1:8000/v1", "gpu-1"],
    ["https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1", "openai"],
    ["https://llm.example.com/openai/v1/embeddings/", "https://llm.example.com/openai/v1", "llm"],
    ["https://gw.example.com/v1/models?limit=3#top", "https://gw.example.com/v1", "gw"],
    ["HTTPS://GPU.Example.com/v1", "https://gpu.example.com/v1", "gpu"],
    ["localhost:11434", "http://localhost:11434/v1", "localhost:11434"],
    ["localhost", "http://localhost/v1", "localhost"],
    ["10.0.0.7:8000/v1", "http://10.0.0.7:8000/v1", "10.0.0.7:8000"],
    ["10.0.0.7", "http://10.0.0.7/v1", "10.0.0.7"],
    ["gpu-1:8000", "http://gpu-1:8000/v1", "gpu-1"],
    ["llm.example.com", "https://llm.example.com/v1", "llm"],
    ["http://[::1]:8000/v1", "http://[::1]:8000/v1", "[::1]:8000"],
    ["Try http://gpu-1:8000/v1.", "http://gpu-1:8000/v1", "gpu-1"],
    ["see (http://gpu-1:8000/v1), it is quick", "http://gpu-1:8000/v1", "gpu-1"],
    ["<http://gpu-1:8000/v1>", "http://gpu-1:8000/v1", "gpu-1"],
    ['OPENAI_BASE_URL="http://gpu-1:8000/v1"', "http://gpu-1:8000/v1", "gpu-1"],
    ["https://user:pass@gpu.example.com/v1", "https://gpu.example.com/v1", "gpu"],
  ])("%s", (text, base_url, name) => {
    expect(readPasted(text)).toEqual({ base_url, name });
  });

  test("a curl command, with its key", () => {
    const command = `curl https://api.example.com/v1/chat/completions \\
      -H "Content-Type: application/json" -H 'Authorization: Bearer sk-abc123' -d '{"model": "m"}'`;
    expect(readPasted(command)).toEqual({
      base_url: "https://api.example.com/v1",
      name: "example",
      api_key: "sk-abc123",
    });
  });

  test.each(["$OPENAI_API_KEY", "$" + "{OPENAI_API_KEY}", "<your-key>", "YOUR_API_KEY", "sk-...", "%KEY%"])(
    "%s stands for a key and is none",
    (key) => {
      expect(readPasted(`curl http://gpu-1/v1/models -H "Authorization: Bearer ${key}"`)).toEqual({
        base_url: "http://gpu-1/v1",
        name: "gpu-1",
      });
    },
  );

  test.each([
    "",
    "   ",
    "hello",
    "two words",
    "http://",
    "https:// example",
    "a b:8000",
    "ftp:x",
    "{}",
    "http://exa mple:99999999/",
  ])("%j is no address", (text) => {
    const found = readPasted(text);
    if (found) expect(() => new URL(found.base_url)).not.toThrow();
    else expect(found).toBe(null);
  });
});
