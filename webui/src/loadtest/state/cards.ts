// The cards: made, changed, kept as profiles, and asked about one by one.

import { ApiProblem } from "../../api/http";
import { type CardForm, cardOf, formOf, placeOf } from "../logic/card";
import type { EditorLink } from "../logic/links";
import type { Card, HeldKey, Models, Profile, PromptSetView, Trial } from "../types";
import { Told, without, wordsOf } from "./told";

export class CardsOfPage extends Told {
  protected uids = 0;
  /** Keys on their way to the server: whoever needs them waits. */
  protected holding: Promise<unknown> = Promise.resolve();

  /** The card the editor asked for: in place of one nobody touched, else beside the others. */
  protected takeNewCard(url: string, model: string, name: string, link: EditorLink | null): void {
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

  protected defaultCard(): Card {
    const { library } = this.store.getState();
    if (!library) throw new Error("nothing is loaded yet");
    return library.about.card;
  }

  protected form(card: Card, keyId = ""): CardForm {
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

  protected setCards(cards: readonly CardForm[]): void {
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
  protected async ask<T>(path: string, uid: string): Promise<T | null> {
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

  protected async lookAtLibrary(): Promise<void> {
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
}

function sameCard(one: CardForm | undefined, two: CardForm): boolean {
  return JSON.stringify({ ...one, uid: "" }) === JSON.stringify({ ...two, uid: "" });
}

function count(cards: number): string {
  return cards === 1 ? "One card in place of those before" : `${cards} cards in place of those before`;
}
