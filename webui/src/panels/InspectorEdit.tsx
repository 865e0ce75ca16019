// A field of one or several endpoints that saves itself: when it is left or Enter is pressed, as one act with the
// revision that was seen when editing began. What is wrong stands at it, and what was typed stays.

import { type ReactNode, useEffect, useRef } from "react";
import { useStore } from "zustand";
import { ApiProblem } from "../api/client";
import { Button, Field } from "../design/parts";
import type { Update } from "../logic/acts";
import { named } from "../logic/acts";
import { labelOf, valueInWords } from "../logic/clash";
import { changedMeanwhile, draftKey, rebased, typed } from "../logic/drafts";
import { commonValue, type FieldName, problemOfField, readField, sameForAll, sameValue, textOf } from "../logic/fields";
import { sentence } from "../logic/format";
import type { EndpointConfig } from "../logic/structure";
import { useEditor, useFlow } from "../state/context";
import { setDraft } from "../state/drafts";

export interface Edit {
  field: FieldName;
  text: string;
  /** Typed, not saved. */
  dirty: boolean;
  saving: boolean;
  /** The endpoints differ in it. */
  mixed: boolean;
  problem: string | undefined;
  /** What somebody else made of it while it was being edited; null: nothing. */
  theirs: string | null;
  type: (text: string) => void;
  commit: () => Promise<void>;
  cancel: () => void;
  /** What holds is known; go on with what was typed. */
  keepMine: () => void;
}

/** `updatesFor` makes the change where it is more than the same value for each. */
export function useEdit(
  endpoints: readonly EndpointConfig[],
  field: FieldName,
  updatesFor?: (value: unknown) => Update[],
): Edit {
  const editor = useEditor();
  const ids = endpoints.map((each) => each.id);
  const key = draftKey(ids, field);
  const draft = useStore(editor.drafts, (state) => state.drafts.get(key));
  const server = useFlow((state) => state.server);
  const values = ids.map((id) => server?.endpoints.find((each) => each.id === id)?.[field]);
  const common = commonValue(endpoints, field);
  const shown = common.same ? textOf(field, common.value) : "";
  const seen = { values, revision: editor.revision };
  const reading = draft && readField(field, draft.text);
  const wanted = reading && "value" in reading ? reading.value : undefined;
  const mounted = useRef(true);

  const put = (next: typeof draft | null) => setDraft(editor.drafts, key, next ?? null);
  const current = () => editor.drafts.getState().drafts.get(key);

  const save = async () => {
    const before = current();
    if (!before || before.saving) return;
    const read = readField(field, before.text);
    if ("problem" in read) return put({ ...before, problem: `${labelOf(field)} ${read.problem}.` });
    if (values.every((each) => sameValue(each, read.value))) return put(null);
    const updates = updatesFor ? updatesFor(read.value) : sameForAll(ids, { [field]: read.value });
    const { problem: _, ...clean } = before;
    put({ ...clean, saving: true });
    try {
      await editor.submit({ kind: "change", updates }, { base: before.revision });
      // Saved, or given up in a question: either way the field shows what holds, unless somebody typed on.
      const now = current();
      put(now && now.text !== before.text ? { ...rebased(now, latest()), saving: false } : null);
    } catch (error) {
      const problem = problemIn(error, field);
      put({ ...(current() ?? before), saving: false, problem });
      if (!mounted.current) {
        editor.toast({ tone: "bad", text: `${named(ids, editor.structure)}: ${labelOf(field)} not saved. ${problem}` });
      }
    }
  };
  const latest = () => {
    const now = editor.flow.getState().server;
    return {
      values: ids.map((id) => now?.endpoints.find((each) => each.id === id)?.[field]),
      revision: editor.revision,
    };
  };
  const unsaved = useRef(save);
  unsaved.current = save;
  useEffect(() => {
    mounted.current = true;
    return () => {
      mounted.current = false;
      // Left without a blur, for instance because another endpoint was selected by a key.
      if (!editor.drafts.getState().drafts.get(key)?.problem) void unsaved.current();
    };
  }, [editor, key]);

  const foreign = changedMeanwhile(draft, values, wanted);
  return {
    field,
    text: draft?.text ?? shown,
    dirty: draft !== undefined && !draft.saving,
    saving: draft?.saving ?? false,
    mixed: !common.same,
    problem: draft?.problem,
    theirs: foreign ? valueInWords(field, common.same ? common.value : undefined) : null,
    type: (text) => put(typed(current(), text, seen)),
    commit: save,
    cancel: () => {
      put(null);
      if (editor.flow.getState().saving === "failed") editor.flow.setState({ saving: "saved" });
    },
    keepMine: () => {
      const now = current();
      if (now) put(rebased(now, latest()));
      void save();
    },
  };
}

