// What is asked: the same text every time, words of drawn lengths, or the lines of a file.

import { useRef, useState } from "react";
import { Button } from "../../design/parts";
import { usePage, usePageState } from "../context";
import type { PromptKind } from "../logic/card";
import { ChoiceField, type Editing, TextField } from "./fields";

const KINDS: readonly [PromptKind, string][] = [
  ["fixed", "Fixed text"],
  ["synthetic", "Synthetic lengths"],
  ["set", "File of prompts (JSON Lines)"],
];

export function PromptFields({ edit }: { edit: Editing }) {
  const kind = edit.form.promptKind;
  return (
    <div className="card-group">
      <ChoiceField edit={edit} name="promptKind" path="prompt" label="Prompt" choices={KINDS} />
      {kind === "fixed" && <TextField edit={edit} name="text" path="prompt.text" label="Text" lines={2} />}
      {kind === "synthetic" && (
        <TextField
          edit={edit}
          name="lengths"
          path="prompt.lengths"
          label="Lengths in tokens"
          mono
          hint="D(in,out) always; N(480,240)/(300,150) normal: mean and deviation, in and out; U(10,50)/(10,50) even."
        />
      )}
      {kind === "set" && <SetField edit={edit} />}
    </div>
  );
}

function SetField({ edit }: { edit: Editing }) {
  const page = usePage();
  const sets = usePageState((state) => state.promptSets);
  const input = useRef<HTMLInputElement>(null);
  const [problem, setProblem] = useState("");
  const upload = async (file: File | undefined) => {
    if (!file) return;
    setProblem("");
    try {
      await page.uploadPrompts(edit.form.uid, file);
    } catch (error) {
      setProblem(`${file.name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  const choices = [
    ["", sets.length ? "choose one" : "none uploaded yet"] as const,
    ...sets.map((each) => [each.id, `${each.name} · ${each.lines} prompts`] as const),
  ];
  const problems = problem ? { ...edit.problems, "prompt.set": problem } : edit.problems;
  return (
    <>
      <ChoiceField edit={{ ...edit, problems }} name="set" path="prompt.set" label="File" choices={choices} />
      <div>
        <Button tight icon="plus" onClick={() => input.current?.click()}>
          Upload a file …
        </Button>
        <input
          ref={input}
          type="file"
          accept=".jsonl,.json,.txt"
          hidden
          aria-label="File of prompts"
          onChange={({ target }) => {
            void upload(target.files?.[0]);
            target.value = "";
          }}
        />
      </div>
    </>
  );
}
