// What can be done with the endpoints of the inspector: from the registry, those that apply first.

import { action } from "../actions/list";
import { Button, type IconName } from "../design/parts";
import { useAct } from "../editor/acting";
import { useFlow, useStructure } from "../state/context";

/** With their icons, in their order; `hidden`: not shown where they do not apply; `bare`: the icon says it. */
const SHOWN: readonly { id: string; icon: IconName; title?: string; hidden?: true; bare?: true }[] = [
  { id: "connect", icon: "plug", title: "Connect", hidden: true },
  { id: "cut", icon: "drain", title: "Drain", hidden: true },
  { id: "abort", icon: "cut", hidden: true },
  { id: "requests-here", icon: "list", title: "Requests", hidden: true },
  { id: "load-test", icon: "chart", bare: true },
  { id: "duplicate", icon: "copy", bare: true },
  { id: "delete", icon: "trash", title: "Delete" },
];

export function InspectorActs({ ids }: { ids: readonly number[] }) {
  // What applies depends on the structure and on what drains.
  useStructure();
  useFlow((state) => state.draining);
  const { run, context } = useAct();
  const here = context(ids);
  return (
    <div className="inspector-acts" role="group" aria-label="Actions">
      {SHOWN.map(({ id, icon, title, hidden, bare }) => {
        const each = action(id);
        const applies = each.applies(here);
        if (hidden && applies !== true) return null;
        return (
          <Button
            key={id}
            tight
            icon={bare ? icon : undefined}
            aria-label={bare ? each.title : undefined}
            tone={each.danger ? "danger" : undefined}
            title={`${each.does} (${each.keys[0]})`}
            why={typeof applies === "string" ? applies : undefined}
            onClick={() => run(each, ids)}
          >
            {bare ? null : (title ?? each.title)}
          </Button>
        );
      })}
    </div>
  );
}
