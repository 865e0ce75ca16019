// What this process runs with: read only, since a setting changes with a restart. Secrets come masked.

import { Fragment, useState } from "react";
import type { SettingView } from "../api/types";
import { Icon } from "../design/parts";
import { count } from "../logic/format";
import { grouped, shownValue, sourceInWords } from "../logic/settings";
import "./drawer.css";
import "./SettingsOverview.css";
import { PanelScroll } from "./pieces";
import { useLoaded } from "./useLoaded";

const NONE: SettingView[] = [];

export function SettingsOverview() {
  const { value, problem } = useLoaded<SettingView[]>("/settings");
  const [filter, setFilter] = useState("");
  const [changedOnly, setChangedOnly] = useState(false);
  const settings = value ?? NONE;
  const groups = grouped(settings, filter, changedOnly);
  const shown = groups.reduce((sum, each) => sum + each.settings.length, 0);
  return (
    <div className="panel">
      <div className="panel-tools">
        <input
          type="search"
          className="input settings-filter"
          placeholder="Filter settings"
          aria-label="Filter settings"
          value={filter}
          onChange={(event) => setFilter(event.target.value)}
        />
        <label className="check small">
          <input type="checkbox" checked={changedOnly} onChange={(event) => setChangedOnly(event.target.checked)} />
          Only those that were set
        </label>
        <span className="small muted" role="status">
          {value && (shown === settings.length ? count(shown, "setting") : `${shown} of ${settings.length}`)}
        </span>
        <div className="grow" />
        <span className="small muted">
          To change one: set it in the environment or in <code className="mono">.env</code>, then restart.
        </span>
      </div>
      {problem && <p className="note warn panel-note">{problem}</p>}
      <PanelScroll label="All settings">
        {shown > 0 && <Table groups={groups} />}
        {value && !shown && (
          <p className="empty">
            <Icon name="search" />
            {changedOnly && !filter ? "Everything is at its default." : "No setting is like this."}
          </p>
        )}
      </PanelScroll>
    </div>
  );
}

function Table({ groups }: { groups: ReturnType<typeof grouped> }) {
  return (
    <table className="table settings-table">
      <thead>
        <tr>
          <th scope="col">setting</th>
          <th scope="col">value</th>
          <th scope="col">where from</th>
          <th scope="col">what it does</th>
        </tr>
      </thead>
      {groups.map((group) => (
        <tbody key={group.name}>
          <tr className="settings-group">
            <th scope="rowgroup" colSpan={4}>
              {group.name}
            </th>
          </tr>
          {group.settings.map((each) => (
            <Row key={each.name} setting={each} />
          ))}
        </tbody>
      ))}
    </table>
  );
}

function Row({ setting }: { setting: SettingView }) {
  const set = setting.source !== "default";
  return (
    <tr>
      <td>
        <code className="mono small">{setting.name}</code>
      </td>
      <td className={set ? "settings-value set" : "settings-value muted"}>{shownValue(setting, setting.value)}</td>
      <td>
        {sourceInWords(setting)}
        {set && !setting.secret && (
          <span className="small muted settings-default">default: {shownValue(setting, setting.default)}</span>
        )}
      </td>
      <td className="settings-help">
        {setting.help}{" "}
        <span className="small muted">
          {setting.choices.length ? <Choices choices={setting.choices} /> : `Expects ${setting.expected}.`}
        </span>
      </td>
    </tr>
  );
}

function Choices({ choices }: { choices: readonly string[] }) {
  return (
    <>
      One of{" "}
      {choices.map((each, place) => (
        <Fragment key={each}>
          {place > 0 && ", "}
          <code className="mono">{each}</code>
        </Fragment>
      ))}
      .
    </>
  );
}
