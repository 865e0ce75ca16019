// The editor's entry: one editor, one tree.

import { createRoot } from "react-dom/client";
import "../design/tokens.css";
import "../design/base.css";
import "../design/controls.css";
import "../design/surfaces.css";
import "../design/frame.css";
import "./shell.css";
import { AdminClient } from "../api/client";
import { keepTheme, rememberedTheme } from "../design/theme";
import { EditorContext } from "../state/context";
import { Editor } from "../state/editor";
import { App } from "./App";
import { followLocation } from "./location";

const editor = new Editor(new AdminClient(), rememberedTheme());
keepTheme(editor.ui);
followLocation(editor);
void editor.begin();

const root = document.getElementById("root");
if (!root) throw new Error("the page has no #root");
createRoot(root).render(
  <EditorContext value={editor}>
    <App />
  </EditorContext>,
);
