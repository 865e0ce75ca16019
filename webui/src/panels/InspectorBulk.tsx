// Several endpoints at once: what they have in common, and acts on all of them. Each change is one act, one revision.

import { action } from "../actions/list";
import { Button } from "../design/parts";
import { useAct } from "../editor/acting";
import { compact, percent } from "../logic/format";
import { modeOf } from "../logic/modes";
import { proportional } from "../logic/shares";
import { type EndpointConfig, receivers } from "../logic/structure";
import { useEditor, useNumbers, useStructure } from "../state/context";
import { InspectorActs } from "./InspectorActs";
import { EditField, useEdit } from "./InspectorEdit";
import { MoreSettings, NumberSetting, RankSetting, SwitchSetting } from "./InspectorSettings";

const SHOWN_NAMES = 6;

export function InspectorBulk({ endpoints }: { endpoints: readonly EndpointConfig[] }) {
  const { run } = useAct();
  const steering = modeOf(useStructure().mode).field;
  const ids = endpoints.map((each) => each.id);
  const names = endpoints.slice(0, SHOWN_NAMES).map((each) => each.name);
  const more = endpoints.length - names.length;
  return (
    <>
      <div className="inspector-part condition">
        <p className="small muted">
          {names.join(", ")}
          {more > 0 && ` and ${more} more`}
        </p>
        <Sums endpoints={endpoints} />
      </div>
      <div className="inspector-part settings">
        <SwitchSetting endpoints={endpoints} field="connected" />
        <SwitchSetting endpoints={endpoints} field="enabled" />
        <BulkQuota endpoints={endpoints} />
        <div className="pair">
          <RankSetting endpoints={endpoints} />
          <NumberSetting endpoints={endpoints} field="max_concurrent" />
        </div>
        {(steering === "weight" || steering === "price_per_million_output") && (
          <NumberSetting endpoints={endpoints} field={steering} />
        )}
        <div>
          <Button icon="check" onClick={() => run(action("test"), ids)}>
            Test all
          </Button>
        </div>
      </div>
      <MoreSettings endpoints={endpoints} />
      <InspectorActs ids={ids} />
    </>
  );
}

function Sums({ endpoints }: { endpoints: readonly EndpointConfig[] }) {
  const numbers = useNumbers((state) => state.numbers.endpoints);
  const sum = (of: (id: number) => number) => endpoints.reduce((total, each) => total + of(each.id), 0);
  const figures: [string, string][] = [
    [compact(sum((id) => numbers.get(id)?.tokens_per_second ?? 0)), "tok/s"],
    [compact(sum((id) => numbers.get(id)?.requests_per_second ?? 0)), "req/s"],
    [String(sum((id) => numbers.get(id)?.inflight ?? 0)), "in flight"],
    [percent(Math.round(sum((id) => numbers.get(id)?.share_percent ?? 0) * 10) / 10), "of tokens"],
  ];
  return (
    <dl className="figures">
      {figures.map(([value, unit]) => (
        <div key={unit}>
          <dd>{value}</dd>
          <dt className="small muted">{unit}</dt>
        </div>
      ))}
    </dl>
  );
}

/** The same quota for each of them, or what they have together in equal parts. */
function BulkQuota({ endpoints }: { endpoints: readonly EndpointConfig[] }) {
  const editor = useEditor();
  const structure = useStructure();
  const edit = useEdit(endpoints, "token_quota_percent");
  const together = endpoints.reduce((total, each) => total + each.token_quota_percent, 0);
  const among = receivers(structure).length;
  const equal = () => {
    const parts = proportional(
      endpoints.map(() => 1),
      Math.round(together),
    );
    const updates = endpoints.map((each, place) => ({
      id: each.id,
      fields: { token_quota_percent: parts[place] ?? 0 },
    }));
    editor.submit({ kind: "change", updates }, { says: "Quotas made equal" }).catch((error) => editor.complain(error));
  };
  return (
    <EditField
      edit={edit}
      numeric
      label="Token quota of each"
      hint={`Together ${percent(Math.round(together * 10) / 10)}, of ${among} that receive.`}
      after={
        <>
          <span className="muted">%</span>
          <Button onClick={equal} title="What they have together, in equal parts">
            Equal parts
          </Button>
        </>
      }
    />
  );
}
