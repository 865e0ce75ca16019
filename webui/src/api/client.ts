// The admin API of the balancer.

import { JsonClient } from "./http";

export { type Answer, ApiProblem, type Call, type FieldProblem, problemOf } from "./http";

export class AdminClient extends JsonClient {
  constructor() {
    super("/admin/api", "balancer");
  }
}
