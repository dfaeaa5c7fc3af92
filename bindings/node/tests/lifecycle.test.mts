/** Ends: closing, using what is closed, and what is never closed. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Engine, MockClock } from "libgrate";
import { collectUntil, configOf, mockEngine, quota } from "./support.mjs";

test("a closed engine says so", () => {
  const { engine } = mockEngine();
  const decision = engine.acquire("api");
  assert.equal(engine.closed, false);
  engine.close();
  engine.close();
  assert.equal(engine.closed, true);
  for (const call of [
    () => engine.acquire("api"),
    () => engine.select("api"),
    () => decision.complete(),
    () => decision.cancel(),
    () => engine.complete(1n),
    () => engine.cancel(1n),
    () => engine.observe("a"),
    () => engine.configure({}),
    () => engine.removeProvider("a"),
    () => engine.removeCapability("api"),
    () => engine.providerHealth("a"),
    () => engine.providerInCooldown("a"),
    () => engine.remainingQuota("a", "requests"),
    () => engine.providerState("a"),
    () => engine.metrics(),
    () => engine.prometheus(),
    () => engine.share(),
  ]) {
    assert.throws(call, { name: "ClosedError", code: "GRATE_CLOSED", status: -1, message: "this engine is closed" });
  }
});

test("a closed clock says so, and its engine goes on", () => {
  const { engine, clock } = mockEngine();
  clock.advanceSecs(1);
  clock.close();
  clock.close();
  for (const call of [() => clock.nowNs(), () => clock.advanceMs(1), () => clock.advanceSecs(1), () => clock.setNs(1)]) {
    assert.throws(call, { name: "ClosedError", message: "this clock is closed" });
  }
  assert.throws(() => new Engine(undefined, { clock }), { name: "ClosedError" });
  engine.acquire("api").complete();
});

test("`using` closes engine and clock", () => {
  let outer;
  {
    using clock = new MockClock();
    using engine = new Engine(configOf({ a: [quota(1)] }), { clock });
    outer = engine;
    assert.equal(outer.closed, false);
  }
  assert.equal(outer.closed, true);
});

test("what is never closed is freed by the garbage collector, in any order", async () => {
  const config = configOf(Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`p${i}`, [quota(1)]])));
  const make = (count: number): void => {
    for (let i = 0; i < count; i++) {
      const clock = new MockClock();
      const engine = new Engine(config, { clock });
      engine.acquire("api");
      if (i % 3 === 0) engine.close();
      if (i % 5 === 0) clock.close();
    }
  };
  const settle = (): Promise<boolean> => collectUntil(() => false, 5);
  for (let i = 0; i < 5; i++) {
    make(60);
    await settle();
  }
  const before = residentKiB();
  for (let i = 0; i < 10; i++) {
    make(60);
    await settle();
  }
  // 320 of these were not closed, and each takes about 700 KiB.
  const grown = residentKiB() - before;
  assert.ok(grown < 50_000, `${grown} KiB more`);
});

test("a decision keeps its engine", async () => {
  const decision = mockEngine().engine.acquire("api");
  await collectUntil(() => false, 3);
  decision.complete();
  assert.equal(decision.engine.metrics().completions, 1);
});

test("a configuration that fails leaves no engine behind", () => {
  const text = JSON.stringify({ ...configOf({ a: [quota(1)] }), engine: { ewma_alpha: 7 } });
  for (let i = 0; i < 1000; i++) assert.throws(() => new Engine(text), { name: "InvalidConfigError" });
});

test("more names than are remembered", () => {
  const { engine } = mockEngine();
  for (let i = 0; i < 20_000; i++) assert.throws(() => engine.providerHealth(`nobody ${i}`), { message: /nobody/ });
  assert.equal(engine.providerHealth("a"), 1);
});

function residentKiB(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
}
