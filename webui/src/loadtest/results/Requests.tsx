// The latest requests one by one; asked for when somebody unfolds them.

import { useState } from "react";
import { Icon } from "../../design/parts";
import { usePage } from "../context";
import { amount, milliseconds } from "../logic/words";
import { Scroll } from "./Scroll";
import { Spread } from "./Spread";

interface Kept {
  columns: string[];
  rows: (string | number | boolean | null)[][];
  total: number;
}

const SHOWN = 100;
const SPREAD = 5000;

export function Requests({ id, titles }: { id: string; titles: readonly string[] }) {
  const page = usePage();
  const [kept, setKept] = useState<Kept | null>(null);
  const [problem, setProblem] = useState("");
  const load = () => {
    page.client
      .get<Kept>(`/runs/${encodeURIComponent(id)}/requests?limit=${SPREAD}`)
      .then(setKept)
      .catch((error: unknown) => setProblem(error instanceof Error ? error.message : String(error)));
  };
  return (
    <details className="card requests" onToggle={({ currentTarget }) => currentTarget.open && load()}>
      <summary>
        <h2>Requests</h2>
        <span className="small muted">
          {kept
            ? `the latest ${Math.min(SHOWN, kept.rows.length)} of ${kept.total.toLocaleString("en")} that were kept`
            : "one by one"}
        </span>
      </summary>
      {problem && <p className="note warn">{problem}</p>}
      {kept &&
        titles.map((title, card) => (
          <Spreads key={`${title} ${card}`} kept={kept} card={card} title={titles.length > 1 ? title : ""} />
        ))}
      {kept && <RequestTable kept={kept} titles={titles} />}
    </details>
  );
}

/** Of a card's requests that were answered. */
function Spreads({ kept, card, title }: { kept: Kept; card: number; title: string }) {
  const place = (name: string) => kept.columns.indexOf(name);
  const answered = kept.rows.filter((row) => row[place("ok")] === true && row[place("card")] === card);
  const column = (name: string) =>
    answered.map((row) => row[place(name)]).filter((value): value is number => typeof value === "number");
  const speeds = answered.flatMap((row) => {
    const [tokens, time] = [row[place("output_tokens")], row[place("e2e_ms")]];
    return typeof tokens === "number" && typeof time === "number" && time > 0 ? [(1000 * tokens) / time] : [];
  });
  return (
    <div className="spreads">
      {title && <h3 className="spreads-title">{title}</h3>}
      <Spread title="TTFT" values={column("ttft_ms")} show={milliseconds} />
      <Spread title="E2E" values={column("e2e_ms")} show={milliseconds} />
      <Spread title="Output tokens" values={column("output_tokens")} show={amount} />
      <Spread title="Tok/s per request" values={speeds} show={amount} />
    </div>
  );
}

function RequestTable({ kept, titles }: { kept: Kept; titles: readonly string[] }) {
  const rows = kept.rows.map((row) => Object.fromEntries(kept.columns.map((name, place) => [name, row[place]])));
  const latest = rows.sort((a, b) => Number(b.sent_seconds) - Number(a.sent_seconds)).slice(0, SHOWN);
  const number = (value: unknown) => (typeof value === "number" ? value : null);
  return (
    <Scroll label="Requests">
      <table className="table" data-testid="requests">
        <thead>
          <tr>
            <th className="number">Sent at</th>
            {titles.length > 1 && <th>Card</th>}
            <th>Ended</th>
            <th>Endpoint</th>
            <th className="number">TTFT</th>
            <th className="number">E2E</th>
            <th className="number">TPOT</th>
            <th className="number">Tokens in</th>
            <th className="number">Tokens out</th>
            <th className="number">Attempts</th>
            <th>What it said</th>
          </tr>
        </thead>
        <tbody>
          {latest.map((row) => (
            <tr key={`${row.card} ${row.number} ${row.request_id}`}>
              <td className="number">{number(row.sent_seconds)?.toFixed(3)} s</td>
              {titles.length > 1 && <td>{titles[number(row.card) ?? 0]}</td>}
              <td>
                <span className={`row tone-${row.ok ? "good" : "bad"}`}>
                  <Icon name={row.ok ? "check" : "cross"} />
                  {row.ok ? row.status : row.class}
                </span>
              </td>
              <td>{row.endpoint || "–"}</td>
              <td className="number">{milliseconds(number(row.ttft_ms))}</td>
              <td className="number">{milliseconds(number(row.e2e_ms))}</td>
              <td className="number">{milliseconds(number(row.tpot_ms))}</td>
              <td className="number">{row.input_tokens ?? "–"}</td>
              <td className="number">{row.output_tokens ?? "–"}</td>
              <td className="number">{row.attempts}</td>
              <td className="request-detail small mono truncate" title={String(row.detail ?? "")}>
                {row.detail}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}
