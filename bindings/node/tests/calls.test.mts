/** The part in C: that it is what is tested, that it is optional, and what it shares with the form without it. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { StaleLeaseError } from "libgrate";
import * as calls from "../dist/calls.js";
import { gc, inRepository, mockEngine } from "./support.mjs";

const asked = process.env["GRATE_NO_ADDON"];

test("the form that was asked for is tested", () => {
  if (asked !== undefined) assert.equal(calls.isFast, asked !== "1");
  assert.ok(calls.version() >= 1000);
});

test("an installed package compiles it if it can, and works without", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "grate-install-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const binding = inRepository("bindings/node");
  const packed = execFileSync("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder], { cwd: binding });
  const [{ filename }] = JSON.parse(packed.toString());
  const installed = join(folder, "node_modules", "libgrate");
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["-xzf", join(folder, filename), "-C", installed, "--strip-components=1"]);
  symlinkSync(join(binding, "node_modules", "koffi"), join(folder, "node_modules", "koffi"));
  assert.ok(!existsSync(join(installed, "native", "fast.node")), "a compiled file is in the package");
  assert.equal(readFileSync(join(installed, "LICENSE"), "utf8"), readFileSync(inRepository("LICENSE"), "utf8"));
  const program = `
    const { Engine } = require("libgrate");
    const engine = new Engine({ providers: [{ name: "a" }], capabilities: [{ name: "x", providers: [{ provider: "a" }] }] });
    engine.acquire("x", { tokens: 1 }).complete({ httpStatus: 200, tokens: 1 });
    console.log(engine.metrics().completions, require("./node_modules/libgrate/dist/calls.js").isFast);
  `;
  const env: NodeJS.ProcessEnv = { ...process.env };
  delete env["GRATE_NO_ADDON"];
  for (const [CC, said] of [
    ["false", "1 false\n"],
    ["no-such-compiler", "1 false\n"],
    [process.env["CC"] ?? "cc", "1 true\n"],
  ] as const) {
    execFileSync("npm", ["run", "--silent", "install"], { cwd: installed, env: { ...env, CC } });
    assert.equal(execFileSync("node", ["-e", program], { cwd: folder, env, encoding: "utf8" }), said, CC);
  }
});

test("it takes no other block", () => {
  if (!calls.isFast) return; // what is asked for is tested above
  const { bind } = createRequire(import.meta.url)("../native/fast.node");
  for (const wrong of [[], [1], [{}], [new ArrayBuffer(8)], [new Uint8Array(96)]]) {
    assert.throws(() => bind(...wrong), { name: "TypeError", message: /block/ });
  }
});

test("leases are 64 bits", () => {
  for (const [low, high, number] of [
    [0, 0, 0n],
    [5, 1, 2n ** 32n + 5n],
    [-2, -1, 2n ** 64n - 2n],
  ] as const) {
    calls.putLease(low, high);
    assert.equal(calls.getLease(), number);
  }
  const { engine } = mockEngine();
  const { lease } = engine.acquire("api");
  engine.complete(lease);
  for (const stale of [lease, lease + 2n ** 32n, lease + 2n ** 63n, 2n ** 64n - 1n]) {
    assert.throws(() => engine.complete(stale, { httpStatus: 200 }), StaleLeaseError);
  }
});

test("what the caller's getters and iterators call comes before the call", () => {
  const { engine } = mockEngine();
  const other = engine.acquire("api", { tokens: 300, exclude: ["b"] });
  const decision = engine.acquire("api", {
    get tokens() {
      other.complete({ httpStatus: 200, tokens: 100, requests: 0 });
      return 200;
    },
    exclude: new Set(["b"]) as unknown as string[],
  });
  assert.equal(engine.remainingQuota("a", "tokens"), 700);
  decision.complete({
    httpStatus: 200,
    get tokens() {
      engine.acquire("api", { exclude: ["a"] }).complete({ httpStatus: 500, tokens: 7 });
      assert.throws(() => engine.complete(12345n), StaleLeaseError);
      return 50;
    },
    headers: (function* (): Generator<[string, string]> {
      engine.acquire("api", { exclude: ["a"] }).cancel();
      yield ["x-request-id", "1"];
    })(),
  });
  assert.equal(engine.remainingQuota("a", "tokens"), 850);
  assert.equal(engine.providerState("a").completions, 2);
  assert.equal(engine.providerState("b").completions, 1);
  assert.equal(engine.metrics().leasesInFlight, 0);
});

test("a name stays where it is while a report is read", () => {
  const { engine } = mockEngine();
  const headers = function* (): Generator<[string, string]> {
    // More names than are remembered, and something in their place.
    for (let i = 0; i < 5000; i++) assert.throws(() => engine.providerHealth(`${i}`.padStart(100)));
    gc();
    for (let i = 0; i < 5000; i++) Buffer.from(`${i}`.padStart(100));
    yield ["x-request-id", "1"];
  };
  for (let i = 0; i < 5; i++) engine.observe("a", { httpStatus: 200, headers: headers() });
  assert.equal(engine.providerState("a").observations, 5);
});

test("decisions are of their own providers, whichever was before", () => {
  const { engine } = mockEngine();
  const second = mockEngine().engine;
  for (let i = 0; i < 3; i++) {
    assert.equal(engine.select("api", { exclude: ["b"] }).provider, "a");
    assert.equal(engine.select("api", { exclude: ["a"] }).provider, "b");
    assert.equal(second.select("api", { exclude: ["a"] }).provider, "b");
    assert.throws(() => engine.select("other"), { name: "UnknownCapabilityError" });
    assert.throws(() => engine.select(""), { name: "InvalidNameError" });
  }
});
