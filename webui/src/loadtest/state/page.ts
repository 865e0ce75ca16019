// The page without its views: session, cards, runs. Views read its store and call what is here.

import { ApiProblem } from "../../api/http";
import type { Toast } from "../../design/Toasts";
import type { Theme } from "../../design/theme";
import type { LoadTesterClient } from "../api";
import { type CardForm, cardOf, changesOf, formOf, type Problems, placeOf } from "../logic/card";
import { type EditorLink, readNewCard } from "../logic/links";
import type {
  About,
  Card,
  Definition,
  HeldKey,
  Imported,
  Models,
  Preset,
  Profile,
  PromptSetView,
  RunList,
  RunResult,
  SessionView,
  Tick,
  Trial,
} from "../types";
import { remember, remembered } from "./kept";
import { createPageStore, type Dialog, type View } from "./store";
import { after, Watcher } from "./watching";

const TOAST_MILLISECONDS = 7000;
const LOOK_MILLISECONDS = 5000;

export class LoadTestPage {
  readonly client: LoadTesterClient;
  readonly store;
  private readonly watcher: Watcher;
  private toasts = 0;
  private uids = 0;
  /** Keys on their way to the server: whoever needs them waits. */
  private holding: Promise<unknown> = Promise.resolve();

  constructor(client: LoadTesterClient, theme: Theme) {
    this.client = client;
    this.store = createPageStore(theme);
    this.watcher = new Watcher({
      client,
      onEvent: (event) => {
        const before = this.store.getState().run;
        const run = after(before, event);
        this.store.setState({ run });
        if (before?.tick && run?.tick && segments(run.tick) !== segments(before.tick)) void this.lookAtRun();
        if (event.event === "end") this.ended();
      },
      onLost: () => this.store.setState(({ run }) => ({ run: run && { ...run, lost: true } })),
      onGone: (problem) => {
        this.toast("bad", problem.message);
        this.show({ kind: "history" });
      },
    });
    client.onSignedOut = () => {
      this.watcher.stop();
      this.store.setState({ phase: "signedOut" });
    };
  }

  // -- session ------------------------------------------------------------------------------------------------------

  /** Who is this browser? Then everything the page is made of is fetched, or the login is shown. */
  async begin(): Promise<void> {
    try {
      await this.signedIn(await this.client.get<SessionView>("/session"));
    } catch (error) {
      if (error instanceof ApiProblem && error.status === 401) return;
      this.store.setState({ unreachable: wordsOf(error) });
      setTimeout(() => void this.begin(), LOOK_MILLISECONDS);
    }
  }

  /** Raises ApiProblem: 401 for a wrong token. */
  async login(token: string): Promise<void> {
    await this.signedIn(await this.client.post<SessionView>("/session", { token }));
  }

  async logout(): Promise<void> {
    await this.client.send({ method: "DELETE", path: "/session" });
    location.reload();
  }

  private async signedIn(session: SessionView): Promise<void> {
    this.client.csrfToken = session.csrf_token;
    const [about, { definitions }, { presets }] = await Promise.all([
      this.client.get<About>("/about"),
      this.client.get<{ definitions: Definition[] }>("/definitions"),
      this.client.get<{ presets: Preset[] }>("/presets"),
    ]);
    const again = this.store.getState().library !== null;
    this.store.setState({
      library: { about, definitions, presets },
      needsToken: session.needs_token,
      unreachable: "",
    });
    if (!again) this.takeUp(about.card);
    this.store.setState({ phase: "ready" });
    await Promise.all([this.lookAtLibrary(), again ? this.look() : this.reattach()]);
    this.followView();
  }

  /** The cards as they were left, or one to begin with. */
  private takeUp(card: Card): void {
    const kept = remembered();
    this.store.setState(
      kept
        ? { cards: kept.cards, order: kept.order, paired: kept.paired, links: kept.links ?? {} }
        : { cards: [this.form(card)] },
    );
    this.uids = Math.max(0, ...this.store.getState().cards.map((each) => Number(each.uid.slice(1)) || 0));
    this.store.subscribe((state, before) => {
      const { cards, order, paired, links } = state;
      if (cards === before.cards && order === before.order && paired === before.paired && links === before.links) {
        return;
      }
      remember({ cards, order, paired, links });
    });
    addEventListener("hashchange", () => this.readHash());
    setInterval(() => {
      if (!document.hidden && this.store.getState().phase === "ready") void this.look();
    }, LOOK_MILLISECONDS);
    this.readHash();
  }

