// The settings of the process, sorted and found for the reader.

import type { SettingView } from "../api/types";

export interface SettingGroup {
  name: string;
  settings: SettingView[];
}

/** Those that hold every word of the filter in their name, value or help; in the groups and the order of the server. */
export function grouped(settings: readonly SettingView[], filter: string, changedOnly: boolean): SettingGroup[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map<string, SettingView[]>();
  for (const each of settings) {
    const text = [each.name, each.group, each.value, each.help, each.variable ?? ""].join(" ").toLowerCase();
    if (!words.every((word) => text.includes(word))) continue;
    if (changedOnly && each.source === "default") continue;
    groups.set(each.group, [...(groups.get(each.group) ?? []), each]);
  }
  return [...groups].map(([name, found]) => ({ name, settings: found }));
}

/** The value with its unit; what an empty one means. */
export function shownValue(setting: SettingView, value: string): string {
  if (value === "") return "empty";
  if (setting.secret && value === "***") return "set, not shown";
  if (!setting.unit || !/^\d/.test(value)) return value;
  return `${value} ${value === "1" ? setting.unit.replace(/s$/, "") : setting.unit}`;
}

export function sourceInWords(setting: SettingView): string {
  const by = setting.variable && setting.variable !== setting.name ? ` as ${setting.variable}` : "";
  switch (setting.source) {
    case "environment":
      return `environment${by}`;
    case "file":
      return `.env file${by}`;
    case "generated":
      return "made at the first start";
    default:
      return "default";
  }
}
