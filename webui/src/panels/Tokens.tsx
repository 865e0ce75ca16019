// Client tokens: who may send requests. A new one is shown once, in this panel alone, and forgotten with it.

import { useRef, useState } from "react";
import { ApiProblem } from "../api/client";
import { Button, Icon } from "../design/parts";
import { ago, compact } from "../logic/format";
import type { ClientConfig } from "../logic/structure";
import { useEditor, useNumbers, useStructure } from "../state/context";
import type { Editor } from "../state/editor";
import { Copyable, PanelScroll } from "./pieces";
import "./drawer.css";
import "./Tokens.css";
import { useNow } from "./useLoaded";

interface Created {
  name: string;
  token: string;
}

export function Tokens() {
  const { clients, open } = useStructure();
  const [created, setCreated] = useState<readonly Created[]>([]);
  return (
    <div className="panel">
      <NewToken onCreated={(each) => setCreated([each, ...created])} />
      <PanelScroll label="Client tokens in force">
        {created.map((each) => (
          <Shown key={each.token} created={each} onDone={() => setCreated(created.filter((other) => other !== each))} />
        ))}
        {clients.length === 0 && open && (
          <p className="note warn panel-note row">
            <Icon name="warning" />
            <span>
              <strong>The data plane is open:</strong> there is no client token, so whoever reaches this port may send
              requests. The first token closes it for good: from then on every request needs one.
            </span>
          </p>
        )}
        {clients.length === 0 && !open && (
          <p className="note warn panel-note row">
            <Icon name="key" />
            <span>
              <strong>Nobody can send:</strong> all client tokens were revoked, and every request needs one. Create one.
            </span>
          </p>
        )}
        {clients.length > 0 && <Table clients={clients} />}
      </PanelScroll>
    </div>
  );
}

