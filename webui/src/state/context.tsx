// The editor in the tree of views: one context, and hooks that look at one part of it.

import { createContext, useContext } from "react";
import { useStore } from "zustand";
import type { EndpointNumbers } from "../api/types";
import type { Structure } from "../logic/structure";
import type { Editor } from "./editor";
import type { FlowState } from "./flow";
import type { NumbersState } from "./numbers";
import type { SessionState } from "./session";
import type { UiState } from "./ui";

export const EditorContext = createContext<Editor | null>(null);

export function useEditor(): Editor {
  const editor = useContext(EditorContext);
  if (!editor) throw new Error("no EditorContext");
  return editor;
}

export function useUi<T>(select: (state: UiState) => T): T {
  return useStore(useEditor().ui, select);
}

export function useSession<T>(select: (state: SessionState) => T): T {
  return useStore(useEditor().session, select);
}

export function useFlow<T>(select: (state: FlowState) => T): T {
  return useStore(useEditor().flow, select);
}

export function useNumbers<T>(select: (state: NumbersState) => T): T {
  return useStore(useEditor().numbers, select);
}

/** The structure as this operator sees it. Only below what waits for the first state. */
export function useStructure(): Structure {
  const view = useFlow((state) => state.view);
  if (!view) throw new Error("there is no state yet");
  return view;
}

export function useEndpointNumbers(id: number): EndpointNumbers | undefined {
  return useNumbers((state) => state.numbers.endpoints.get(id));
}
