// Ways between the editor and this page. A key is never part of one.

export interface EditorLink {
  /** The editor's page: "http://127.0.0.1:8090/admin". */
  editor: string;
  /** The endpoint there that a card's target is; null where it is the balancer itself. */
  endpoint: number | null;
}

export interface NewCard {
  url: string;
  model: string;
  name: string;
  link: EditorLink | null;
}

/** What "#/new?url=...&model=...&name=...&editor=...&endpoint=..." asks for; null where it is something else. */
export function readNewCard(hash: string): NewCard | null {
  const [path, query = ""] = hash.split("?", 2);
  if (path !== "#/new") return null;
  const asked = new URLSearchParams(query);
  const url = web(asked.get("url"));
  if (!url) return null;
  const editor = web(asked.get("editor"));
  const endpoint = /^\d{1,9}$/.test(asked.get("endpoint") ?? "") ? Number(asked.get("endpoint")) : null;
  return {
    url,
    model: asked.get("model") ?? "",
    name: asked.get("name") ?? "",
    link: editor ? { editor, endpoint } : null,
  };
}

/** Where the editor shows what was suggested; the operator accepts it there. */
export function editorAddress(link: EditorLink, suggestion?: number): string {
  if (link.endpoint === null) return link.editor;
  const query = suggestion === undefined ? "" : `?suggest_max_concurrent=${suggestion}`;
  return `${link.editor}#/endpoint/${link.endpoint}${query}`;
}

/** The editor of a balancer that is a target: where the settings say, else at the target's own address. */
export function editorOf(url: string, setting: string | undefined): string {
  return setting || `${new URL(url).origin}/admin`;
}

/** Every editor there is a way to, each once. */
export function editorsOf(links: Readonly<Record<string, EditorLink>>, setting: string | undefined): string[] {
  const all = [setting ?? "", ...Object.values(links).map((each) => each.editor)];
  return [...new Set(all.filter((each) => each !== ""))];
}

/** An address of the web, so that nothing else stands behind a link. */
function web(text: string | null): string | null {
  try {
    const url = new URL(text ?? "");
    return url.protocol === "http:" || url.protocol === "https:" ? (text ?? null) : null;
  } catch {
    return null;
  }
}
