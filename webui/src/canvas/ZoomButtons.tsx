// Fit and zoom, at the canvas's corner.

import { action } from "../actions/list";
import { Button } from "../design/parts";
import { useAct } from "../editor/acting";

export function ZoomButtons() {
  const { run } = useAct();
  return (
    <div className="zoom-buttons" role="group" aria-label="Zoom">
      <Button icon="plus" tight aria-label="Zoom in" onClick={() => run(action("zoom-in"))} />
      <Button icon="minus" tight aria-label="Zoom out" onClick={() => run(action("zoom-out"))} />
      <Button icon="fit" tight aria-label="Fit to view" title="Fit to view (F)" onClick={() => run(action("fit"))} />
      <Button icon="tidy" tight aria-label="Tidy up" title="Tidy up (Shift+T)" onClick={() => run(action("tidy"))} />
    </div>
  );
}