function NewToken({ onCreated }: { onCreated: (created: Created) => void }) {
  const editor = useEditor();
  const [name, setName] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const create = async (event: React.FormEvent) => {
    event.preventDefault();
    if (busy) return;
    setProblem("");
    if (!name.trim()) return setProblem("Give it the name of whoever will use it.");
    setBusy(true);
    try {
      const made = await editor.client.post<Created>("/tokens", { name });
      onCreated({ name: made.name, token: made.token });
      setName("");
      editor.announce(`Token ${made.name} created. Copy it now.`);
      await refreshed(editor);
    } catch (error) {
      setProblem(nameProblem(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <form className="panel-tools" onSubmit={create} noValidate>
      <label htmlFor="new-token" className="small muted">
        New token for
      </label>
      <input
        id="new-token"
        className="input token-name"
        placeholder="team-search"
        value={name}
        maxLength={120}
        autoComplete="off"
        aria-invalid={problem ? true : undefined}
        aria-describedby={problem ? "new-token-problem" : undefined}
        onChange={(event) => setName(event.target.value)}
      />
      <Button type="submit" tight tone="primary" icon="plus" why={busy ? "It is being created." : undefined}>
        Create
      </Button>
      {problem && (
        <span className="problem" id="new-token-problem" role="alert">
          {problem}
        </span>
      )}
    </form>
  );
}

function Shown({ created, onDone }: { created: Created; onDone: () => void }) {
  return (
    <div className="note good panel-note token-shown">
      <p>
        <strong>The token for {created.name}, shown this once.</strong> Copy it now: only its fingerprint is kept, and
        nobody can show it again.
      </p>
      <div className="row wrap">
        <Copyable block text={created.token} what="the token" />
        <Button tight onClick={onDone}>
          I have it
        </Button>
      </div>
    </div>
  );
}

function Table({ clients }: { clients: readonly ClientConfig[] }) {
  return (
    <table className="table token-table">
      <thead>
        <tr>
          <th scope="col">name</th>
          <th scope="col">token</th>
          <th scope="col" className="number">
            requests
          </th>
          <th scope="col" className="number">
            tokens
          </th>
          <th scope="col">last used</th>
          <th scope="col">
            <span className="visually-hidden">Acts</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {clients.map((each) => (
          <Row key={each.key} client={each} last={clients.length === 1} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ client, last }: { client: ClientConfig; last: boolean }) {
  const editor = useEditor();
  const numbers = useNumbers((state) => state.numbers.clients.get(client.key));
  const now = useNow(5);
  const [renaming, setRenaming] = useState(false);
  const renameButton = useRef<HTMLButtonElement>(null);
  const renamed = () => {
    setRenaming(false);
    renameButton.current?.focus();
  };
  const revoke = async () => {
    const sure = await editor.ask({
      title: `Revoke the token of ${client.name}?`,
      text: `Its requests are refused with 401 from now on; those under way finish. This cannot be undone.${
        last ? " It is the last token: nobody can send until you create another." : ""
      }`,
      confirm: "Revoke",
      danger: true,
    });
    if (!sure) return;
    try {
      await editor.client.send({ method: "DELETE", path: `/tokens/${client.id}` });
      editor.toast({ tone: "plain", text: `Token of ${client.name} revoked` });
      await refreshed(editor);
    } catch (error) {
      editor.complain(error);
    }
  };
  return (
    <tr>
      <td className="truncate">
        {renaming ? <Rename client={client} onDone={renamed} /> : <strong>{client.name}</strong>}
      </td>
      <td className="mono small">{client.preview}</td>
      <td className="number">{(numbers?.requests ?? 0).toLocaleString("en")}</td>
      <td className="number" title={(numbers?.tokens ?? 0).toLocaleString("en")}>
        {compact(numbers?.tokens ?? 0)}
      </td>
      <td className="muted">{ago(numbers?.lastUsedAt ?? null, now)}</td>
      <td className="number">
        {client.id === null ? (
          <span className="small muted" title="Set in LB_CLIENT_TOKENS: change it there and restart">
            from the environment
          </span>
        ) : (
          <span className="token-acts">
            <Button
              ref={renameButton}
              tone="quiet"
              tight
              why={renaming ? "It is being renamed." : undefined}
              aria-label={`Rename ${client.name}`}
              onClick={() => setRenaming(true)}
            >
              Rename
            </Button>
            <Button tone="danger" tight aria-label={`Revoke ${client.name}`} onClick={() => void revoke()}>
              Revoke
            </Button>
          </span>
        )}
      </td>
    </tr>
  );
}

function Rename({ client, onDone }: { client: ClientConfig; onDone: () => void }) {
  const editor = useEditor();
  const [name, setName] = useState(client.name);
  const [problem, setProblem] = useState("");
  const id = `rename-${client.key}`;
  const save = async (event: React.FormEvent) => {
    event.preventDefault();
    if (name === client.name) return onDone();
    setProblem("");
    if (!name.trim()) return setProblem("It needs a name.");
    try {
      await editor.client.send({ method: "PATCH", path: `/tokens/${client.id}`, body: { name } });
      await refreshed(editor);
      editor.announce(`Renamed to ${name}`);
      onDone();
    } catch (error) {
      setProblem(nameProblem(error));
    }
  };
  const leave = (event: React.KeyboardEvent) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    onDone();
  };
  return (
    <form className="token-rename" onSubmit={save} onKeyDown={leave} noValidate>
      <input
        className="input"
        aria-label={`New name of ${client.name}`}
        aria-invalid={problem ? true : undefined}
        aria-describedby={problem ? id : undefined}
        value={name}
        maxLength={120}
        autoComplete="off"
        ref={focusOnce}
        onChange={(event) => setName(event.target.value)}
      />
      <Button type="submit" tight icon="check" aria-label="Save the name" />
      <Button tone="quiet" tight icon="cross" aria-label="Keep the old name" onClick={onDone} />
      {problem && (
        <span className="problem" id={id} role="alert">
          {problem}
        </span>
      )}
    </form>
  );
}

/** For an input that appears because somebody asked for it. */
function focusOnce(input: HTMLInputElement | null): void {
  input?.focus();
  input?.select();
}

/** What was done is done, also when the next look at the state fails: the live state brings it. */
async function refreshed(editor: Editor): Promise<void> {
  await editor.refresh().catch(() => undefined);
}

function nameProblem(error: unknown): string {
  if (!(error instanceof ApiProblem)) return String(error);
  return error.fields.find((each) => each.field === "name")?.message ?? error.message;
}