  /** A page that comes back goes on watching what is under way. */
  private async reattach(): Promise<void> {
    await this.look();
    const { active, view } = this.store.getState();
    const [newest] = active;
    if (newest && view.kind === "cards" && !location.hash.startsWith("#/cards")) {
      this.show({ kind: "run", id: newest.id });
    }
  }

  // -- views --------------------------------------------------------------------------------------------------------

  show(view: View): void {
    this.store.setState({ view });
    const hash = hashOf(view);
    if (location.hash !== hash) history.pushState(null, "", hash);
    this.followView();
  }

  private followView(): void {
    const { view, run, phase } = this.store.getState();
    if (view.kind !== "run" || phase !== "ready") return;
    if (run?.result.id === view.id && !run.lost) return;
    this.store.setState({ run: null, paused: false });
    this.watcher.watch(view.id);
  }

  private readHash(): void {
    const asked = readNewCard(location.hash);
    if (asked) {
      this.takeNewCard(asked.url, asked.model, asked.name, asked.link);
      history.replaceState(null, "", "#/cards");
      this.store.setState({ view: { kind: "cards" } });
      return;
    }
    const [, what, first, second] = location.hash.split("/").map(decodeURIComponent);
    if (what === "run" && first) this.store.setState({ view: { kind: "run", id: first } });
    else if (what === "history") this.store.setState({ view: { kind: "history" } });
    else if (what === "compare" && first && second) this.store.setState({ view: { kind: "compare", first, second } });
    else this.store.setState({ view: { kind: "cards" } });
    this.followView();
  }

  /** The card the editor asked for: in place of one nobody touched, else beside the others. */
  private takeNewCard(url: string, model: string, name: string, link: EditorLink | null): void {
    const card = this.defaultCard();
    const { cards, links } = this.store.getState();
    const same = cards.find((each) => each.url === url && each.name === name);
    const untouched = cards.length === 1 && sameCard(cards[0], this.form(card));
    const made = same ?? this.form({ ...card, url, model, name });
    this.store.setState({
      cards: untouched ? [made] : same ? cards : [...cards, made],
      links: link ? { ...links, [url]: link } : links,
    });
    this.announce(`Card for ${name || url}`);
  }

  // -- cards --------------------------------------------------------------------------------------------------------

  private defaultCard(): Card {
    const { library } = this.store.getState();
    if (!library) throw new Error("nothing is loaded yet");
    return library.about.card;
  }

  private form(card: Card, keyId = ""): CardForm {
    this.uids += 1;
    return formOf(card, `c${this.uids}`, keyId);
  }

  change(uid: string, changes: Partial<CardForm>): void {
    this.store.setState(({ cards, problems }) => ({
      cards: cards.map((each) => (each.uid === uid ? { ...each, ...changes } : each)),
      problems: without(problems, uid),
      problem: "",
    }));
  }

  add(): void {
    const { cards } = this.store.getState();
    const last = cards.at(-1);
    // The same target, usually: the next card differs in little.
    const made = this.form({ ...this.defaultCard(), ...(last ? { url: last.url, model: last.model } : {}) });
    this.setCards([...cards, { ...made, keyId: last?.keyId ?? "" }]);
  }

  duplicate(uid: string): void {
    const { cards } = this.store.getState();
    const place = cards.findIndex((each) => each.uid === uid);
    const given = cards[place];
    if (!given) return;
    this.uids += 1;
    const name = given.name ? `${given.name} copy` : "";
    this.setCards(cards.toSpliced(place + 1, 0, { ...given, uid: `c${this.uids}`, name }));
  }

  remove(uid: string): void {
    const { cards, paired } = this.store.getState();
    const left = cards.filter((each) => each.uid !== uid);
    this.setCards(left.length ? left : [this.form(this.defaultCard())]);
    this.toast("plain", "Card removed", {
      label: "Undo",
      run: () => this.store.setState({ cards, paired }),
    });
  }

