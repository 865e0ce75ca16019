// The rows of the request log. One opens at a time and tells why it went where it went.

import { Fragment, memo, type ReactNode, useRef } from "react";
import type { RequestView } from "../api/types";
import { Button } from "../design/parts";
import { clock, duration } from "../logic/format";
import { endingOf, modelWords, tokensOf, totalOf, wayOf } from "../logic/requests";
import { EndingWord } from "./pieces";
import { RequestDetail } from "./RequestDetail";
import { useWidth } from "./useLoaded";

interface Column {
  id: string;
  title: string;
  cell: (request: RequestView) => ReactNode;
  /** Its text is shown whole on hover. */
  text?: (request: RequestView) => string;
  number?: boolean;
  /** Left out where there is little room; the opened row tells it too. */
  wideOnly?: boolean;
}

const NARROW_PIXELS = 900;

const COLUMNS: readonly Column[] = [
  { id: "time", title: "time", cell: (each) => <span className="muted">{clock(each.at)}</span> },
  { id: "client", title: "client", cell: (each) => each.client, text: (each) => each.client, wideOnly: true },
  { id: "model", title: "model", cell: modelWords, text: modelWords },
  { id: "way", title: "endpoint", cell: (each) => <strong>{wayOf(each)}</strong>, text: wayOf },
  { id: "attempts", title: "attempts", cell: (each) => each.attempts.length, number: true, wideOnly: true },
  { id: "first", title: "first token", cell: (each) => duration(each.first_byte_seconds), number: true },
  { id: "total", title: "total", cell: totalOf, number: true },
  { id: "tokens", title: "tokens in + out", cell: (each) => <Tokens request={each} /> },
  { id: "status", title: "status", cell: (each) => <Status request={each} /> },
];

const NARROW_COLUMNS = COLUMNS.filter((each) => !each.wideOnly);

export function RequestTable(props: {
  requests: readonly RequestView[];
  open: number | null;
  onOpen: (number: number | null) => void;
}) {
  const ref = useRef<HTMLTableElement>(null);
  const width = useWidth(ref);
  const narrow = width > 0 && width < NARROW_PIXELS;
  const columns = narrow ? NARROW_COLUMNS : COLUMNS;
  return (
    <table className={`table request-table${narrow ? " narrow" : ""}`} ref={ref}>
      <colgroup>
        <col className="col-opener" />
        {columns.map((each) => (
          <col key={each.id} className={`col-${each.id}`} />
        ))}
      </colgroup>
      <thead>
        <tr>
          <th scope="col">
            <span className="visually-hidden">Details</span>
          </th>
          {columns.map((each) => (
            <th key={each.id} scope="col" className={each.number ? "number" : undefined}>
              {each.title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {props.requests.map((each) => (
          <Row
            key={each.number}
            request={each}
            columns={columns}
            open={props.open === each.number}
            onOpen={props.onOpen}
          />
        ))}
      </tbody>
    </table>
  );
}

const Row = memo(function Row(props: {
  request: RequestView;
  columns: readonly Column[];
  open: boolean;
  onOpen: (number: number | null) => void;
}) {
  const { request, columns, open } = props;
  const detail = `request-${request.number}`;
  const toggle = () => {
    // Text that is being selected is not a click.
    if (getSelection()?.isCollapsed !== false) props.onOpen(open ? null : request.number);
  };
  return (
    <Fragment>
      <tr className={open ? "opens opened" : "opens"} onClick={toggle}>
        <td>
          <Button
            tone="quiet"
            tight
            icon={open ? "down" : "right"}
            aria-label={`Why there: request at ${clock(request.at)}`}
            aria-expanded={open}
            aria-controls={open ? detail : undefined}
            title="Why there"
          />
        </td>
        {columns.map((each) => (
          <td key={each.id} className={each.number ? "number truncate" : "truncate"} title={each.text?.(request)}>
            {each.cell(request)}
          </td>
        ))}
      </tr>
      {open && (
        <tr className="opened-detail" id={detail}>
          <td colSpan={columns.length + 1}>
            <RequestDetail request={request} />
          </td>
        </tr>
      )}
    </Fragment>
  );
});

function Tokens({ request }: { request: RequestView }) {
  const { provenance } = request;
  return (
    <>
      {tokensOf(request)}
      <span className="provenance small muted">
        {provenance === null || provenance === "reported" ? "" : provenance}
      </span>
    </>
  );
}

function Status({ request }: { request: RequestView }) {
  const ending = endingOf(request);
  return <EndingWord ending={{ ...ending, word: `${request.status} ${ending.word}` }} />;
}
