// The help: every action with its key, the legend of wires and badges. Made from the registry.

import { ACTIONS } from "../actions/list";
import { type Group, shownKeys } from "../actions/registry";
import { MAC } from "../design/Menu";
import { Dialog, StatusBadge } from "../design/parts";
import type { Status } from "../logic/status";

const CANVAS_KEYS: readonly [string, string][] = [
  ["Arrows", "Go to the next node in that direction"],
  ["Ctrl+Arrow", "Follow a wire: to Incoming and back, or along the endpoints"],
  ["Space", "Grab the node: arrows move it, Space lets go, Esc puts it back"],
  ["Shift+Arrow", "Go there and select it as well"],
  ["Shift+Enter", "Select or unselect the node you are at"],
  ["W", "Begin a wire here; go to the other end and press W or Enter"],
  ["Esc", "Stop what was begun, then clear the selection"],
];

const LEGEND: readonly [Status["tone"], Status["icon"], string, string][] = [
  ["good", "check", "serving", "takes requests and has some"],
  ["good", "dot", "ready", "takes requests, none lately"],
  ["busy", "full", "full", "at its cap; the rest overflows"],
  ["busy", "drain", "draining 3", "cut; 3 requests still finish"],
  ["warn", "clock", "cooling 12 s", "failed several times; tried again then"],
  ["warn", "clock", "throttled 5 s", "asked to be left alone that long"],
  ["bad", "cross", "down", "does not answer its probes"],
  ["bad", "key", "key refused", "does not take its API key"],
  ["idle", "plug", "not connected", "no wire: takes no traffic"],
  ["idle", "pause", "disabled", "switched off"],
];

export function Help({ onClose }: { onClose: () => void }) {
  const groups = [...new Set(ACTIONS.map((each) => each.group))];
  return (
    <Dialog title="Keys and legend" wide onClose={onClose}>
      <div className="help-columns">
        {groups.map((group) => (
          <KeyGroup key={group} group={group} />
        ))}
        <section>
          <h3>On the canvas</h3>
          <dl className="help-list">
            {CANVAS_KEYS.map(([keys, does]) => (
              <div key={keys}>
                <dt>
                  <kbd>{shownKeys(keys, MAC)}</kbd>
                </dt>
                <dd>{does}</dd>
              </div>
            ))}
          </dl>
        </section>
        <section>
          <h3>Badges</h3>
          <dl className="help-list">
            {LEGEND.map(([tone, icon, word, means]) => (
              <div key={word}>
                <dt>
                  <StatusBadge status={{ tone, icon, word, explanation: means, seconds: null }} />
                </dt>
                <dd>{means}</dd>
              </div>
            ))}
          </dl>
        </section>
        <section>
          <h3>Wires</h3>
          <p className="muted">
            Width is the share of tokens; dots are requests, about one for each per second; their speed is the time to
            the first byte; red diamonds are errors. The label reads “now → target”. All of the last 60 seconds. A
            dashed wire is draining.
          </p>
        </section>
      </div>
    </Dialog>
  );
}

function KeyGroup({ group }: { group: Group }) {
  return (
    <section>
      <h3>{group}</h3>
      <dl className="help-list">
        {ACTIONS.filter((each) => each.group === group).map((each) => (
          <div key={each.id}>
            <dt>
              <kbd>{shownKeys(each.keys[0] ?? "", MAC)}</kbd>
            </dt>
            <dd>
              {each.title}
              <span className="small muted help-does">{each.does}</span>
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
