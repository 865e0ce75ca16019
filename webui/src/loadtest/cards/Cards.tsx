// What is to be run: a question to begin with, the cards side by side, and how they are started.

import { useState } from "react";
import { Menu, MenuItem } from "../../design/Menu";
import { Button } from "../../design/parts";
import { useLibrary, usePage, usePageState } from "../context";
import { CardPanel } from "./CardPanel";
import "./cards.css";

export function Cards() {
  const cards = usePageState((state) => state.cards);
  const problem = usePageState((state) => state.problem);
  return (
    <main className="page" aria-label="Cards">
      <Presets />
      <StartBar />
      {problem && (
        <p className="note bad" role="alert">
          {problem}
        </p>
      )}
      <div className="test-cards">
        {cards.map((form, place) => (
          <CardPanel key={form.uid} form={form} place={place} />
        ))}
      </div>
    </main>
  );
}

function Presets() {
  const page = usePage();
  const { presets } = useLibrary();
  return (
    <section aria-labelledby="presets-title">
      <h2 id="presets-title" className="section-title">
        What do you want to know?
      </h2>
      <ul className="presets">
        {presets.map((preset) => (
          <li key={preset.id}>
            <button
              type="button"
              className="card preset"
              onClick={() => page.load(preset.cards, preset.paired === true, { keepTargets: true })}
            >
              <strong>{preset.name}</strong>
              <span className="small muted">{preset.question}</span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function StartBar() {
  const page = usePage();
  const several = usePageState((state) => state.cards.length > 1);
  const count = usePageState((state) => state.cards.length);
  const name = usePageState((state) => state.runName);
  const order = usePageState((state) => state.order);
  const paired = usePageState((state) => state.paired);
  const starting = usePageState((state) => state.starting);
  return (
    <section className="start-bar" aria-label="Start">
      <Button icon="plus" title="Add a card (N)" onClick={() => page.add()}>
        Card
      </Button>
      <Profiles />
      <div className="grow" />
      {count === 2 && (
        <label
          className="check"
          title="Both cards send the same requests on the same schedule; the difference is stated"
        >
          <input
            type="checkbox"
            checked={paired}
            onChange={({ target }) => page.store.setState({ paired: target.checked })}
          />
          <span>Paired</span>
        </label>
      )}
      {several && (
        <fieldset className="segments">
          <legend className="visually-hidden">Order</legend>
          {(["together", "in_turn"] as const).map((each) => (
            <Button key={each} aria-pressed={order === each} onClick={() => page.store.setState({ order: each })}>
              {each === "together" ? "All at once" : "One by one"}
            </Button>
          ))}
        </fieldset>
      )}
      <input
        className="input start-name"
        aria-label="Name of the test"
        placeholder="Name of the test, optional"
        value={name}
        onChange={({ target }) => page.store.setState({ runName: target.value })}
      />
      <Button
        tone="primary"
        icon="play"
        title="Start (S)"
        disabled={starting}
        data-testid="start"
        onClick={() => void page.start()}
      >
        {several ? "Start all" : "Start"}
      </Button>
    </section>
  );
}

function Profiles() {
  const page = usePage();
  const profiles = usePageState((state) => state.profiles);
  const [open, setOpen] = useState(false);
  const choose = (act: () => unknown) => {
    setOpen(false);
    act();
  };
  return (
    <Menu open={open} onOpen={setOpen} label="Profiles" button={(props) => <Button {...props}>Profiles ▾</Button>}>
      <MenuItem icon="plus" onChoose={() => choose(() => page.open({ kind: "profile" }))}>
        Save these cards …
      </MenuItem>
      {profiles.map((each) => (
        <MenuItem
          key={each.name}
          icon="list"
          hint={`${each.cards.length === 1 ? "one card" : `${each.cards.length} cards`}${each.paired ? ", paired" : ""}`}
          onChoose={() => choose(() => page.load(each.cards, each.paired, { keepTargets: false }))}
        >
          {each.name}
        </MenuItem>
      ))}
      {profiles.map((each) => (
        <MenuItem
          key={`delete ${each.name}`}
          icon="trash"
          danger
          onChoose={() => choose(() => void page.deleteProfile(each.name))}
        >
          {`Delete ${each.name} …`}
        </MenuItem>
      ))}
    </Menu>
  );
}
