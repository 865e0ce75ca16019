// The way from the editor to the load tester, with a card filled in.

import type { SettingView } from "../api/types";
import { clientsAddress, type LoadTarget, loadTestAddress } from "../logic/loadtest";
import type { ActionContext } from "./registry";

/** Its address is a setting of the balancer, which is asked for when it is needed. Null: the balancer itself. */
export async function openLoadTester({ editor }: ActionContext, given: LoadTarget | null): Promise<void> {
  const settings = await editor.client.get<SettingView[]>("/settings");
  const address = settings.find((each) => each.name === "LB_LOAD_TESTER_URL")?.value ?? "";
  const balancer = () => ({
    url: clientsAddress(location.origin, settings),
    model: "",
    name: "Balancer",
    endpoint: null,
  });
  const target = given ?? balancer();
  window.open(loadTestAddress(address, target, location.origin + location.pathname), "_blank", "noopener");
}
