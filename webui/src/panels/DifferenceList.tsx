// Fields before and after, as a list of two columns.

import { Icon } from "../design/parts";
import type { Difference } from "../logic/differences";
import "./DifferenceList.css";

export function DifferenceList({ differences }: { differences: readonly Difference[] }) {
  if (!differences.length) return null;
  const both = differences.some((each) => each.before !== null && each.after !== null);
  return (
    <dl className={both ? "differences" : "differences many"}>
      {differences.map((each) => (
        <div key={each.field} className="difference">
          <dt>{each.label}</dt>
          <dd>
            {each.before !== null && <del>{each.before}</del>}
            {each.before !== null && each.after !== null && (
              <>
                <Icon name="right" />
                <span className="visually-hidden">then</span>
              </>
            )}
            {each.after !== null && <ins>{each.after}</ins>}
          </dd>
        </div>
      ))}
    </dl>
  );
}