/** In words for the field. */
export function problemIn(error: unknown, field: string): string {
  if (!(error instanceof ApiProblem)) return error instanceof Error ? error.message : String(error);
  const own = problemOfField(field, error.fields);
  if (own) return sentence(own);
  return sentence(error.message);
}

/** The handlers that all text controls of an edit share. `lines`: Enter makes a line, Ctrl+Enter saves. */
export function controlOf(edit: Edit, lines = false) {
  return {
    value: edit.text,
    onChange: (event: React.ChangeEvent<HTMLInputElement | HTMLTextAreaElement>) => edit.type(event.target.value),
    onBlur: () => {
      // What somebody else changed meanwhile is decided by hand, and what was refused by typing again.
      if (edit.dirty && edit.theirs === null && !edit.problem) void edit.commit();
    },
    onKeyDown: (event: React.KeyboardEvent) => {
      if (event.nativeEvent.isComposing) return;
      if (event.key === "Enter" && (!lines || event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        void edit.commit();
      } else if (event.key === "Escape" && edit.dirty) {
        event.stopPropagation();
        edit.cancel();
      }
    },
  };
}

export function EditField({
  edit,
  label,
  hint,
  lines,
  after,
  placeholder,
  numeric,
  mono,
}: {
  edit: Edit;
  label?: ReactNode;
  hint?: ReactNode;
  /** Rows of a text area; otherwise one line. */
  lines?: number;
  after?: ReactNode;
  placeholder?: string;
  numeric?: boolean;
  mono?: boolean;
}) {
  const classes = `input${numeric ? " number" : ""}${mono ? " mono" : ""}`;
  const empty = edit.mixed && !edit.dirty ? "differs" : placeholder;
  return (
    <div className="edit">
      <Field label={<EditLabel edit={edit} label={label ?? labelOf(edit.field)} />} hint={hint} problem={edit.problem}>
        {(control) =>
          lines ? (
            <textarea
              {...control}
              {...controlOf(edit, true)}
              className={classes}
              rows={lines}
              placeholder={empty}
              spellCheck={false}
            />
          ) : (
            <div className="row">
              <input
                {...control}
                {...controlOf(edit)}
                className={classes}
                inputMode={numeric ? "decimal" : undefined}
                autoComplete="off"
                spellCheck={false}
                placeholder={empty}
                data-field={edit.field}
              />
              {after}
            </div>
          )
        }
      </Field>
      <Theirs edit={edit} />
    </div>
  );
}

/** The label, and at its right whether what is typed is saved. */
export function EditLabel({ edit, label }: { edit: Edit; label: ReactNode }) {
  const waiting = useFlow((state) => state.saving === "waiting");
  return (
    <>
      {label}
      <span className="edit-state" aria-hidden="true">
        {edit.saving ? (waiting ? "waits" : "saving …") : edit.dirty ? "not saved" : ""}
      </span>
    </>
  );
}

export function Theirs({ edit }: { edit: Edit }) {
  if (edit.theirs === null) return null;
  return (
    <div className="note warn theirs" role="alert">
      <span>
        Changed to <strong>{edit.theirs}</strong> by another operator.
      </span>
      <span className="row">
        <Button tight onClick={edit.keepMine}>
          Keep mine
        </Button>
        <Button tight onClick={edit.cancel}>
          Take theirs
        </Button>
      </span>
    </div>
  );
}
