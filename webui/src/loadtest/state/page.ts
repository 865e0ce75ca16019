// The page without its views: session, views, runs. Views read its store and call what is here.

import { ApiProblem } from "../../api/http";
import type { Theme } from "../../design/theme";
import type { LoadTesterClient } from "../api";
import { type CardForm, cardOf, changesOf, type Problems, placeOf } from "../logic/card";
import { readNewCard } from "../logic/links";
import type { About, Card, Definition, Imported, Preset, RunList, RunResult, SessionView, Tick } from "../types";
import { CardsOfPage } from "./cards";
import { remember, remembered } from "./kept";
import type { View } from "./store";
import { wordsOf } from "./told";
import { after, Watcher } from "./watching";

const LOOK_MILLISECONDS = 5000;

export class LoadTestPage extends CardsOfPage {
  private readonly watcher: Watcher;
  private renewing = false;

  constructor(client: LoadTesterClient, theme: Theme) {
    super(client, theme);
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
    client.onSignedOut = () => this.signedOut();
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

  /** A server that was started again gives a new session where no token is needed; else somebody logs in. */
  private signedOut(): void {
    this.watcher.stop();
    this.store.setState(({ run }) => ({ run: run && { ...run, lost: true } }));
    if (this.renewing || !this.store.getState().library) this.store.setState({ phase: "signedOut" });
    else void this.renew();
  }

  private async renew(): Promise<void> {
    this.renewing = true;
    try {
      await this.signedIn(await this.client.get<SessionView>("/session"));
      this.toast("plain", "The load tester was started again. Keys it held are to be entered anew.");
    } catch (error) {
      if (error instanceof ApiProblem && error.unreachable) this.store.setState({ unreachable: error.message });
    } finally {
      this.renewing = false;
    }
  }

  /** The cards as they were left, or one to begin with. */
  private takeUp(card: Card): void {
    const kept = remembered();
    this.store.setState(
      kept
        ? {
            cards: kept.cards.map((each) => ({ ...this.form(card), ...each })),
            order: kept.order,
            paired: kept.paired,
            links: kept.links ?? {},
          }
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
}

export function hashOf(view: View): string {
  if (view.kind === "run") return `#/run/${encodeURIComponent(view.id)}`;
  if (view.kind === "compare") return `#/compare/${encodeURIComponent(view.first)}/${encodeURIComponent(view.second)}`;
  return `#/${view.kind}`;
}

function segments(tick: Tick): number {
  return tick.cards.reduce((sum, each) => sum + each.segments, 0);
}
