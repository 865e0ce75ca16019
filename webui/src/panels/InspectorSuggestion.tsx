// What a sweep of the load tester found for this endpoint: shown, and never applied by itself.

import { Button } from "../design/parts";
import { sameForAll } from "../logic/fields";
import type { EndpointConfig } from "../logic/structure";
import { useEditor, useUi } from "../state/context";

export function SuggestedMost({ endpoint }: { endpoint: EndpointConfig }) {
  const editor = useEditor();
  const suggestion = useUi((state) => state.suggestion);
  if (suggestion?.endpoint !== endpoint.id || suggestion.maxConcurrent === endpoint.max_concurrent) return null;
  const value = suggestion.maxConcurrent;
  const dismiss = () => editor.ui.setState({ suggestion: null });
  const use = () => {
    const updates = sameForAll([endpoint.id], { max_concurrent: value });
    editor.submit({ kind: "change", updates }).then(
      (done) => done && dismiss(),
      (error) => editor.complain(error),
    );
  };
  return (
    <div className="note theirs" role="status" data-testid="suggested-most">
      <span>
        Most at once: knee found by sweep: <strong>{value}</strong>
      </span>
      <span className="row">
        <Button tight onClick={use}>
          Use
        </Button>
        <Button tight onClick={dismiss}>
          Dismiss
        </Button>
      </span>
    </div>
  );
}
