// The controls of a card: each tied to what is typed and to the API's way to its field.

import type { ReactNode } from "react";
import { Field } from "../../design/parts";
import { type CardForm, type Problems, problemAt } from "../logic/card";

/** What the fields of one card have in common. */
export interface Editing {
  form: CardForm;
  problems: Problems;
  onChange: (changes: Partial<CardForm>) => void;
}

/** Names of the fields that hold text. */
type TextName = { [K in keyof CardForm]: CardForm[K] extends string ? K : never }[keyof CardForm];
type SwitchName = { [K in keyof CardForm]: CardForm[K] extends boolean ? K : never }[keyof CardForm];

interface TextProps {
  edit: Editing;
  name: TextName;
  /** The API's way to the field, where it is not its name. */
  path?: string;
  label: ReactNode;
  hint?: ReactNode;
  placeholder?: string;
  /** Rows of a text area; otherwise one line. */
  lines?: number;
  numeric?: boolean;
  mono?: boolean;
  list?: string;
  after?: ReactNode;
}

export function TextField(props: TextProps) {
  const { edit, name, path = name, label, hint, placeholder, lines, numeric, mono, list, after } = props;
  const value = String(edit.form[name]);
  const common = {
    className: `input${numeric ? " number" : ""}${mono ? " mono" : ""}`,
    value,
    placeholder,
    spellCheck: false,
    "data-field": path,
    onChange: ({ target }: React.ChangeEvent<HTMLInputElement | HTMLTextAreaElement>) =>
      edit.onChange({ [name]: target.value }),
  };
  return (
    <Field label={label} hint={hint} problem={problemAt(edit.problems, path)}>
      {(control) =>
        lines ? (
          <textarea {...control} {...common} rows={lines} />
        ) : (
          <div className="row">
            <input
              {...control}
              {...common}
              list={list}
              autoComplete="off"
              inputMode={numeric ? "decimal" : undefined}
            />
            {after}
          </div>
        )
      }
    </Field>
  );
}

export function ChoiceField<T extends string>({
  edit,
  name,
  path = name,
  label,
  hint,
  choices,
}: {
  edit: Editing;
  name: TextName;
  path?: string;
  label: string;
  hint?: ReactNode;
  choices: readonly (readonly [value: T, words: string])[];
}) {
  return (
    <Field label={label} hint={hint} problem={edit.problems[path]}>
      {(control) => (
        <select
          {...control}
          className="input"
          data-field={path}
          value={String(edit.form[name])}
          onChange={({ target }) => edit.onChange({ [name]: target.value })}
        >
          {choices.map(([value, words]) => (
            <option key={value} value={value}>
              {words}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

export function CheckField({ edit, name, label }: { edit: Editing; name: SwitchName; label: string }) {
  return (
    <label className="check">
      <input
        type="checkbox"
        data-field={name}
        checked={edit.form[name]}
        onChange={({ target }) => edit.onChange({ [name]: target.checked })}
      />
      <span>{label}</span>
    </label>
  );
}
