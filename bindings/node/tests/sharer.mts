/** A process of the tests that shares the state of an engine: serves as many requests as it is told, or holds a lease. */

import { Engine, type EngineOptions, NoProviderAvailableError } from "libgrate";
import { configOf, quota } from "./support.mjs";

/** `a` has 1000 requests an hour, one at a time. */
export function sharing(options: EngineOptions): Engine {
  return new Engine(configOf({ a: [quota(1000, { window: "hour" }), { dimension: "concurrency", limit: 1 }] }), options);
}

/** How many requests it served. */
export function serve(engine: Engine, most: number): number {
  for (let count = 0; ; count++) {
    if (count === most) return count;
    try {
      engine.acquire("api").complete();
    } catch (error) {
      if (!(error instanceof NoProviderAvailableError)) throw error;
      if (error.heldBy === "quota") return count;
      count--; // another has the slot
    }
  }
}

const [, , statePath, task] = process.argv;
if (process.send !== undefined && statePath !== undefined) {
  const engine = sharing({ statePath });
  if (task === "hold") {
    engine.acquire("api");
    process.send("held");
    setInterval(() => undefined, 60_000);
  } else {
    process.send(serve(engine, Number(task)), () => process.disconnect());
  }
}