  private setCards(cards: readonly CardForm[]): void {
    this.store.setState(({ paired }) => ({ cards, paired: paired && cards.length === 2 }));
  }

  /** Cards of a preset or a profile, aimed at what the first card is aimed at. */
  load(cards: readonly Card[], paired: boolean, { keepTargets }: { keepTargets: boolean }): void {
    const before = this.store.getState();
    const first = before.cards[0];
    const made = cards.map((card, place) => {
      const given = before.cards[place] ?? first;
      return keepTargets && given
        ? this.form({ ...card, url: given.url, model: given.model }, given.keyId)
        : this.form(card);
    });
    this.store.setState({ cards: made, paired, order: "together", problems: new Map(), problem: "" });
    this.toast("plain", count(made.length), {
      label: "Undo",
      run: () => this.store.setState({ cards: before.cards, paired: before.paired, order: before.order }),
    });
  }

  // -- asking targets -------------------------------------------------------------------------------------------------

  /** Asks about one card; problems of fields stand at the fields. Null where it could not be asked. */
  private async ask<T>(path: string, uid: string): Promise<T | null> {
    await this.holding;
    const form = this.store.getState().cards.find((each) => each.uid === uid);
    if (!form) return null;
    const { card, problems } = cardOf(form);
    if (this.tell(form.uid, problems)) return null;
    try {
      return await this.client.post<T>(path, { card, key_id: form.keyId });
    } catch (error) {
      this.refused(error, [form]);
      return null;
    }
  }

  models(uid: string): Promise<Models | null> {
    return this.ask("/models", uid);
  }

  try(uid: string): Promise<Trial | null> {
    return this.ask("/try", uid);
  }

  /** The key is held by the server from then on, and nowhere here. Raises ApiProblem. */
  async holdKey(uid: string, key: string): Promise<void> {
    const form = this.store.getState().cards.find((each) => each.uid === uid);
    const label = form?.name || form?.model || "";
    const sent = this.client.post<HeldKey>("/keys", { key, label });
    this.holding = sent.catch(() => undefined);
    const held = await sent;
    this.store.setState(({ keys }) => ({ keys: [...keys, held] }));
    this.change(uid, { keyId: held.id });
  }

  async forgetKey(id: string): Promise<void> {
    await this.client.send({ method: "DELETE", path: `/keys/${encodeURIComponent(id)}` });
    this.store.setState(({ keys, cards }) => ({
      keys: keys.filter((each) => each.id !== id),
      cards: cards.map((each) => (each.keyId === id ? { ...each, keyId: "" } : each)),
    }));
  }

  async uploadPrompts(uid: string, file: File): Promise<void> {
    const path = `/prompt-sets?name=${encodeURIComponent(file.name)}`;
    const { value } = await this.client.send<PromptSetView>({ method: "POST", path, file });
    await this.lookAtLibrary();
    this.change(uid, { set: value.id });
    this.announce(`${value.lines} prompts in ${value.name}`);
  }

  // -- runs -----------------------------------------------------------------------------------------------------------

  /** Start all cards, or one. */
  async start(uid?: string): Promise<void> {
    await this.holding;
    const state = this.store.getState();
    const forms = uid === undefined ? state.cards : state.cards.filter((each) => each.uid === uid);
    if (state.starting || !forms.length) return;
    const read = forms.map(cardOf);
    const bad = forms.filter((form, place) => this.tell(form.uid, read[place]?.problems ?? {}));
    if (bad.length) return this.pointOut();
    this.store.setState({ starting: true, problem: "" });
    try {
      const { id } = await this.client.post<{ id: string }>("/runs", {
        cards: read.map(({ card }, place) => ({ card, key_id: forms[place]?.keyId ?? "" })),
        order: state.order,
        paired: uid === undefined && state.paired,
        name: state.runName.trim(),
      });
      this.store.setState({ runName: "" });
      this.announce("Test started");
      this.show({ kind: "run", id });
      void this.look();
    } catch (error) {
      this.refused(error, forms);
    } finally {
      this.store.setState({ starting: false });
    }
  }

