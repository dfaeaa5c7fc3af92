/** A million requests leave nothing behind. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Engine, NoProviderAvailableError } from "libgrate";
import { collectUntil, inRepository } from "./support.mjs";

test("memory does not grow in a million requests", async () => {
  const engine = new Engine(readFileSync(inRepository("bindings/bench.json")));
  engine.configure({
    providers: [{ name: "none", quotas: [{ dimension: "requests", limit: 0, window: "day" }] }],
    capabilities: [{ name: "nothing", providers: [{ provider: "none" }] }],
  });
  const headers = { "x-ratelimit-limit-requests": "1000000000", "x-ratelimit-remaining-requests": "900000000" };
  const request = (i: number): void => {
    const decision = engine.acquire("chat", { tokens: 100, ...(i % 16 === 1 ? { exclude: ["backup"], explain: true } : {}) });
    if (i % 8 === 0) decision.complete({ httpStatus: 200, tokens: 100, headers });
    else decision.complete({ httpStatus: 200, tokens: 100 });
    if (i % 64 === 0) assert.throws(() => engine.acquire("nothing"), NoProviderAvailableError);
  };
  const resident = async (): Promise<number> => {
    await collectUntil(() => true);
    return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
  };
  for (let i = 0; i < 100_000; i++) request(i);
  const before = await resident();
  for (let i = 100_000; i < 1_000_000; i++) request(i);
  const grown = (await resident()) - before;
  assert.ok(grown < 4096, `${grown} KiB more`);
  assert.equal(engine.metrics().completions, 1_000_000);
  assert.equal(engine.metrics().leasesInFlight, 0);
});
