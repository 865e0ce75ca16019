// The load tester's entry: one page, one tree.

import { createRoot } from "react-dom/client";
import "../design/tokens.css";
import "../design/base.css";
import "../design/controls.css";
import "../design/surfaces.css";
import "../design/frame.css";
import "./page.css";
import { keepTheme, rememberedTheme } from "../design/theme";
import { App } from "./App";
import { LoadTesterClient } from "./api";
import { PageContext } from "./context";
import { LoadTestPage } from "./state/page";

const page = new LoadTestPage(new LoadTesterClient(), rememberedTheme());
keepTheme(page.store);
void page.begin();

const root = document.getElementById("root");
if (!root) throw new Error("the page has no #root");
createRoot(root).render(
  <PageContext value={page}>
    <App />
  </PageContext>,
);