  /** Stop sending and wait for what is under way; `abort` cuts that. One card, by its place, or all. */
  async stop({ abort = false, place }: { abort?: boolean; place?: number } = {}): Promise<void> {
    const { run } = this.store.getState();
    if (run?.result.state !== "running") return;
    const body = { abort, ...(place === undefined ? {} : { card: place }) };
    await this.act(() => this.client.post(`/runs/${run.result.id}/stop`, body));
  }

  /** The kill switch. */
  async stopEverything(): Promise<void> {
    await this.act(async () => {
      const { stopped } = await this.client.post<{ stopped: number }>("/stop");
      this.toast(stopped ? "good" : "plain", stopped ? `Cut off: ${stopped} under way` : "Nothing is under way");
    });
    await this.look();
  }

  /** Change a card under way. Problems of fields are given back. */
  async changeRunning(place: number, before: Card, form: CardForm): Promise<Problems | null> {
    const { card, problems } = cardOf(form);
    if (Object.keys(problems).length) return problems;
    const changes = changesOf(before, card);
    const id = this.store.getState().run?.result.id;
    if (!id || !Object.keys(changes).length) return null;
    try {
      const path = `/runs/${id}/cards/${place}`;
      const { value } = await this.client.send<{ card: Card }>({ method: "PATCH", path, body: { changes } });
      this.store.setState(({ run }) => {
        if (!run) return {};
        const cards = run.result.cards.map((each, at) => (at === place ? { ...each, card: value.card } : each));
        return { run: { ...run, result: { ...run.result, cards } } };
      });
      this.toast("good", `Changed: ${Object.keys(changes).join(", ").replaceAll("_", " ")}`);
      return null;
    } catch (error) {
      const found = error instanceof ApiProblem ? error.fields[0] : undefined;
      const at = found && placeOf(found.field);
      if (found && at?.[1]) return { [at[1]]: found.message };
      return { "": wordsOf(error) };
    }
  }

  async annotate(id: string, change: { name?: string; notes?: string }): Promise<void> {
    await this.act(() => this.client.send({ method: "PATCH", path: `/runs/${encodeURIComponent(id)}`, body: change }));
    this.store.setState(({ run, historyChanges }) => ({
      historyChanges: historyChanges + 1,
      run: run?.result.id === id ? { ...run, result: { ...run.result, ...change } } : run,
    }));
  }

  async forget(id: string, name: string): Promise<void> {
    if (!(await this.confirm("Forget this test?", `${name} and its results are gone for good.`, "Forget"))) return;
    await this.act(() => this.client.send({ method: "DELETE", path: `/runs/${encodeURIComponent(id)}` }));
    this.store.setState(({ historyChanges }) => ({ historyChanges: historyChanges + 1 }));
  }

  async importFile(file: File): Promise<void> {
    await this.act(async () => {
      const { value } = await this.client.send<Imported>({ method: "POST", path: "/runs/import", file });
      if (value.kind === "run" && value.id) {
        this.store.setState(({ historyChanges }) => ({ historyChanges: historyChanges + 1 }));
        this.toast("good", `Imported: ${file.name}`);
        this.show({ kind: "run", id: value.id });
      } else if (value.cards) {
        const cards = value.cards;
        this.show({ kind: "cards" });
        this.load(
          cards.map((each) => each.card),
          false,
          { keepTargets: false },
        );
        const keys = cards.some((each) => each.key_left_out) ? " Its keys were left out: enter them again." : "";
        this.toast("good", `Cards of an older load tester.${keys}`);
      }
    });
  }

  /** The cards of a run, to run them again. */
  again(cards: readonly Card[], paired: boolean): void {
    this.load(cards, paired, { keepTargets: false });
    this.show({ kind: "cards" });
  }

  /** The one under way, else the newest that is over. */
  async lastRun(): Promise<string | null> {
    const list = await this.client.get<RunList>("/runs?limit=1").catch(() => null);
    return list?.active[0]?.id ?? list?.past[0]?.id ?? null;
  }

  private ended(): void {
    this.store.setState(({ historyChanges }) => ({ historyChanges: historyChanges + 1 }));
    this.announce("The test is over");
    void this.look();
  }

  // -- library --------------------------------------------------------------------------------------------------------

