// Nothing receives traffic: what that means and the next step, in the middle of the stage.

import { ACTIONS } from "../actions/list";
import { Button } from "../design/parts";
import { receivers } from "../logic/structure";
import { useStructure } from "../state/context";
import { useAct } from "./acting";

export function EmptyState() {
  const structure = useStructure();
  const { run } = useAct();
  const add = ACTIONS.find((each) => each.id === "add");
  if (receivers(structure).length || !add) return null;
  const none = structure.endpoints.length === 0;
  return (
    <section className={`empty-state card${none ? "" : " low"}`} aria-label="No receiver">
      <h2>{none ? "Where should requests go?" : "No endpoint receives traffic: clients get 503."}</h2>
      <p className="muted">
        {none
          ? "Add the address of a vLLM, Ollama or any OpenAI-compatible server. Until one is connected, clients get 503."
          : "Draw a wire from Incoming to an endpoint, press its switch, or add another."}
      </p>
      <Button tone="primary" icon="plus" onClick={() => run(add)}>
        {none ? "Add the first endpoint" : "Add endpoint"}
      </Button>
    </section>
  );
}
