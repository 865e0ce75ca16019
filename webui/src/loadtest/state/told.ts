// What all of the page's acts share: the server, the store, and how something is told.

import { ApiProblem } from "../../api/http";
import type { Toast } from "../../design/Toasts";
import type { Theme } from "../../design/theme";
import type { LoadTesterClient } from "../api";
import { type CardForm, type Problems, placeOf } from "../logic/card";
import { createPageStore, type Dialog } from "./store";

const TOAST_MILLISECONDS = 7000;

export class Told {
  readonly client: LoadTesterClient;
  readonly store;
  private toasts = 0;

  constructor(client: LoadTesterClient, theme: Theme) {
    this.client = client;
    this.store = createPageStore(theme);
  }

  /** Whether there were any problems. */
  protected tell(uid: string, problems: Problems): boolean {
    const any = Object.keys(problems).length > 0;
    this.store.setState((state) => {
      const others = without(state.problems, uid);
      return { problems: any ? new Map(others).set(uid, problems) : others };
    });
    return any;
  }

  protected refused(error: unknown, forms: readonly CardForm[]): void {
    const found = error instanceof ApiProblem ? error.fields[0] : undefined;
    const at = found && placeOf(found.field);
    const form = at ? forms[at[0]] : undefined;
    if (found && at && form !== undefined) {
      this.tell(form.uid, { [at[1]]: found.message });
      this.pointOut();
    } else if (!(error instanceof ApiProblem && error.status === 401)) {
      this.store.setState({ problem: wordsOf(error) });
      this.announce(wordsOf(error));
    }
  }

  /** The first field with a problem gets the focus. */
  protected pointOut(): void {
    requestAnimationFrame(() => document.querySelector<HTMLElement>("[aria-invalid='true']")?.focus());
  }

  protected async act(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof ApiProblem && error.status === 401) return;
      this.toast("bad", wordsOf(error));
    }
  }

  confirm(title: string, words: string, does: string): Promise<boolean> {
    return new Promise((resolve) => {
      const decide = (yes: boolean) => {
        this.open(null);
        resolve(yes);
      };
      this.open({ kind: "ask", title, words, does, decide });
    });
  }

  open(dialog: Dialog | null): void {
    this.store.setState({ dialog });
  }

  toast(tone: Toast["tone"], text: string, action?: Toast["action"]): void {
    this.toasts += 1;
    const id = this.toasts;
    const toast: Toast = { id, tone, text, ...(action ? { action } : {}) };
    this.store.setState(({ toasts }) => ({ toasts: [...toasts, toast].slice(-3), announcement: text }));
    setTimeout(() => this.dismiss(id), TOAST_MILLISECONDS);
  }

  dismiss(id: number): void {
    this.store.setState(({ toasts }) => ({ toasts: toasts.filter((each) => each.id !== id) }));
  }

  announce(announcement: string): void {
    this.store.setState({ announcement });
  }
}

export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function without(problems: ReadonlyMap<string, Problems>, uid: string): ReadonlyMap<string, Problems> {
  if (!problems.has(uid)) return problems;
  return new Map([...problems].filter(([each]) => each !== uid));
}
