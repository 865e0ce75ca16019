// The wire that is being drawn. One that is pulled out of its endpoint hangs on Incoming.

import { type ConnectionLineComponentProps, getBezierPath, Position, useReactFlow } from "@xyflow/react";
import { endpointIdOf } from "../logic/graph";
import { INCOMING_SIZE } from "../logic/layout";
import { useEditor } from "../state/context";

export function ConnectionLine({ fromNode, fromX, fromY, toX, toY }: ConnectionLineComponentProps) {
  const editor = useEditor();
  const flow = useReactFlow();
  const id = endpointIdOf(fromNode.id);
  const plugged = editor.structure.endpoints.some((each) => each.id === id && each.connected);
  const incoming = flow.getNode("incoming")?.position;
  const outOfIncoming = fromNode.id === "incoming" || (plugged && incoming);
  const start =
    plugged && incoming
      ? { x: incoming.x + INCOMING_SIZE.width, y: incoming.y + INCOMING_SIZE.height / 2 }
      : { x: fromX, y: fromY };
  const [path] = getBezierPath({
    sourceX: start.x,
    sourceY: start.y,
    targetX: toX,
    targetY: toY,
    sourcePosition: outOfIncoming ? Position.Right : Position.Left,
    targetPosition: outOfIncoming ? Position.Left : Position.Right,
  });
  return <path d={path} fill="none" className="react-flow__connection-path" />;
}