  async saveProfile(name: string): Promise<string> {
    const { cards, paired } = this.store.getState();
    const read = cards.map(cardOf);
    const bad = cards.filter((form, place) => this.tell(form.uid, read[place]?.problems ?? {}));
    if (bad.length) return "Some cards have problems: see there.";
    const body = { cards: read.map(({ card }) => card), paired, notes: "" };
    try {
      await this.client.send({ method: "PUT", path: `/profiles/${encodeURIComponent(name.trim())}`, body });
    } catch (error) {
      const field = error instanceof ApiProblem ? error.fields[0]?.field : undefined;
      if (field && placeOf(field)) {
        this.refused(error, cards);
        return "Some cards have problems: see there.";
      }
      return wordsOf(error);
    }
    await this.lookAtLibrary();
    this.toast("good", `Profile saved: ${name.trim()}`);
    return "";
  }

  async deleteProfile(name: string): Promise<void> {
    if (!(await this.confirm("Delete this profile?", `${name} is gone for good.`, "Delete"))) return;
    await this.act(() => this.client.send({ method: "DELETE", path: `/profiles/${encodeURIComponent(name)}` }));
    await this.lookAtLibrary();
  }

  private async lookAtLibrary(): Promise<void> {
    await this.act(async () => {
      const [{ keys }, { profiles }, sets] = await Promise.all([
        this.client.get<{ keys: HeldKey[] }>("/keys"),
        this.client.get<{ profiles: Profile[] }>("/profiles"),
        this.client.get<{ prompt_sets: PromptSetView[] }>("/prompt-sets"),
      ]);
      const held = new Set(keys.map((each) => each.id));
      this.store.setState(({ cards }) => ({
        keys,
        profiles,
        promptSets: sets.prompt_sets,
        // The server has been started again meanwhile: it holds none of the keys any more.
        cards: cards.some((each) => each.keyId && !held.has(each.keyId))
          ? cards.map((each) => (held.has(each.keyId) ? each : { ...each, keyId: "" }))
          : cards,
      }));
    });
  }

  /** A stage or a step is over: its figures are part of the result, not of what comes each second. */
  private async lookAtRun(): Promise<void> {
    const id = this.store.getState().run?.result.id;
    if (!id) return;
    const result = await this.client.get<RunResult>(`/runs/${id}`).catch(() => null);
    const { run } = this.store.getState();
    if (result && run?.tick && run.result.id === id) this.store.setState({ run: { ...run, result } });
  }

  /** Which runs are under way. */
  private async look(): Promise<void> {
    try {
      const { active } = await this.client.get<RunList>("/runs?limit=1");
      this.store.setState({ active, unreachable: "" });
    } catch (error) {
      if (error instanceof ApiProblem && error.unreachable) this.store.setState({ unreachable: error.message });
    }
  }

  // -- words ----------------------------------------------------------------------------------------------------------

  /** Whether there were any problems. */
  private tell(uid: string, problems: Problems): boolean {
    const any = Object.keys(problems).length > 0;
    this.store.setState((state) => {
      const others = without(state.problems, uid);
      return { problems: any ? new Map(others).set(uid, problems) : others };
    });
    return any;
  }

  private refused(error: unknown, forms: readonly CardForm[]): void {
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
  private pointOut(): void {
    requestAnimationFrame(() => document.querySelector<HTMLElement>("[aria-invalid='true']")?.focus());
  }

  private async act(work: () => Promise<unknown>): Promise<void> {
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

export function hashOf(view: View): string {
  if (view.kind === "run") return `#/run/${encodeURIComponent(view.id)}`;
  if (view.kind === "compare") return `#/compare/${encodeURIComponent(view.first)}/${encodeURIComponent(view.second)}`;
  return `#/${view.kind}`;
}

function segments(tick: Tick): number {
  return tick.cards.reduce((sum, each) => sum + each.segments, 0);
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function without(problems: ReadonlyMap<string, Problems>, uid: string): ReadonlyMap<string, Problems> {
  if (!problems.has(uid)) return problems;
  return new Map([...problems].filter(([each]) => each !== uid));
}

function sameCard(one: CardForm | undefined, two: CardForm): boolean {
  return JSON.stringify({ ...one, uid: "" }) === JSON.stringify({ ...two, uid: "" });
}

function count(cards: number): string {
  return cards === 1 ? "One card in place of those before" : `${cards} cards in place of those before`;
}
