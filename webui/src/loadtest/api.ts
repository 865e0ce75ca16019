// The load tester's API.

import { JsonClient } from "../api/http";

export class LoadTesterClient extends JsonClient {
  constructor() {
    super("/api", "load tester");
  }
}
