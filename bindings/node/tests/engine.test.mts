/** What an engine does, by way of each method. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine, MockClock, NoProviderAvailableError, libraryVersion, parseHeaders, statusName } from "libgrate";
import { NEW_YEAR, configOf, mockEngine, quota } from "./support.mjs";

test("an exhausted provider is left, and returned to after its cooldown", () => {
  const clock = new MockClock(NEW_YEAR);
  const engine = new Engine(
    {
      providers: [
        { name: "primary", priority: 10, cooldown_seconds: 30, quotas: [quota(2)] },
        { name: "backup", priority: 5, cooldown_seconds: 30, quotas: [quota(100)] },
      ],
      capabilities: [{ name: "api", providers: [{ provider: "primary" }, { provider: "backup" }] }],
    },
    { clock },
  );
  for (let i = 0; i < 3; i++) {
    clock.advanceSecs(1);
    engine.observe("primary", { outcome: "rate_limited", latencyMs: 50, requests: 1 });
  }
  assert.equal(engine.select("api").provider, "backup");
  clock.advanceSecs(60);
  assert.equal(engine.select("api").provider, "primary");
});

test("acquire reserves, complete corrects, cancel gives back", () => {
  const { engine } = mockEngine();
  const first = engine.acquire("api", { tokens: 400 });
  assert.equal(first.provider, "a");
  assert.ok(first.lease > 0n);
  assert.equal(first.engine, engine);
  assert.equal(engine.remainingQuota("a", "tokens"), 600);
  first.complete({ httpStatus: 200, tokens: 150 });
  assert.equal(engine.remainingQuota("a", "tokens"), 850);
  const second = engine.acquire("api", { inputTokens: 30, outputTokens: 40n, exclude: ["b"] });
  assert.equal(engine.remainingQuota("a", "tokens"), 780);
  engine.cancel(second.lease);
  assert.equal(engine.remainingQuota("a", "tokens"), 850);
  assert.equal(engine.remainingQuota("a", "requests"), 1);
  assert.equal(engine.remainingQuota("a", "bytes"), null);
});

test("select changes nothing", () => {
  const { engine } = mockEngine();
  for (let i = 0; i < 10; i++) assert.equal(engine.select("api").lease, 0n);
  assert.equal(engine.remainingQuota("a", "requests"), 2);
  assert.equal(engine.metrics().selects, 10);
});

test("a decision explains itself if it is asked to", () => {
  const { engine } = mockEngine();
  assert.equal(engine.select("api").candidates, undefined);
  const decision = engine.acquire("api", { tokens: 2000, explain: true });
  assert.equal(decision.provider, "b");
  assert.equal(decision.index, 1);
  const [chosen, held] = decision.candidates ?? [];
  const { provider, score, quotaScore, healthScore, priorityScore, latencyScore, index } = decision;
  const same = { provider, score, quotaScore, healthScore, priorityScore, latencyScore, index };
  assert.deepEqual({ ...chosen, ...same }, chosen);
  assert.equal(held?.provider, "a");
  assert.equal(held.heldBy, "quota");
  assert.equal(held.heldDimension, "tokens");
  assert.equal(held.heldWindowNs, 60e9);
  assert.equal(held.retryAfterNs, null);
});

test("exclusion and headroom", () => {
  const { engine } = mockEngine();
  assert.equal(engine.select("api", { exclude: ["a"] }).provider, "b");
  assert.equal(engine.select("api", { exclude: "a" as unknown as string[] }).provider, "b");
  assert.equal(engine.select("api", { exclude: ["a"] }).provider, "b");
  assert.equal(engine.select("api").provider, "a");
  assert.equal(engine.select("api", { headroom: 0.9 }).provider, "b");
  const many = Array.from({ length: 64 }, (_, i) => `${"ä".repeat(62)}${i}`);
  assert.equal(engine.select("api", { exclude: [...many.slice(1), "a"] }).provider, "b");
});

test("zero is zero, and what is left out is not known", () => {
  const { engine } = mockEngine();
  engine.acquire("api", { tokens: 500 }).complete({ httpStatus: 200 });
  assert.equal(engine.remainingQuota("a", "tokens"), 500);
  engine.acquire("api", { tokens: 500, exclude: ["b"] }).complete({ httpStatus: 200, tokens: 0 });
  assert.equal(engine.remainingQuota("a", "tokens"), 500);
  engine.observe("b", { outcome: "server_error", requests: 0 });
  assert.equal(engine.remainingQuota("b", "requests"), 100);
});

test("amounts beyond 2^53 are bigints", () => {
  const quotas = '[{"dimension": "bytes", "limit": 9007199254740999, "window": "day", "strategy": "fixed_window"}]';
  const engine = new Engine(`{"providers": [{"name": "a", "quotas": ${quotas}}]}`);
  assert.equal(engine.remainingQuota("a", "bytes"), Number(9007199254740999n));
  engine.observe("a", { outcome: "success", bytes: 9007199254740990n });
  assert.equal(engine.remainingQuota("a", "bytes"), 9);
  engine.observe("a", { outcome: "success", bytes: Number.MAX_SAFE_INTEGER });
  assert.equal(engine.remainingQuota("a", "bytes"), 0);
});

test("headers correct the books, in every form they come in", () => {
  const fields = { "X-RateLimit-Limit-Requests": "100", "X-RateLimit-Remaining-Requests": "7" };
  const forms = {
    object: fields,
    lists: { ...fields, "set-cookie": ["a=1", "b=2"], age: undefined, "content-length": 12 },
    Headers: new Headers(fields),
    pairs: Object.entries(fields),
    Map: new Map(Object.entries(fields)),
    large: { ...fields, cookie: "x".repeat(100_000) },
    "beyond Latin-1": { ...fields, note: "snow ☃" },
  };
  for (const [form, headers] of Object.entries(forms)) {
    const { engine } = mockEngine();
    engine.acquire("api", { exclude: ["a"] }).complete({ httpStatus: 200, headers });
    assert.equal(engine.remainingQuota("b", "requests"), 7, form);
  }
});

test("Retry-After starts a cooldown", () => {
  const { engine, clock } = mockEngine();
  engine.acquire("api").complete({ httpStatus: 429, headers: { "retry-after": "20" } });
  assert.ok(engine.providerInCooldown("a"));
  assert.equal(engine.providerState("a").circuit, "open");
  assert.equal(engine.providerState("a").cooldownRemainingNs, 20e9);
  clock.advanceMs(20_000);
  assert.ok(!engine.providerInCooldown("a"));
  engine.observe("b", { outcome: "quota_exhausted", retryAfterMs: 1500.5 });
  assert.equal(engine.providerState("b").cooldownRemainingNs, 1500.5e6);
});

test("headers can be read without an engine", () => {
  const report = parseHeaders(
    {
      "anthropic-ratelimit-requests-limit": "50",
      "anthropic-ratelimit-requests-remaining": "49",
      "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:30Z",
      "retry-after": "2",
    },
    NEW_YEAR,
  );
  assert.equal(report.cached, false);
  assert.equal(report.retryAfterMs, 2000);
  assert.deepEqual(report.quotas, [
    { dimension: "requests", limit: 50, remaining: 49, resetInMs: 30_000, windowMs: null },
  ]);
  assert.deepEqual(parseHeaders({ age: "7" }), { cached: true, retryAfterMs: null, quotas: [] });
  assert.deepEqual(parseHeaders([]), { cached: false, retryAfterMs: null, quotas: [] });
});

test("states and counters", () => {
  const { engine, clock } = mockEngine();
  engine.upsertProvider({ name: "c", quotas: [quota(9, { pool: "account" }), { dimension: "concurrency", limit: 3 }] });
  engine.upsertCapability({ name: "other", providers: [{ provider: "c", priority: 3 }] });
  const lease = engine.acquire("other");
  clock.advanceMs(250);
  lease.complete({ httpStatus: 500 });
  engine.acquire("other").cancel();
  engine.acquire("other");
  const { quotas, ...state } = engine.providerState("c");
  assert.deepEqual(state, {
    circuit: "closed",
    health: engine.providerHealth("c"),
    cooldownRemainingNs: 0,
    latencyNs: state.latencyNs,
    consecutiveFailures: 1,
    leasesInFlight: 1,
    selects: 0,
    acquires: 3,
    completions: 1,
    cancellations: 1,
    expiredLeases: 0,
    observations: 0,
    cooldownsTriggered: 0,
    rateLimitedResponses: 0,
  });
  assert.ok(state.health > 0.5 && state.health < 1);
  const [slots, pooled] = quotas;
  assert.equal(pooled?.pool, "account");
  assert.equal(pooled.limit, 9);
  assert.equal(pooled.windowNs, 60e9);
  assert.equal(pooled.strategy, "rolling");
  assert.equal(pooled.limitSource, "configured");
  assert.equal(slots?.dimension, "concurrency");
  assert.equal(slots.strategy, "concurrency");
  assert.equal(slots.used, 1);
  assert.equal(slots.pool, null);
  assert.deepEqual(engine.metrics(), {
    selects: 0,
    acquires: 3,
    completions: 1,
    cancellations: 1,
    expiredLeases: 0,
    observations: 0,
    cooldownsTriggered: 0,
    noneAvailable: 0,
    rateLimitedResponses: 0,
    leasesInFlight: 1,
    cappedWaits: 0,
  });
});

test("metrics as text, however long", () => {
  const providers = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`provider-${i}`, [quota(1)]]));
  const text = new Engine(configOf(providers)).prometheus();
  assert.match(text, /^# HELP grate_/);
  assert.match(text, /provider="provider-99"/);
  assert.ok(text.endsWith("\n"));
});

test("removal, and return with what was counted", () => {
  const { engine } = mockEngine();
  const lease = engine.acquire("api");
  engine.removeProvider("a");
  assert.equal(engine.select("api").provider, "b");
  lease.complete();
  engine.upsertProvider({ name: "a", quotas: [quota(2)] });
  assert.equal(engine.remainingQuota("a", "requests"), 1);
  engine.removeCapability("api");
  assert.throws(() => engine.select("api"), { code: "GRATE_ERR_UNKNOWN_CAPABILITY" });
});

test("configurations as text, bytes and objects", () => {
  const config = configOf({ a: [quota(1)] });
  for (const form of [config, JSON.stringify(config), Buffer.from(JSON.stringify(config))]) {
    assert.equal(new Engine(form).select("api").provider, "a");
  }
  const engine = new Engine(config);
  engine.configure({ ...configOf({ b: [quota(1)] }), replace: true });
  assert.throws(() => engine.providerHealth("a"), { name: "UnknownProviderError" });
});

test("a decision is cancelled by `using`, unless it was settled", () => {
  const { engine } = mockEngine();
  {
    using unsent = engine.acquire("api");
    assert.equal(unsent.provider, "a");
  }
  assert.equal(engine.metrics().cancellations, 1);
  {
    using sent = engine.acquire("api");
    sent.complete();
    using byNumber = engine.acquire("api");
    engine.complete(byNumber.lease);
    using looked = engine.select("api");
    assert.equal(looked.lease, 0n);
  }
  assert.equal(engine.metrics().cancellations, 1);
  using late = engine.acquire("api");
  assert.equal(late.provider, "b");
  engine.close();
});

test("the mock clock", () => {
  using clock = new MockClock();
  assert.equal(clock.nowNs(), 0n);
  clock.advanceMs(5);
  clock.advanceSecs(2n);
  assert.equal(clock.nowNs(), 2_005_000_000n);
  clock.setNs(2n ** 63n);
  assert.equal(clock.nowNs(), 2n ** 63n);
  clock.setNs(7);
  assert.equal(clock.nowNs(), 7n);
});

test("an estimate that is left out is learned", () => {
  const { engine } = mockEngine();
  engine.acquire("api", { tokens: 10 }).complete({ httpStatus: 200, tokens: 300 });
  const next = engine.acquire("api", { exclude: ["b"] });
  assert.equal(engine.remainingQuota("a", "tokens"), 400);
  next.cancel();
});

test("when nothing fits, the wait is exact", () => {
  const { engine, clock } = mockEngine();
  engine.removeProvider("b");
  engine.acquire("api").complete();
  engine.acquire("api").complete();
  let wait = 0;
  try {
    engine.acquire("api");
    assert.fail("acquired");
  } catch (error) {
    assert.ok(error instanceof NoProviderAvailableError);
    wait = error.retryAfterMs ?? 0;
  }
  clock.advanceMs(wait - 1);
  assert.throws(() => engine.acquire("api"), NoProviderAvailableError);
  clock.advanceMs(1);
  assert.equal(engine.acquire("api").provider, "a");
});

test("names of versions and statuses", () => {
  assert.match(libraryVersion(), /^0\.\d+\.\d+$/);
  assert.equal(statusName(0), "GRATE_OK");
  assert.equal(statusName(10), "GRATE_ERR_STALE_LEASE");
  assert.equal(statusName(-5), "GRATE_ERR_UNKNOWN");
});
