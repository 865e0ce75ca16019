// The way from the editor to the load tester, with a card filled in.

import type { SettingView } from "../api/types";
import { clientsAddress, type LoadTarget, loadTestAddress } from "../logic/loadtest";
import type { ActionContext } from "./registry";

/** Its address is a setting of the balancer, which is asked for when it is needed. Null: the balancer itself. */
export async function openLoadTester({ editor }: ActionContext, given: LoadTarget | null): Promise<void> {
  // The tab comes first: one that opens when an answer has been waited for is taken for an advertisement.
  const tab = window.open("", "_blank");
  let address: string;
  try {
    address = addressFor(await editor.client.get<SettingView[]>("/settings"), given);
  } catch (error) {
    tab?.close();
    throw error;
  }
  if (tab) {
    tab.opener = null;
    tab.location.replace(address);
  } else {
    const run = () => void window.open(address, "_blank", "noopener");
    editor.toast({ tone: "plain", text: "The browser kept the new tab back.", action: { label: "Open it", run } });
  }
}

function addressFor(settings: readonly SettingView[], given: LoadTarget | null): string {
  const address = settings.find((each) => each.name === "LB_LOAD_TESTER_URL")?.value ?? "";
  const balancer = () => ({
    url: clientsAddress(location.origin, settings),
    model: "",
    name: "Balancer",
    endpoint: null,
  });
  return loadTestAddress(address, given ?? balancer(), location.origin + location.pathname);
}
