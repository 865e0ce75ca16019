// The cards on the canvas: clients, Incoming, endpoints. Numbers come from their own store, so that a tick redraws
// figures and not the graph.

import { Handle, type Node, type NodeProps, Position } from "@xyflow/react";
import { memo } from "react";
import { action } from "../actions/list";
import { Button, Ring, Sparkline, StatusBadge, Switch } from "../design/parts";
import { useAct } from "../editor/acting";
import { connect } from "../logic/acts";
import { compact, hostOf, rate } from "../logic/format";
import type { GraphNode } from "../logic/graph";
import { spoken, statusOf } from "../logic/status";
import type { EndpointConfig } from "../logic/structure";
import { useEditor, useEndpointNumbers, useNumbers, useStructure, useUi } from "../state/context";

type Props = NodeProps<Node<{ node: GraphNode }>>;

function classes(...names: (string | false)[]): string {
  return names.filter(Boolean).join(" ");
}

export const IncomingNode = memo(function IncomingNode({ id }: Props) {
  const totals = useNumbers((state) => state.numbers.totals);
  const cursor = useUi((state) => state.cursor === id);
  const wiring = useUi((state) => state.wiringFrom === id);
  return (
    <div
      id={`node-${id}`}
      role="group"
      aria-label={`Incoming, ${rate(totals.tokens_per_second)} tokens per second`}
      className={classes("node incoming", cursor && "cursor", wiring && "wiring")}
    >
      <Handle type="target" position={Position.Left} id="clients" isConnectable={false} className="plain" />
      <span className="small muted">Incoming</span>
      <span className="incoming-rate">{compact(totals.tokens_per_second)}</span>
      <span className="small muted">tok/s · {rate(totals.requests_per_second)} req/s</span>
      <Handle type="source" position={Position.Right} id="out" title="Draw a wire from here" />
    </div>
  );
});

export const ClientNode = memo(function ClientNode({ id, data }: Props) {
  const client = data.node.kind === "client" ? data.node.client : null;
  const total = useNumbers((state) => state.numbers.totals.tokens_per_second);
  const own = useNumbers((state) => (client ? (state.numbers.clients.get(client.key)?.tokensPerSecond ?? 0) : 0));
  const cursor = useUi((state) => state.cursor === id);
  const open = useStructure().open;
  const name = client?.name ?? (open ? "anyone" : "nobody");
  const what = client ? "client token" : open ? "open to all" : "no client token";
  return (
    <div
      id={`node-${id}`}
      role="group"
      aria-label={`Client ${name}`}
      className={classes("node client", cursor && "cursor")}
      title={
        client
          ? `${client.preview}${client.id === null ? " · from LB_CLIENT_TOKENS" : ""}`
          : open
            ? "The data plane is open: create a client token to close it."
            : "There is no client token any more: nobody can send."
      }
    >
      <strong className="truncate">{name}</strong>
      <span className="small muted truncate">
        {what} · {rate(client ? own : total)} tok/s
      </span>
      <Handle type="source" position={Position.Right} isConnectable={false} className="plain" />
    </div>
  );
});

export const EndpointNode = memo(function EndpointNode({ id, data, selected, dragging }: Props) {
  const endpoint = data.node.kind === "endpoint" ? data.node.endpoint : null;
  const cursor = useUi((state) => state.cursor === id);
  const grabbed = useUi((state) => state.grabbed?.node === id);
  if (!endpoint) return null;
  return (
    <EndpointCard
      endpoint={endpoint}
      className={classes(selected && "selected", cursor && "cursor", (grabbed || dragging) && "grabbed")}
    />
  );
});

function EndpointCard({ endpoint, className }: { endpoint: EndpointConfig; className: string }) {
  const editor = useEditor();
  const mode = useStructure().mode;
  const numbers = useEndpointNumbers(endpoint.id);
  const spark = useNumbers((state) => state.sparks.get(endpoint.id)) ?? [];
  const status = statusOf(endpoint, numbers);
  const { connected, enabled, name } = endpoint;
  const toggle = (on: boolean) => {
    editor.submit(connect([endpoint.id], on)).catch((error) => editor.complain(error));
  };
  return (
    <div
      id={`node-endpoint-${endpoint.id}`}
      role="group"
      aria-label={spoken(endpoint, numbers)}
      className={classes("node endpoint", !(connected && enabled) && "off", className)}
    >
      <Handle type="target" position={Position.Left} id="in" title="Draw a wire to here" />
      <div className="endpoint-head">
        <Load endpoint={endpoint} />
        <div className="grow">
          <strong className="truncate endpoint-name" title={name}>
            {name}
          </strong>
          <span className="small muted truncate endpoint-host" title={endpoint.base_url}>
            {hostOf(endpoint.base_url)}
          </span>
        </div>
        <Switch
          on={connected}
          label={`${name} receives traffic`}
          tabIndex={-1}
          onChange={toggle}
          title={connected ? "Cut the wire" : "Connect to Incoming"}
        />
      </div>
      <div className="endpoint-state row">
        <StatusBadge status={status} />
        {mode === "priority" && connected && <span className="rank-badge">rank {endpoint.priority_order}</span>}
        {endpoint.discovered && <span className="small muted">discovered</span>}
        <Draining endpoint={endpoint} inflight={numbers?.inflight ?? 0} />
        {connected && numbers?.share_percent != null && (
          <span className="share-chip" title="Share of all tokens, last 60 s">
            {numbers.share_percent.toFixed(1)} %
          </span>
        )}
      </div>
      <div className="endpoint-numbers">
        <Figure value={compact(numbers?.tokens_per_second ?? 0)} unit="tok/s" />
        <Figure value={rate(numbers?.requests_per_second ?? 0)} unit="req/s" />
        <Figure value={`${numbers?.inflight ?? 0} / ${endpoint.max_concurrent || "∞"}`} unit="in flight" />
      </div>
      <Sparkline points={spark} width={234} height={16} />
    </div>
  );
}

/** In flight of the most at once; while it cools down, the time that is left. */
function Load({ endpoint }: { endpoint: EndpointConfig }) {
  const numbers = useEndpointNumbers(endpoint.id);
  const status = statusOf(endpoint, numbers);
  if (status.seconds !== null && status.seconds > 0) {
    const label = status.seconds < 100 ? String(Math.ceil(status.seconds)) : "…";
    return <Ring part={Math.min(1, status.seconds / 60)} tone={status.tone} label={label} />;
  }
  const inflight = numbers?.inflight ?? 0;
  const part = endpoint.max_concurrent ? inflight / endpoint.max_concurrent : inflight ? 0.08 : 0;
  return <Ring part={part} tone={part >= 1 ? "busy" : status.tone} />;
}

function Draining({ endpoint, inflight }: { endpoint: EndpointConfig; inflight: number }) {
  const { run } = useAct();
  if (endpoint.connected || !inflight) return null;
  const cut = () => run(action("abort"), [endpoint.id]);
  return (
    <Button tight tone="danger" className="nodrag nopan cut-now" tabIndex={-1} onClick={cut}>
      Cut now
    </Button>
  );
}

function Figure({ value, unit }: { value: string; unit: string }) {
  return (
    <div className="figure">
      <strong>{value}</strong>
      <span className="small muted">{unit}</span>
    </div>
  );
}
