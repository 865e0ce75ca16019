// Test connection: whether it answers, takes the key, which models it lists, how fast; with what is typed and not saved.

import { useEffect, useRef, useState } from "react";
import { useStore } from "zustand";
import { ApiProblem } from "../api/client";
import type { ConnectionTest } from "../api/types";
import { Button, Icon } from "../design/parts";
import { type Finding, findingOf, modelsInWords } from "../logic/connection";
import { draftKey } from "../logic/drafts";
import { problemOfField } from "../logic/fields";
import type { EndpointConfig } from "../logic/structure";
import { useEditor } from "../state/context";

export interface TestResult {
  finding: Finding;
  models: readonly string[];
}

/** `typedKey`: a key that was typed and not saved. What was found goes when address or key are another. */
export function useConnectionTest(endpoint: EndpointConfig, typedKey: string | null) {
  const editor = useEditor();
  const [busy, setBusy] = useState(false);
  const [result, setResult] = useState<TestResult | null>(null);
  const draft = useStore(editor.drafts, ({ drafts }) => drafts.get(draftKey([endpoint.id], "base_url")));
  const url = draft?.text.trim();
  const address = url ?? endpoint.base_url;
  const shown = useRef(address);
  useEffect(() => {
    shown.current = address;
    setResult(null);
  }, [address]);
  useEffect(() => {
    // Null once it is saved: it is the same key.
    if (typedKey !== null) setResult(null);
  }, [typedKey]);
  const run = async () => {
    const unsaved = { ...(url ? { base_url: url } : {}), ...(typedKey ? { api_key: typedKey } : {}) };
    setBusy(true);
    try {
      const found = Object.keys(unsaved).length
        ? await editor.client.post<ConnectionTest>("/test", { id: endpoint.id, ...unsaved })
        : await editor.client.post<ConnectionTest>(`/endpoints/${endpoint.id}/test`);
      if (shown.current !== address) return;
      const finding = findingOf(found, address, endpoint.has_api_key || typedKey !== null);
      setResult({ finding, models: found.models });
      editor.announce(finding.headline);
    } catch (error) {
      setResult({ finding: failedFinding(error), models: [] });
    } finally {
      setBusy(false);
    }
  };
  return { busy, result, run };
}

/** The test itself was not carried out. */
export function failedFinding(error: unknown): Finding {
  const problem = error instanceof ApiProblem ? error : null;
  const [address, key] = ["base_url", "api_key"].map((field) => problemOfField(field, problem?.fields ?? []));
  const said = error instanceof Error ? error.message : String(error);
  const headline = address ? `Address: ${address}` : key ? `API key: ${key}` : said;
  return { tone: "bad", headline, advice: problem?.status === 401 ? "Log in, then test again." : "" };
}

export function TestButton({ busy, onClick }: { busy: boolean; onClick: () => void }) {
  return (
    <Button
      tone="primary"
      icon={busy ? "clock" : "check"}
      why={busy ? "It is being tested" : undefined}
      onClick={onClick}
    >
      Test connection
    </Button>
  );
}

export function TestFinding({ result }: { result: TestResult }) {
  const { finding, models } = result;
  return (
    <div className={`note ${finding.tone} finding`} role="status" data-testid="test-result">
      <p className="row">
        <Icon name={finding.tone === "good" ? "check" : finding.tone === "warn" ? "warning" : "cross"} />
        <strong>{finding.headline}</strong>
      </p>
      {models.length > 0 && <p className="small">{modelsInWords(models)}</p>}
      {finding.advice && <p className="small">{finding.advice}</p>}
    </div>
  );
}
