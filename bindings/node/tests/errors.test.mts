/** Every error: its class, code and message; and that nothing wraps or is cut silently. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { Engine, GrateError, MockClock, NoProviderAvailableError, type Report, type RouteOptions } from "libgrate";
import { configOf, mockEngine, quota } from "./support.mjs";

test("unknown names", () => {
  const { engine } = mockEngine();
  const unknownCapability = { name: "UnknownCapabilityError", code: "GRATE_ERR_UNKNOWN_CAPABILITY", status: 7, message: /nope/ };
  assert.throws(() => engine.acquire("nope"), unknownCapability);
  assert.throws(() => engine.removeCapability("nope"), unknownCapability);
  for (const call of [
    () => engine.observe("nope"),
    () => engine.providerHealth("nope"),
    () => engine.providerInCooldown("nope"),
    () => engine.remainingQuota("nope", "requests"),
    () => engine.providerState("nope"),
    () => engine.removeProvider("nope"),
  ]) {
    assert.throws(call, { name: "UnknownProviderError", code: "GRATE_ERR_UNKNOWN_PROVIDER", status: 8, message: /nope/ });
  }
});

test("names that cannot be", () => {
  const { engine } = mockEngine();
  const invalid = { name: "InvalidNameError", code: "GRATE_ERR_INVALID_NAME", status: 3 };
  for (const name of ["", "x".repeat(129), "ä".repeat(65), "a\nb", "a\0b", "a\ud800", "x".repeat(1e6)]) {
    assert.throws(() => engine.acquire(name), invalid);
    assert.throws(() => engine.providerHealth(name), invalid);
  }
  for (const name of ["x".repeat(129), "a\0b", "a\ud800"]) {
    assert.throws(() => engine.acquire("api", { exclude: [name] }), invalid);
  }
  for (const wrong of [undefined, null, 3, {}]) {
    assert.throws(() => engine.acquire(wrong as unknown as string), TypeError);
  }
});

test("numbers that do not fit", () => {
  const { engine, clock } = mockEngine();
  const invalid = { name: "InvalidArgumentError", code: "GRATE_ERR_INVALID_ARGUMENT", status: 4 };
  const decision = engine.acquire("api");
  for (const wrong of [-1, -1n, 1.5, NaN, Infinity, 2 ** 53, 2n ** 64n, 2n ** 64n - 1n, "7", null, {}, true] as number[]) {
    for (const field of ["tokens", "inputTokens", "outputTokens", "bytes", "costMicroUsd"]) {
      assert.throws(() => engine.select("api", { [field]: wrong }), invalid, `${field}: ${String(wrong)}`);
      assert.throws(() => decision.complete({ [field]: wrong }), invalid, `${field}: ${String(wrong)}`);
    }
    assert.throws(() => decision.complete({ requests: wrong }), invalid);
  }
  for (const wrong of [-1, NaN, Infinity, 2e13, "soon", 5n] as number[]) {
    assert.throws(() => engine.observe("a", { latencyMs: wrong }), invalid);
    assert.throws(() => engine.observe("a", { retryAfterMs: wrong }), invalid);
  }
  for (const wrong of [-1, 1.5, NaN, 2 ** 53, 2n ** 64n, "7", undefined] as number[]) {
    if (wrong !== undefined) assert.throws(() => new MockClock(wrong), invalid);
    assert.throws(() => clock.advanceMs(wrong), invalid);
    assert.throws(() => clock.advanceSecs(wrong), invalid);
    assert.throws(() => clock.setNs(wrong), invalid);
    assert.throws(() => engine.cancel(wrong as unknown as bigint), invalid);
  }
  assert.equal(engine.metrics().completions, 0);
  decision.complete();
});

test("arguments out of range", () => {
  const { engine } = mockEngine();
  const invalid = (message: RegExp) => ({ name: "InvalidArgumentError", message });
  const report = (given: object) => () => engine.observe("a", given as Report);
  const route = (given: object) => () => engine.select("api", given as RouteOptions);
  assert.throws(report({ outcome: "ratelimited" }), invalid(/rate_limited/));
  assert.throws(report({ outcome: null }), invalid(/outcome/));
  assert.throws(report({ httpStatus: 99 }), invalid(/./));
  assert.throws(report({ httpStatus: 0 }), invalid(/./));
  assert.throws(report({ httpStatus: 2 ** 32 + 200 }), invalid(/httpStatus/));
  assert.throws(report({ httpStatus: "200" }), invalid(/httpStatus/));
  for (const wrong of ["timeout", 429, true]) assert.throws(report(wrong as never), invalid(/^a report is an object/));
  assert.throws(report({ headers: ["Retry-After", "5"] }), invalid(/rawHeaders/));
  assert.throws(route({ headroom: 1 }), invalid(/headroom/));
  assert.throws(route({ headroom: NaN }), invalid(/headroom/));
  assert.throws(route({ headroom: "0.5" }), invalid(/headroom/));
  assert.throws(route({ exclude: Array(65).fill("a") }), invalid(/64/));
  assert.throws(() => engine.remainingQuota("a", "request" as "requests"), invalid(/cost_micro_usd/));
});

test("configurations", () => {
  const { engine } = mockEngine();
  for (const text of ["{", "", '{"nope": 1}', '{"providers":[{"name":"a\ud800"}]}', Buffer.from([0xff]), Buffer.alloc(0)]) {
    assert.throws(() => engine.configure(text), { name: "InvalidJsonError", code: "GRATE_ERR_INVALID_JSON", status: 6 });
  }
  assert.throws(() => engine.configure('{"providers":\n x}'), /line 2/);
  assert.throws(() => engine.upsertProvider({ name: "c", quotas: [{ dimension: "requests", limit: 1 }] }), {
    name: "InvalidConfigError",
    code: "GRATE_ERR_INVALID_CONFIG",
    status: 5,
  });
  assert.throws(() => engine.upsertCapability({ name: "x", providers: [{ provider: "nope" }] }), {
    name: "UnknownProviderError",
  });
  assert.throws(() => new Engine({ engine: { ewma_alpha: 7 } }), { name: "InvalidConfigError" });
  for (const wrong of [null, 1, [], new Map(), new ArrayBuffer(2), new Uint16Array(1), Promise.resolve({})] as never[]) {
    assert.throws(() => engine.configure(wrong), { name: "InvalidArgumentError", message: /^a configuration is / });
  }
  for (const weight of [NaN, Infinity, 2n as unknown as number]) {
    const invalid = { name: "InvalidArgumentError", message: /^weight is (NaN|Infinity|2), and must be a finite number/ };
    assert.throws(() => engine.configure({ providers: [{ name: "a", weight }] }), invalid);
  }
});

test("a lease is settled once", () => {
  const { engine } = mockEngine();
  const decision = engine.acquire("api");
  decision.complete();
  const stale = { name: "StaleLeaseError", code: "GRATE_ERR_STALE_LEASE", status: 10 };
  for (const call of [
    () => decision.complete(),
    () => decision.cancel(),
    () => engine.complete(decision),
    () => engine.cancel(12345n),
    () => engine.select("api").complete(),
  ]) {
    assert.throws(call, stale);
  }
});

test("a lease expires", () => {
  const { engine, clock } = mockEngine();
  const decision = engine.acquire("api");
  clock.advanceSecs(601);
  assert.throws(() => decision.complete(), { name: "StaleLeaseError" });
  assert.equal(engine.metrics().expiredLeases, 1);
});

test("a decision of another engine", () => {
  const { engine } = mockEngine();
  const decision = mockEngine().engine.acquire("api");
  assert.throws(() => engine.complete(decision), { name: "InvalidArgumentError", message: /another engine/ });
  assert.throws(() => engine.cancel(decision), { name: "InvalidArgumentError", message: /another engine/ });
  decision.cancel();
});

test("no provider available", () => {
  const { engine } = mockEngine();
  engine.removeProvider("b");
  engine.acquire("api").complete();
  engine.acquire("api").complete();
  try {
    engine.acquire("api", { explain: true });
    assert.fail("acquired");
  } catch (error) {
    assert.ok(error instanceof NoProviderAvailableError && error instanceof GrateError);
    assert.equal(error.name, "NoProviderAvailableError");
    assert.equal(error.code, "GRATE_ERR_NO_PROVIDER_AVAILABLE");
    assert.equal(error.status, 9);
    assert.equal(error.provider, "a");
    assert.equal(error.heldBy, "quota");
    assert.equal(error.retryAfterNs, 60.05e9);
    assert.equal(error.retryAfterMs, 60_050);
    assert.equal(error.message, "no provider available: 'a' frees first, in 60050 ms (quota of requests per 60 s)");
    assert.equal(error.decision.lease, 0n);
    assert.equal(error.decision.candidates?.length, 1);
    assert.match(String(error.stack), /^NoProviderAvailableError: no provider/);
  }
  assert.throws(() => engine.acquire("api", { tokens: 5000 }), {
    heldBy: "quota",
    retryAfterNs: null,
    retryAfterMs: null,
    message: /waiting does not help/,
  });
  engine.upsertCapability({ name: "empty", providers: [] });
  assert.throws(() => engine.acquire("empty"), { provider: null, heldBy: null, message: /the capability has none/ });
});

test("the library is looked for where it is said to be", () => {
  const load = (GRATE_LIBRARY: string): string => {
    try {
      const argv = ["-e", 'require("libgrate")'];
      execFileSync(process.execPath, argv, { env: { ...process.env, GRATE_LIBRARY }, stdio: "pipe" });
      return "";
    } catch (error) {
      return String((error as { stderr: Buffer }).stderr);
    }
  };
  assert.equal(load(process.env["GRATE_LIBRARY"] ?? ""), "");
  assert.match(load("/nowhere/libgrate.so"), /library was not found.*Tried: \/nowhere/);
  assert.match(load("libc.so.6"), /not a libgrate that this package can use: it has no grate_version/);
});

test("getters and iterators of the caller may use the engine, and close it", () => {
  const { engine } = mockEngine();
  const nosy = {
    get tokens() {
      engine.select("api", { tokens: 1, exclude: ["a"] });
      return 600;
    },
    headers: (function* () {
      engine.acquire("api", { tokens: 7, exclude: ["b"] }).complete({ httpStatus: 200, headers: { a: "b" } });
      yield ["x-ratelimit-remaining-requests", "50"] as const;
    })(),
  };
  engine.acquire("api", nosy).complete(nosy);
  assert.equal(engine.remainingQuota("a", "tokens"), 400 - 7);
  const closing = {
    get headroom() {
      engine.close();
      return 0;
    },
  };
  assert.throws(() => engine.acquire("api", closing), { name: "ClosedError" });
});

test("a clock of another kind", () => {
  for (const clock of [{}, { address: 1 }, Date] as MockClock[]) {
    assert.throws(() => new Engine(undefined, { clock }), TypeError);
  }
});

test("an engine without providers", () => {
  using engine = new Engine();
  assert.throws(() => engine.acquire("api"), { name: "UnknownCapabilityError" });
  engine.configure(configOf({ a: [quota(1)] }));
  assert.equal(engine.acquire("api").provider, "a");
});
