// How a figure is spread over the requests: bars, and the same in words.

import { histogramOf } from "../logic/histogram";

const HEIGHT = 72;
const STEP = 10;

export function Spread({
  title,
  values,
  show,
}: {
  title: string;
  values: readonly number[];
  show: (value: number) => string;
}) {
  const found = histogramOf(values);
  const most = Math.max(1, ...(found?.bins ?? []));
  return (
    <figure className="spread">
      <figcaption>
        <h3>{title}</h3>
      </figcaption>
      {found ? (
        <>
          <svg
            className="spread-bars"
            viewBox={`0 0 ${found.bins.length * STEP} ${HEIGHT}`}
            preserveAspectRatio="none"
            aria-hidden="true"
          >
            {found.bins.map((count, bin) => {
              const height = (count / most) * HEIGHT;
              return <rect key={bin} x={bin * STEP + 1} y={HEIGHT - height} width={STEP - 2} height={height} />;
            })}
          </svg>
          <p className="row spread-ends small muted">
            <span>{show(found.low)}</span>
            <span>
              {show(found.high)}
              {found.beyond > 0 && `, ${found.beyond} above`}
            </span>
          </p>
        </>
      ) : (
        <p className="small muted">{values.length ? `all ${show(values[0] ?? 0)}` : "no values"}</p>
      )}
    </figure>
  );
}
