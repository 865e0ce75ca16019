// Who served what, by the routing headers of the balancer; and the way to its editor.

import { compact, percent } from "../../logic/format";
import { usePageState } from "../context";
import { editorOf } from "../logic/links";
import { milliseconds } from "../logic/words";
import type { EndpointPart } from "../types";
import { Scroll } from "./Scroll";

export function Endpoints({ parts, url }: { parts: readonly EndpointPart[]; url: string }) {
  const link = usePageState((state) => state.links[url]);
  const setting = usePageState((state) => state.library?.about.editor_url);
  if (!parts.length || (parts.length === 1 && !parts[0]?.endpoint)) return null;
  return (
    <section className="result-part">
      <div className="row">
        <h3>Who served it</h3>
        <a className="small" href={link?.editor ?? editorOf(url, setting)} target="_blank" rel="noopener">
          Editor of this balancer
        </a>
      </div>
      <Scroll label="By endpoint">
        <table className="table" data-testid="endpoints">
          <thead>
            <tr>
              <th>Endpoint</th>
              <th className="number">Requests</th>
              <th className="number">Share</th>
              <th className="number">Failed</th>
              <th className="number" title="Tries at backends, the one that answered among them">
                Attempts
              </th>
              <th className="number" title="Requests that another endpoint answered after one had failed">
                Failovers
              </th>
              <th className="number">Tokens out</th>
              <th className="number">TTFT p50</th>
              <th className="number">TTFT p95</th>
              <th className="number">E2E p95</th>
              <th className="number">TPOT mean</th>
            </tr>
          </thead>
          <tbody>
            {parts.map((each) => (
              <tr key={each.endpoint}>
                <th scope="row">{each.endpoint || "not told"}</th>
                <td className="number">{each.requests.toLocaleString("en")}</td>
                <td className="number">{percent(each.share_percent)}</td>
                <td className={`number${each.failed ? " tone-bad" : ""}`}>{each.failed}</td>
                <td className="number">{each.attempts}</td>
                <td className={`number${each.failovers ? " tone-warn" : ""}`}>{each.failovers}</td>
                <td className="number">{compact(each.output_tokens)}</td>
                <td className="number">{milliseconds(each.ttft.p50)}</td>
                <td className="number">{milliseconds(each.ttft.p95)}</td>
                <td className="number">{milliseconds(each.e2e.p95)}</td>
                <td className="number">{milliseconds(each.tpot.mean)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </section>
  );
}
