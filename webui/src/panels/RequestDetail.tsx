// One request opened: every attempt with its reason, the times, and who would take it now.

import { useState } from "react";
import type { ExplanationView, RequestView } from "../api/types";
import { Button, Icon } from "../design/parts";
import { clock, duration } from "../logic/format";
import {
  candidateInWords,
  inOrder,
  modelWords,
  outcomeOf,
  passedOver,
  provenanceInWords,
  tokensOf,
  verdictInWords,
  whyThere,
} from "../logic/requests";
import { useEditor } from "../state/context";
import { Copyable, EndingWord } from "./pieces";

export function RequestDetail({ request }: { request: RequestView }) {
  return (
    <div className="request-detail">
      <div className="stack">
        <h3>Why there</h3>
        <p>{whyThere(request)}</p>
        {request.attempts.length > 0 && <Attempts request={request} />}
        {request.error && (
          <p className="note bad row">
            <Icon name="warning" />
            <span className="request-error">{request.error}</span>
          </p>
        )}
        <Explain request={request} />
      </div>
      <Facts request={request} />
    </div>
  );
}

function Attempts({ request }: { request: RequestView }) {
  return (
    <table className="table attempts">
      <thead>
        <tr>
          <th scope="col">attempt</th>
          <th scope="col">endpoint</th>
          <th scope="col">what came of it</th>
          <th scope="col" className="number">
            took
          </th>
        </tr>
      </thead>
      <tbody>
        {request.attempts.map((each, place) => (
          <tr key={place}>
            <td>{place + 1}</td>
            <td>
              <strong>{each.endpoint}</strong>
            </td>
            <td className="wraps">
              <EndingWord ending={outcomeOf(each)} /> <span className="muted">{each.result}</span>
              {each.panic && <span className="muted"> (in need: thought to be down, nothing else was left)</span>}
              {passedOver(each) && <span className="small muted passed-over">passed over: {passedOver(each)}</span>}
            </td>
            <td className="number">{duration(each.seconds)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Facts({ request }: { request: RequestView }) {
  const rows: [string, React.ReactNode][] = [
    ["Request id", <Copyable key="id" text={request.request_id} what="the request id" />],
    ["Client", request.client],
    ["Operation", `${request.operation}${request.streamed ? ", streamed" : ", not streamed"}`],
    ["Model", modelWords(request)],
    ["First byte", duration(request.first_byte_seconds)],
    ["Total", duration(request.total_seconds)],
    ["Own overhead", duration(request.overhead_seconds)],
    ["Tokens in + out", `${tokensOf(request)} (${provenanceInWords(request.provenance)})`],
  ];
  return (
    <dl className="facts">
      {rows.map(([name, value]) => (
        <div key={name} className="fact">
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Explain({ request }: { request: RequestView }) {
  const editor = useEditor();
  const [answer, setAnswer] = useState<{ explanation: ExplanationView; at: string } | null>(null);
  const [problem, setProblem] = useState("");
  const explain = async () => {
    setProblem("");
    try {
      const body = request.model ? { model: request.model } : {};
      const explanation = await editor.client.post<ExplanationView>("/explain", body);
      setAnswer({ explanation, at: new Date().toISOString() });
      editor.announce(verdictInWords(explanation));
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <div className="stack">
      <div>
        <Button tight icon="question" onClick={() => void explain()} title="Asks without sending anything">
          {answer ? "Ask again" : "Explain: who would take it now, and why"}
        </Button>
      </div>
      {problem && (
        <p className="note bad" role="alert">
          {problem}
        </p>
      )}
      {answer && <Explained {...answer} />}
    </div>
  );
}

/** What was asked for is seen, also at the lower end of the drawer. */
function intoView(element: HTMLElement | null): void {
  element?.scrollIntoView({ block: "start" });
}

function Explained({ explanation, at }: { explanation: ExplanationView; at: string }) {
  return (
    <div className="stack explained" ref={intoView}>
      <p>
        <strong>{verdictInWords(explanation)}</strong>{" "}
        <span className="small muted">
          At {clock(at)}; nothing was sent. {explanation.strategy === "random" ? "" : "The lowest score wins."}
        </span>
      </p>
      <table className="table attempts">
        <thead>
          <tr>
            <th scope="col">endpoint</th>
            <th scope="col">why</th>
            <th scope="col" className="number">
              score
            </th>
            <th scope="col" className="number">
              share
            </th>
          </tr>
        </thead>
        <tbody>
          {inOrder(explanation).map((each) => {
            const chosen = each.id === explanation.endpoint?.id;
            return (
              <tr key={each.id}>
                <td>
                  <strong>{each.name}</strong>
                </td>
                <td className="wraps">
                  <span className={`panel-ending tone-${chosen ? "good" : each.eligible ? "idle" : "warn"}`}>
                    <Icon name={chosen ? "check" : each.eligible ? "dot" : "cross"} />
                    {chosen ? "would take it" : each.eligible ? "could" : "not now"}
                  </span>{" "}
                  <span className="muted">{candidateInWords(each)}</span>
                </td>
                <td className="number">{each.score === null ? "–" : each.score.toFixed(2)}</td>
                <td className="number">{each.share === null ? "–" : each.share}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
