/** A worker thread of the tests: makes its own engine, or joins the one it is given, and works. */

import { parentPort, workerData } from "node:worker_threads";
import { Engine, NoProviderAvailableError, type SharedEngine } from "libgrate";
import { configOf, quota } from "./support.mjs";

interface Task {
  shared?: SharedEngine;
  rounds: number;
  /** Whether it ends without closing its engine. */
  abrupt?: boolean;
}

const { shared, rounds, abrupt } = workerData as Task;
const engine = shared === undefined ? new Engine(configOf({ a: [quota(1000)] })) : new Engine(shared);
parentPort?.postMessage("ready");
let served = 0;
for (let i = 0; i < rounds; i++) {
  try {
    const decision = engine.acquire("api", { tokens: 1 });
    served++;
    if (i % 3 === 0) engine.complete(decision.lease, { httpStatus: 200, headers: { "x-request-id": `${i}` } });
    else decision.complete({ httpStatus: 200, tokens: 1 });
  } catch (error) {
    if (!(error instanceof NoProviderAvailableError)) throw error;
  }
}
if (abrupt !== true) engine.close();
parentPort?.postMessage(served);
