/** Processes that share the state of an engine through a file. */

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Engine, type EngineOptions } from "libgrate";
import { serve, sharing } from "./sharer.mjs";

const folder = mkdtempSync(join(tmpdir(), "grate-shared-"));
after(() => rmSync(folder, { recursive: true }));

/** What `cluster.fork` does: another process of the same program. */
async function served(statePath: string, most: number): Promise<number> {
  const worker = fork(fileURLToPath(new URL("sharer.mjs", import.meta.url)), [statePath, `${most}`]);
  const [[count]] = (await Promise.all([once(worker, "message"), once(worker, "exit")])) as [[number], unknown];
  return count;
}

test("processes share one quota", async () => {
  const statePath = join(folder, "together");
  const engine = sharing({ statePath });
  assert.deepEqual(await Promise.all([served(statePath, 300), served(statePath, 300), served(statePath, 300)]), [300, 300, 300]);
  assert.equal(serve(engine, Infinity), 100);
  assert.equal(await served(statePath, Infinity), 0);
  assert.equal(engine.metrics().completions, 1000);
  engine.close();
});

test("a process that dies leaves no lease", async () => {
  const statePath = join(folder, "dies");
  const engine = sharing({ statePath });
  const worker = fork(fileURLToPath(new URL("sharer.mjs", import.meta.url)), [statePath, "hold"]);
  await once(worker, "message");
  assert.equal(engine.remainingQuota("a", "concurrency"), 0);
  const gone = once(worker, "exit");
  worker.kill("SIGKILL");
  await gone;
  for (let i = 0; i < 1000 && engine.remainingQuota("a", "concurrency") === 0; i++) await sleep(20);
  assert.equal(serve(engine, 1), 1);
  engine.close();
});

test("a restart keeps the usage", () => {
  const statePath = join(folder, "restart");
  const first = sharing({ statePath });
  serve(first, 400);
  first.close();
  const second = sharing({ statePath });
  assert.equal(serve(second, Infinity), 600);
  second.close();
});

test("a file that cannot be used", () => {
  const statePath = join(folder, "unusable");
  writeFileSync(statePath, "something else");
  const unusable = { name: "StateFileError", code: "GRATE_ERR_STATE_FILE", status: 14 };
  assert.throws(() => sharing({ statePath }), { ...unusable, message: /unusable' is not a state file/ });
  const engine = sharing({ statePath, stateSize: 1 << 20, replaceUnusableState: true });
  assert.equal(statSync(statePath).size, 1 << 20);
  assert.equal(serve(engine, Infinity), 1000);
  engine.close();
  assert.throws(() => sharing({ statePath: join(statePath, "none") }), unusable);
  assert.throws(() => sharing({ statePath: `${statePath}2`, stateSize: 1 }), { name: "InvalidConfigError" });
  const wrong: EngineOptions[] = [{ statePath: "" }, { statePath: "a\0b" }, { statePath: "x".repeat(4097) }, { stateSize: -1 }];
  for (const options of wrong) assert.throws(() => new Engine(undefined, options), { name: "InvalidArgumentError" });
  // What was left in the arguments does not reach the next engine.
  new Engine({}).close();
});
