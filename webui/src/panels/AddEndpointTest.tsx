// While an address is typed: a test of it after a pause, and what was found.

import { useEffect, useState } from "react";
import type { ConnectionTest } from "../api/types";
import { Icon } from "../design/parts";
import { findingOf } from "../logic/connection";
import { useEditor } from "../state/context";
import { failedFinding, TestFinding, type TestResult } from "./InspectorTest";

const PAUSE_MILLISECONDS = 500;

export type AddressTestState =
  | { kind: "idle" }
  | { kind: "testing"; host: string }
  | { kind: "done"; result: TestResult };

/** Tests what stands there half a second after it last changed; null: nothing to test yet. */
export function useAddressTest(baseUrl: string | null, key: string): AddressTestState {
  const editor = useEditor();
  const [state, setState] = useState<AddressTestState>({ kind: "idle" });
  useEffect(() => {
    if (!baseUrl) return setState({ kind: "idle" });
    let overtaken = false;
    setState({ kind: "testing", host: baseUrl });
    const run = async () => {
      const body = { base_url: baseUrl, ...(key.trim() ? { api_key: key.trim() } : {}) };
      const result = await editor.client.post<ConnectionTest>("/test", body).then(
        (found): TestResult => ({ finding: findingOf(found, baseUrl, key.trim() !== ""), models: found.models }),
        (error: unknown): TestResult => ({ finding: failedFinding(error), models: [] }),
      );
      if (!overtaken) setState({ kind: "done", result });
    };
    const timer = setTimeout(() => void run(), PAUSE_MILLISECONDS);
    return () => {
      overtaken = true;
      clearTimeout(timer);
    };
  }, [editor, baseUrl, key]);
  return state;
}

/** Of steady height, so that the fields below do not jump while one types. */
export function AddEndpointTest({ state }: { state: AddressTestState }) {
  return (
    <div className="address-test">
      {state.kind === "idle" && (
        <div className="note finding muted">
          <p className="row">
            <Icon name="question" />
            Its models and what may be wrong show here.
          </p>
        </div>
      )}
      {state.kind === "testing" && (
        <div className="note finding" role="status">
          <p className="row">
            <Icon name="clock" />
            <span className="truncate">Asking {state.host} for its models …</span>
          </p>
        </div>
      )}
      {state.kind === "done" && <TestFinding result={state.result} />}
    </div>
  );
}
