// What people paste as an endpoint's address, made into one: a bare host, a full request URL, a curl command.

export interface PastedEndpoint {
  base_url: string;
  /** A name to begin with: the host, without what all hosts have. */
  name: string;
  /** A key that stood in a pasted command; never shown. */
  api_key?: string;
}

const OPERATION = /\/(chat\/completions|completions|embeddings|responses|models|rerank|moderations)\/?$/;

/** What documentation writes where a key belongs. */
const PLACEHOLDER = /^[$<%{[]|\.\.|…|^your/i;

/** Null when there is no address in it. */
export function readPasted(text: string): PastedEndpoint | null {
  const trimmed = text.trim();
  if (!trimmed) return null;
  // The end of a sentence or of brackets around it is no part of an address.
  const address = /https?:\/\/[^\s"'`<>]+/i.exec(trimmed)?.[0].replace(/[).,;]+$/, "") ?? bareHost(trimmed);
  if (!address) return null;
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  const path = url.pathname.replace(OPERATION, "").replace(/\/+$/, "");
  const base_url = `${url.protocol}//${url.host}${path || "/v1"}`;
  const key = /authorization:\s*bearer\s+([^\s"'`]+)/i.exec(trimmed)?.[1];
  return { base_url, name: nameOf(url), ...(key && !PLACEHOLDER.test(key) ? { api_key: key } : {}) };
}

function bareHost(text: string): string | null {
  // "localhost:8000", "gpu-1.lan", "10.0.0.7:8000/v1", but no sentence.
  if (!/^[a-z0-9.-]+(:\d{1,5})?(\/\S*)?$/i.test(text)) return null;
  if (!/[.:]/.test(text) && text !== "localhost") return null;
  const plain = /^(localhost|\d+\.\d+\.\d+\.\d+|[^.]+)(:|\/|$)/i.test(text) || /:\d+/.test(text);
  return `${plain ? "http" : "https"}://${text}`;
}

function nameOf(url: URL): string {
  const host = url.hostname;
  if (/^(localhost|[\d.]+|\[.*\])$/.test(host)) return url.port ? `${host}:${url.port}` : host;
  const parts = host.split(".").filter((part) => !["api", "www", "com", "org", "net", "io", "ai"].includes(part));
  return parts[0] ?? host;
}
