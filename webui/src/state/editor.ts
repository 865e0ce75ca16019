// The editor without its views: session, live state, and the three channels of saving. Routing acts go one by one with
// the revision they were made at; places go together after a pause; numbers only come.

import { type AdminClient, ApiProblem } from "../api/client";
import { type Link, LiveState } from "../api/live";
import type { SessionView, State } from "../api/types";
import { type Act, callOf, clashes, isDone, type Question, questionBefore, saying, withoutGone } from "../logic/acts";
import { describeClash } from "../logic/clash";
import { withNames } from "../logic/differences";
import type { Places } from "../logic/layout";
import { numbersOf, type Structure, structureOf } from "../logic/structure";
import { createDraftsStore } from "./drafts";
import { createFlowStore, setPending, takeServer } from "./flow";
import { Layout } from "./layout";
import { createNumbersStore, Ticker } from "./numbers";
import { OwnRevisions } from "./own";
import { createSessionStore } from "./session";
import { type Asked, createUiStore, type Theme, type Toast } from "./ui";

const TOAST_MILLISECONDS = 7000;
const MOST_HISTORY = 200;

type HistoryEntry =
  | { kind: "revision"; number: number; text: string }
  | { kind: "layout"; before: Places; after: Places };

/** The revision an act made, and the one it was made at: the same when it changed nothing. */
interface Saved {
  revision: number;
  seen: number;
}

export interface SubmitOptions {
  /** The revision the operator had seen when the act began; default: the newest known now. */
  base?: number;
  /** Do it without asking, because it was asked already. */
  asked?: boolean;
  /** The toast's text; empty: no toast. */
  says?: string;
}

export class Editor {
  readonly client: AdminClient;
  readonly flow = createFlowStore();
  readonly numbers = createNumbersStore();
  readonly session = createSessionStore();
  readonly drafts = createDraftsStore();
  readonly ui;
  readonly live: LiveState;
  private readonly ticker = new Ticker(this.numbers);
  private queue: Promise<unknown> = Promise.resolve();
  private past: HistoryEntry[] = [];
  private future: HistoryEntry[] = [];
  private readonly layout: Layout;
  private toasts = 0;
  private questions = 0;
  private readonly waiting: (() => void)[] = [];
  /** The revision this operator's last act made, which the state may not have told of yet. */
  private lastSaved = 0;
  private readonly own = new OwnRevisions();
  /** The line was lost: whatever comes next is how it is, even an older revision. */
  private lost = false;

  constructor(client: AdminClient, theme: Theme) {
    this.client = client;
    this.ui = createUiStore(theme);
    this.layout = new Layout({
      client,
      flow: this.flow,
      refresh: () => this.refresh(),
      complain: (text) => this.toast({ tone: "bad", text }),
    });
    this.live = new LiveState({
      client,
      onState: (state) => this.take(state),
      onLink: (link: Link) => {
        this.lost ||= link.kind === "offline";
        this.session.setState({ link });
      },
    });
    client.onSignedOut = () => this.signedOut();
  }

  // -- session ------------------------------------------------------------------------------------------------------

  /** Who is this browser? Then the live state begins, or the login is shown. */
  async begin(): Promise<void> {
    try {
      const session = await this.client.get<SessionView>("/session");
      this.signedIn(session);
    } catch (error) {
      if (error instanceof ApiProblem && error.status === 401) return;
      // Not reached: the live state counts down and tries again; a 401 then leads to the login.
      this.session.setState({ phase: "ready" });
      this.live.start();
    }
  }

  /** Raises ApiProblem: 401 for a wrong token. */
  async login(token: string): Promise<void> {
    this.signedIn(await this.client.post<SessionView>("/session", { token }));
  }

  async logout(): Promise<void> {
    await this.client.send({ method: "DELETE", path: "/session" });
    location.reload();
  }

  private signedIn(session: SessionView): void {
    this.client.csrfToken = session.csrf_token;
    this.session.setState({ phase: "ready" });
    this.live.stop();
    this.live.start();
    void this.saveLayout();
  }

  private signedOut(): void {
    this.live.stop();
    this.session.setState({ phase: "signedOut" });
  }

  // -- state --------------------------------------------------------------------------------------------------------

  private take(state: State): void {
    // The page was opened while the balancer was gone: who is at it is asked now.
    if (this.client.csrfToken === null) void this.renewSession();
    // The numbers of a state that was overtaken on the way are as old as what it holds.
    if (this.lost || state.revision >= this.revision) {
      const numbers = numbersOf(state);
      if (state.revision < this.revision) this.forget();
      takeServer(this.flow, structureOf(state), numbers, this.lost);
      this.lost = false;
      this.ticker.take(numbers, Date.now());
    }
    for (const go of this.waiting.splice(0)) go();
  }

