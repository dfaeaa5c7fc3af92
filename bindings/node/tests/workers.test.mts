/** Worker threads: an engine in each, and one that they share. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { Engine, type SharedEngine } from "libgrate";
import { configOf, mockEngine, quota } from "./support.mjs";

function start(task: { shared?: SharedEngine; rounds: number; abrupt?: boolean }): Worker {
  return new Worker(new URL("worker.mjs", import.meta.url), { workerData: task });
}

/** How many requests it served. */
async function ended(worker: Worker): Promise<number> {
  let served = NaN;
  worker.on("message", (message) => (served = Number(message)));
  const [code] = (await once(worker, "exit")) as [number];
  assert.equal(code, 0);
  return served;
}

test("each worker has its own engine", async () => {
  const served = await Promise.all(Array.from({ length: 4 }, () => ended(start({ rounds: 3000 }))));
  assert.deepEqual(served, [1000, 1000, 1000, 1000]);
});

test("workers share one engine, and its limits", async () => {
  const engine = new Engine(configOf({ a: [quota(5000)], b: [quota(1000)] }));
  const workers = Array.from({ length: 4 }, () => ended(start({ shared: engine.share(), rounds: 10_000 })));
  const served = await Promise.all(workers);
  assert.equal(
    served.reduce((sum, each) => sum + each, 0),
    6000,
  );
  const metrics = engine.metrics();
  assert.equal(metrics.completions, 6000);
  assert.equal(metrics.noneAvailable, 34_000);
  assert.equal(metrics.leasesInFlight, 0);
});

test("a shared engine may be closed while others use it", async () => {
  for (let i = 0; i < 5; i++) {
    const engine = new Engine(configOf({ a: [quota(1_000_000)] }));
    const workers = [start({ shared: engine.share(), rounds: 20_000 }), start({ shared: engine.share(), rounds: 20_000 })];
    const ends = workers.map(ended);
    await Promise.all(workers.map((worker) => once(worker, "message")));
    engine.close();
    assert.deepEqual(await Promise.all(ends), [20_000, 20_000]);
  }
});

test("a worker that ends without closing, or in the middle, does no harm", async () => {
  const engine = new Engine(configOf({ a: [quota(1_000_000)] }));
  await ended(start({ shared: engine.share(), rounds: 10, abrupt: true }));
  const endless = start({ shared: engine.share(), rounds: Infinity });
  await once(endless, "message");
  await endless.terminate();
  engine.acquire("api").complete();
  engine.close();
});

test("what is shared of a closed engine is of no use", () => {
  const { engine } = mockEngine();
  const shared = engine.share();
  const again = new Engine(shared);
  const decision = engine.acquire("api");
  again.complete(decision);
  engine.close();
  assert.equal(again.metrics().completions, 1);
  again.close();
  assert.throws(() => new Engine(shared), { name: "ClosedError" });
  for (const other of [new SharedArrayBuffer(24), new SharedArrayBuffer(8)]) {
    assert.throws(() => new Engine(other as SharedEngine), { name: "InvalidArgumentError" });
  }
});
