// Acts on the work itself: undo, find, export, help.

import { exported } from "../logic/export";
import type { Theme } from "../state/ui";
import { openLoadTester } from "./load-test";
import { always } from "./needs";
import type { Action } from "./registry";

export const EDITOR: readonly Action[] = [
  {
    id: "undo",
    title: "Undo",
    group: "Editor",
    does: "Take back the last act, refused where somebody changed the same since.",
    keys: ["Ctrl+Z"],
    spots: ["toolbar"],
    applies: ({ editor }) => editor.canUndo || "Nothing to undo.",
    run: ({ editor }) => editor.undo(),
  },
  {
    id: "redo",
    title: "Redo",
    group: "Editor",
    does: "Do again what was undone.",
    keys: ["Ctrl+Shift+Z", "Ctrl+Y"],
    spots: ["toolbar"],
    applies: ({ editor }) => editor.canRedo || "Nothing to redo.",
    run: ({ editor }) => editor.redo(),
  },
  {
    id: "palette",
    title: "Find an action or endpoint",
    group: "Editor",
    does: "Type a few letters of it.",
    keys: ["Ctrl+K", "/"],
    spots: ["toolbar"],
    applies: always,
    run: ({ editor }) => editor.ui.setState({ dialog: { kind: "palette" } }),
  },
  {
    id: "export",
    title: "Export as JSON",
    group: "Editor",
    does: "Save all endpoints as a file, without keys.",
    keys: ["Ctrl+S"],
    spots: ["toolbar", "canvas", "table"],
    applies: always,
    run: ({ structure }) => {
      const file = new Blob([`${JSON.stringify(exported(structure), null, 2)}\n`], { type: "application/json" });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(file);
      link.download = `llm-balancer-revision-${structure.revision}.json`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    },
  },
  {
    id: "import",
    title: "Import JSON",
    group: "Editor",
    does: "Add and change endpoints from a file; shows what it would do first.",
    keys: ["Ctrl+O"],
    spots: ["toolbar", "canvas", "table"],
    applies: always,
    run: ({ editor }) => editor.ui.setState({ dialog: { kind: "import", text: "" } }),
  },
  {
    id: "theme",
    title: "Light or dark",
    group: "Editor",
    does: "As the system has it, light, dark.",
    keys: ["Shift+D"],
    spots: ["toolbar"],
    applies: always,
    run: ({ editor }) => {
      const order: Theme[] = ["system", "light", "dark"];
      const theme = order[(order.indexOf(editor.ui.getState().theme) + 1) % order.length] ?? "system";
      editor.ui.setState({ theme });
      editor.announce(`Theme: ${theme}`);
    },
  },
  {
    id: "load-test-balancer",
    title: "Load test the balancer",
    group: "Editor",
    does: "Open the load tester with a card for the balancer itself.",
    keys: ["Shift+L"],
    spots: ["toolbar"],
    applies: always,
    run: (context) => openLoadTester(context, null),
  },
  {
    id: "help",
    title: "Keys and legend",
    group: "Editor",
    does: "This list.",
    keys: ["?"],
    spots: ["toolbar"],
    applies: always,
    run: ({ editor }) => editor.ui.setState({ dialog: { kind: "help" } }),
  },
  {
    id: "logout",
    title: "Log out",
    group: "Editor",
    does: "End the session in this browser.",
    keys: ["Ctrl+Shift+L"],
    spots: ["toolbar"],
    applies: always,
    run: ({ editor }) => editor.logout(),
  },
];