  /** When the balancer is heard from again, by somebody who may. */
  private nextState(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Another database: the numbers of its revisions mean something else. */
  private forget(): void {
    [this.past, this.future, this.lastSaved] = [[], [], 0];
    this.own.forget();
    this.session.setState({ canUndo: false, canRedo: false });
  }

  private async renewSession(): Promise<void> {
    const session = await this.client.get<SessionView>("/session").catch(() => null);
    if (session) this.client.csrfToken = session.csrf_token;
  }

  get structure(): Structure {
    const { view } = this.flow.getState();
    if (!view) throw new Error("there is no state yet");
    return view;
  }

  get revision(): number {
    return this.flow.getState().server?.revision ?? 0;
  }

  // -- routing: one act, one request, one revision --------------------------------------------------------------------

  /** Carry it out, asking first where that is due. Resolves to whether it was done; problems of fields are raised. */
  async submit(act: Act, options: SubmitOptions = {}): Promise<boolean> {
    if (act.kind === "change" && !act.updates.length) return true;
    const question = options.asked
      ? null
      : questionBefore(act, this.structure, this.numbers.getState().numbers.endpoints);
    if (question && !(await this.ask(question))) return false;
    const text = options.says ?? saying(act, this.structure);
    let undo: Toast["action"];
    const done = await this.enqueue(act, options.base, ({ revision, seen }) => {
      if (revision <= seen) return;
      const entry = this.remember({ kind: "revision", number: revision, text });
      undo = { label: "Undo", run: () => void this.undo(entry) };
    });
    if (done && text) this.toast({ tone: "plain", about: "act", text, ...(undo ? { action: undo } : {}) });
    return done;
  }

  /** Whether the operator said yes. */
  ask(question: Question): Promise<boolean> {
    return new Promise((resolve) => {
      this.put((id) => ({ id, kind: "ask", question, decide: (yes) => this.answered(id, () => resolve(yes)) }));
    });
  }

  /** Saves are serialised; the view shows each at once. `onSaved` is called before the next one begins. */
  private enqueue(act: Act, base: number | undefined, onSaved: (saved: Saved) => void): Promise<boolean> {
    // Not at its turn: what others change while it waits, nobody has seen.
    const seen = base ?? Math.max(this.revision, this.lastSaved);
    setPending(this.flow, [...this.flow.getState().pending, act]);
    this.flow.setState({ saving: "saving" });
    const turn = this.queue.then(async () => {
      const saved = await this.save(act, this.own.reachedFrom(seen));
      if (saved) onSaved(saved);
      return saved !== null;
    });
    this.queue = turn.catch(() => undefined);
    return turn
      .catch((error: unknown) => {
        this.flow.setState({ saving: "failed" });
        throw error;
      })
      .finally(() => {
        const pending = this.flow.getState().pending.filter((each) => each !== act);
        setPending(this.flow, pending);
        if (!pending.length && this.flow.getState().saving === "saving") this.flow.setState({ saving: "saved" });
      });
  }

  private async save(wanted: Act, seen: number): Promise<Saved | null> {
    let act = wanted;
    let revision = seen;
    for (;;) {
      const before = this.flow.getState().server ?? this.structure;
      try {
        const answer = await this.client.send(callOf(act, revision));
        // It is done, even if the look after it fails; the live state tells then.
        await this.refresh().catch(() => undefined);
        this.lastSaved = answer.revision ?? this.revision;
        if (this.lastSaved === revision + 1) this.own.add(this.lastSaved, act);
        return { revision: this.lastSaved, seen: revision };
      } catch (error) {
        if (!(error instanceof ApiProblem)) throw error;
        if (error.unreachable || error.status === 401) {
          // Nothing is lost: it goes on when the balancer, or the operator, is there again.
          this.flow.setState({ saving: "waiting" });
          await this.nextState();
          this.flow.setState({ saving: "saving" });
          const now = this.flow.getState().server ?? before;
          // Only the answer was lost: to do it again would be refused, as its names are taken by itself.
          if (error.unreachable && now.revision > revision && isDone(act, before, now)) {
            this.lastSaved = now.revision;
            // Of one revision only it is known that it is this act's, and can be undone.
            return { revision: now.revision === revision + 1 ? now.revision : revision, seen: revision };
          }
          continue;
        }
        if (!error.conflict) throw error;
        const conflict = error.conflict;
        this.take(conflict.state);
        const { left, gone } = withoutGone(act, conflict);
        for (const name of gone)
          this.toast({ tone: "plain", text: `${name} was deleted by another operator meanwhile.` });
        if (!left) return null;
        act = left;
        const both = clashes(act, conflict, this.own.since(revision));
        if (both.length && !(await this.decide(act, both, error))) return null;
        if (!both.length) this.toast({ tone: "plain", text: "Merged with what another operator changed meanwhile." });
        revision = conflict.revision;
      }
    }
  }

  private decide(act: Act, both: string[], problem: ApiProblem): Promise<boolean> {
    const conflict = problem.conflict;
    if (!conflict) return Promise.resolve(false);
    return new Promise((resolve) => {
      const fields = both.map((name) => describeClash(name, act, conflict));
      this.put((id) => {
        const decide = (choice: "mine" | "theirs") => this.answered(id, () => resolve(choice === "mine"));
        return { id, kind: "conflict", choice: { act, fields, decide } };
      });
    });
  }

  private put(made: (id: number) => Asked): void {
    this.questions += 1;
    this.ui.setState({ asked: [...this.ui.getState().asked, made(this.questions)] });
  }

  private answered(id: number, then: () => void): void {
    this.ui.setState({ asked: this.ui.getState().asked.filter((each) => each.id !== id) });
    then();
  }

  async refresh(): Promise<void> {
    this.take(await this.client.get<State>("/state"));
  }

  // -- history --------------------------------------------------------------------------------------------------------

  get canUndo(): boolean {
    return this.past.length > 0 || this.flow.getState().pending.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  private remember(entry: HistoryEntry): HistoryEntry {
    this.past = [...this.past, entry].slice(-MOST_HISTORY);
    this.future = [];
    this.session.setState({ canUndo: true, canRedo: false });
    return entry;
  }

  /** The last act, or the one that is given while it can be undone. One that is still being saved counts. */
  async undo(wanted?: HistoryEntry): Promise<void> {
    await this.queue;
    const entry = wanted ?? this.past.at(-1);
    if (!entry || !this.past.includes(entry)) return;
    this.past = this.past.filter((each) => each !== entry);
    await this.travel(entry, "undo");
  }

  async redo(): Promise<void> {
    await this.queue;
    const entry = this.future.pop();
    if (entry) await this.travel(entry, "redo");
  }

  /** Undo takes a revision back, redo takes that back: the server refuses where somebody changed the same since. */
  private async travel(entry: HistoryEntry, way: "undo" | "redo"): Promise<void> {
    const keep = (where: "undo" | "redo") => (where === "undo" ? this.past : this.future).push(entry);
    try {
      if (entry.kind === "layout") {
        this.place(way === "undo" ? entry.before : entry.after);
        keep(way === "undo" ? "redo" : "undo");
        this.announce(way === "undo" ? "Move undone" : "Move redone");
      } else {
        await this.enqueue({ kind: "revert", number: entry.number }, undefined, ({ revision }) => {
          entry.number = revision;
          keep(way === "undo" ? "redo" : "undo");
        });
        const text = `${way === "undo" ? "Undone" : "Redone"}: ${entry.text}`;
        this.toast({ tone: "plain", about: "act", text });
      }
    } catch (error) {
      const why = withNames(error instanceof Error ? error.message : String(error), this.structure.endpoints);
      this.toast({ tone: "bad", text: `Cannot ${way} "${entry.kind === "layout" ? "move" : entry.text}": ${why}` });
      if (error instanceof ApiProblem && error.unreachable) keep(way);
      this.flow.setState({ saving: "saved" });
    } finally {
      this.session.setState({ canUndo: this.canUndo, canRedo: this.canRedo });
    }
  }

  // -- layout: together, after a pause, the last one wins ---------------------------------------------------------------

  /** Nodes were moved by the operator: saved soon, and undone like any act. `before`: where the whole move began. */
  move(after: Places, before: Places = this.placesOf(Object.keys(after))): void {
    this.place(after);
    this.remember({ kind: "layout", before, after });
  }

  /** A step of a move that `move` will end, or give up. */
  drag(places: Places): void {
    this.place(places);
  }

  private place(places: Places): void {
    this.layout.place(places);
  }

  /** Where they are; without those that are not there. */
  placesOf(ids: string[]): Places {
    return this.layout.placesOf(ids);
  }

  /** At once, for instance because the page is being left. */
  saveLayout(): Promise<void> {
    return this.layout.save();
  }

  // -- words ----------------------------------------------------------------------------------------------------------

  toast(toast: Omit<Toast, "id">): void {
    this.toasts += 1;
    const id = this.toasts;
    const others = this.ui.getState().toasts.filter((each) => !toast.about || each.about !== toast.about);
    this.ui.setState({ toasts: [...others, { ...toast, id }].slice(-4), announcement: toast.text });
    setTimeout(() => this.dismiss(id), TOAST_MILLISECONDS);
  }

  dismiss(id: number): void {
    this.ui.setState({ toasts: this.ui.getState().toasts.filter((each) => each.id !== id) });
  }

  announce(text: string): void {
    this.ui.setState({ announcement: text });
  }

  /** Say what went wrong with something that has no form of its own. */
  complain(error: unknown): void {
    if (error instanceof ApiProblem && error.status === 401) return;
    this.flow.setState({ saving: "saved" });
    this.toast({ tone: "bad", text: error instanceof Error ? error.message : String(error) });
  }
}
