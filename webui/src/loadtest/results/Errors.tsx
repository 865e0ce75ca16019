// Failures by their kind, with one of them word for word.

import { Icon } from "../../design/parts";
import type { ErrorGroup } from "../types";

export function Errors({ errors }: { errors: readonly ErrorGroup[] }) {
  return (
    <ul className="errors" aria-label="Errors">
      {errors.map((each) => (
        <li key={each.class}>
          <span className="row tone-bad">
            <Icon name="cross" />
            <strong>{each.count.toLocaleString("en")} ×</strong>
            <span>{each.meaning}</span>
            <code className="mono small error-class">{each.class}</code>
          </span>
          {each.sample && <code className="mono small error-sample">{each.sample}</code>}
        </li>
      ))}
    </ul>
  );
}
