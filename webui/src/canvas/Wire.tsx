// A wire: its width is the share of tokens, its label says now and target. Cutting it is one click on the label.

import { BaseEdge, type Edge, EdgeLabelRenderer, type EdgeProps, getBezierPath } from "@xyflow/react";
import { memo, useContext, useEffect, useRef } from "react";
import { Icon } from "../design/parts";
import { usePrediction } from "../editor/Consequence";
import { type Act, connect } from "../logic/acts";
import { along, curveOf } from "../logic/curve";
import { compact, percent, rate } from "../logic/format";
import { targets } from "../logic/shares";
import { type EndpointConfig, endpointOf, isDense } from "../logic/structure";
import { dotsOf, errorPart, labelOf, travelSeconds, widthOf } from "../logic/wires";
import { useEditor, useEndpointNumbers, useNumbers, useStructure, useUi } from "../state/context";
import { PathsContext } from "./Dots";

const HANDLE = 28;
/** Where the wires of the star have come apart. */
const LABEL_AT = 0.7;

type Props = EdgeProps<Edge<{ endpointId: number | null; draining: boolean }>>;

export const Wire = memo(function Wire(props: Props) {
  const [path] = getBezierPath(ends(props));
  const id = props.data?.endpointId ?? 0;
  const numbers = useEndpointNumbers(id);
  const draining = props.data?.draining ?? false;
  const dense = isDense(useStructure());
  const stuck = !draining && numbers !== undefined && !numbers.eligible && numbers.reason !== "full";
  usePath(props.id, path, id, draining);
  const part = (numbers?.share_percent ?? 0) / 100;
  const curve = curveOf(path);
  const [x, y] = curve ? along(curve, LABEL_AT) : [props.targetX, props.targetY];
  const kind = draining ? "draining" : stuck ? "stuck" : "flowing";
  return (
    <>
      <BaseEdge
        id={props.id}
        path={path}
        interactionWidth={24}
        className={`wire ${kind}${props.selected ? " selected" : ""}`}
        style={{ strokeWidth: draining ? 3 : widthOf(part) }}
      />
      {(!dense || props.selected) && (
        <WireLabel id={id} draining={draining} selected={props.selected ?? false} x={x} y={y} />
      )}
    </>
  );
});

/** Handles are wider than the ring they show: wires run from middle to middle. */
function ends(props: Props): Props {
  return { ...props, sourceX: props.sourceX - HANDLE / 2, targetX: props.targetX + HANDLE / 2 };
}

function WireLabel({
  id,
  draining,
  selected,
  x,
  y,
}: {
  id: number;
  draining: boolean;
  selected: boolean;
  x: number;
  y: number;
}) {
  const structure = useStructure();
  const numbers = useEndpointNumbers(id);
  const preview = useUi((state) => state.preview);
  const prediction = usePrediction(preview);
  const endpoint = endpointOf(structure, id);
  if (!endpoint) return null;
  const label = labelOf(endpoint, numbers, structure, targets(structure).get(id));
  const predicted = prediction?.shares.get(id);
  const flows = numbers !== undefined && numbers.tokens_per_second > 0;
  return (
    <EdgeLabelRenderer>
      <div
        className={`wire-label nodrag nopan${selected ? " selected" : ""}`}
        style={{ transform: `translate(-50%, -50%) translate(${x}px, ${y}px)` }}
        data-testid={`wire-label-${id}`}
      >
        {draining ? (
          <span className="tone-busy">draining {numbers?.inflight ?? 0}</span>
        ) : (
          <span>
            <strong>{label.actual}</strong>
            {preview && prediction ? (
              <span className="predicted"> → {percent(Math.round((predicted ?? 0) * 10) / 10)}</span>
            ) : (
              label.target && <span className="muted"> → {label.target}</span>
            )}
          </span>
        )}
        {flows && !draining && (
          <span className="small muted wire-rates">
            {compact(numbers.tokens_per_second)} tok/s · {rate(numbers.requests_per_second)} req/s
          </span>
        )}
        {!draining && <CutButton endpoint={endpoint} />}
      </div>
    </EdgeLabelRenderer>
  );
}

/** Shows what cutting would do while the pointer is on it. */
function CutButton({ endpoint }: { endpoint: EndpointConfig }) {
  const editor = useEditor();
  const considered = useRef<Act | null>(null);
  const consider = (act: Act | null) => {
    const { dialog, asked } = editor.ui.getState();
    if (dialog || asked.length) return;
    considered.current = act;
    editor.ui.setState({ preview: act });
  };
  useEffect(
    // A wire that is cut by a key or by somebody else goes away below the pointer, which does not leave it then.
    () => () => {
      if (considered.current && editor.ui.getState().preview === considered.current) {
        editor.ui.setState({ preview: null });
      }
    },
    [editor],
  );
  return (
    <button
      type="button"
      className="wire-cut"
      aria-label={`Cut the wire to ${endpoint.name}`}
      title="Cut the wire"
      tabIndex={-1}
      onPointerEnter={() => consider(connect([endpoint.id], false))}
      onPointerLeave={() => consider(null)}
      onClick={() => {
        editor.ui.setState({ preview: null });
        editor.submit(connect([endpoint.id], false)).catch((error) => editor.complain(error));
      }}
    >
      <Icon name="cross" />
    </button>
  );
}

/** Tells the dots where this wire runs, and how much runs on it. */
function usePath(wireId: string, path: string, endpointId: number, draining: boolean): void {
  const paths = useContext(PathsContext);
  const numbers = useEndpointNumbers(endpointId);
  useEffect(() => {
    const curve = curveOf(path);
    if (!curve || !numbers || draining) {
      paths.delete(wireId);
      return;
    }
    paths.set(wireId, {
      curve,
      dots: dotsOf(numbers.requests_per_second),
      seconds: travelSeconds(numbers.ttfb_seconds),
      errors: errorPart(numbers),
    });
    return () => void paths.delete(wireId);
  }, [paths, wireId, path, numbers, draining]);
}

export const ClientWire = memo(function ClientWire(props: Props) {
  const [path] = getBezierPath(props);
  const key = props.source.replace(/^client-/, "");
  const total = useNumbers((state) => state.numbers.totals.tokens_per_second);
  const own = useNumbers((state) => state.numbers.clients.get(key)?.tokensPerSecond);
  const part = total > 0 ? (own ?? total) / total : 0;
  return (
    <BaseEdge id={props.id} path={path} className="wire client-wire" style={{ strokeWidth: widthOf(part) * 0.7 }} />
  );
});
