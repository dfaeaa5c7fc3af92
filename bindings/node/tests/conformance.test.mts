/** Replays the scenarios of `conformance/`; its README has the format and the rules. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { after, test } from "node:test";
import {
  type Candidate,
  type Decision,
  type Dimension,
  Engine,
  GrateError,
  MockClock,
  NoProviderAvailableError,
  type Report,
  type RouteOptions,
} from "libgrate";
import { NEW_YEAR, inRepository } from "./support.mjs";

type Json = Record<string, any>;

const ESTIMATE = ["tokens", "input_tokens", "output_tokens", "bytes", "cost_micro_usd", "headroom", "exclude"];
const RESPONSE = [
  ...["outcome", "http_status", "latency_ms", "retry_after_ms", "requests"],
  ...["tokens", "input_tokens", "output_tokens", "bytes", "cost_micro_usd"],
];
const COMPONENTS = ["quota", "health", "priority", "latency"] as const;
const ROW = [
  ...["provider", "held_by", "held_dimension", "held_window_ns", "score", "seconds_to_exhaustion", "retry_after_ns"],
  ...["weights", "within", ...COMPONENTS],
];

class Replay {
  /** All decisions, to the last bit. */
  readonly trace: string[] = [];
  readonly #clock: MockClock;
  readonly #engine: Engine;
  readonly #leases = new Map<string, bigint>();

  constructor(scenario: Json) {
    only(scenario, ["name", "about", "unix_ms", "config", "steps"]);
    this.#clock = new MockClock(scenario["unix_ms"] ?? NEW_YEAR);
    this.#engine = new Engine(undefined, { clock: this.#clock });
    this.#engine.configure(scenario["config"]);
    this.#steps(scenario["steps"], "");
    this.#engine.close();
    this.#clock.close();
  }

  #steps(steps: Json[], place: string): void {
    for (const [i, step] of steps.entries()) {
      const [[verb, a] = ["", {}], ...more] = Object.entries(step);
      const here = `${place}step ${i + 1} (${verb})`;
      assert.equal(more.length, 0, here);
      if (verb === "repeat") {
        only(a, ["times", "steps"]);
        for (let turn = 1; turn <= a.times; turn++) this.#steps(a.steps, `${here}, round ${turn}, `);
        continue;
      }
      const replay = this.#verbs[verb];
      assert.ok(replay, `${here}: unknown verb`);
      try {
        replay(a);
      } catch (error) {
        throw new Error(`${here}: ${(error as Error).message}`, { cause: error });
      }
    }
  }

  readonly #verbs: Record<string, (a: Json) => void> = {
    advance: (a) => {
      only(a, ["secs", "ms", "ns"]);
      this.#clock.advanceSecs(a["secs"] ?? 0);
      this.#clock.advanceMs(a["ms"] ?? 0);
      if ("ns" in a) this.#clock.setNs(this.#clock.nowNs() + BigInt(a["ns"]));
    },
    set_ns: (a) => {
      only(a, ["ns"]);
      this.#clock.setNs(a["ns"]);
    },
    select: (a) => this.#route(a, (capability, options) => this.#engine.select(capability, options), false),
    acquire: (a) => this.#route(a, (capability, options) => this.#engine.acquire(capability, options), true),
    complete: (a) => {
      only(a, [...RESPONSE, "lease", "expect"]);
      settled(a, () => this.#engine.complete(this.#lease(a["lease"]), report(a)));
    },
    cancel: (a) => {
      only(a, ["lease", "expect"]);
      settled(a, () => this.#engine.cancel(this.#lease(a["lease"])));
    },
    observe: (a) => {
      only(a, [...RESPONSE, "provider", "expect"]);
      settled(a, () => this.#engine.observe(a["provider"], report(a)));
    },
    configure: (a) => {
      only(a, ["config", "text", "expect"]);
      settled(a, () => this.#engine.configure(a["text"] ?? a["config"]));
    },
    remove_provider: (a) => {
      only(a, ["name", "expect"]);
      settled(a, () => this.#engine.removeProvider(a["name"]));
    },
    remove_capability: (a) => {
      only(a, ["name", "expect"]);
      settled(a, () => this.#engine.removeCapability(a["name"]));
    },
    check_health: (a) => {
      only(a, ["provider", "value", "within", "error"]);
      checked(a, true, () => this.#engine.providerHealth(a["provider"]));
    },
    check_remaining: (a) => {
      only(a, ["provider", "dimension", "value", "error"]);
      checked(a, false, () => this.#engine.remainingQuota(a["provider"], a["dimension"] as Dimension));
    },
    check_in_cooldown: (a) => {
      only(a, ["provider", "value"]);
      assert.equal(this.#engine.providerInCooldown(a["provider"]), a["value"]);
    },
    check_circuit: (a) => {
      only(a, ["provider", "value"]);
      assert.equal(this.#engine.providerState(a["provider"]).circuit, a["value"]);
    },
    check_metrics: ({ provider, ...counters }) => {
      const seen: Json = provider === undefined ? this.#engine.metrics() : this.#engine.providerState(provider);
      for (const [name, value] of Object.entries(counters)) {
        assert.ok(camel(name) in seen, `unknown counter ${name}`);
        compare(name, value, seen[camel(name)]);
      }
    },
  };

  #lease(name: string | number): bigint {
    return typeof name === "number" ? BigInt(name) : this.#leases.get(name)!;
  }

  #route(a: Json, call: (capability: string, options: RouteOptions) => Decision, acquires: boolean): void {
    only(a, [...ESTIMATE, "capability", "expect", ...(acquires ? ["as"] : [])]);
    const expect: Json = a["expect"] ?? {};
    only(expect, [...ROW, "error", "candidates"]);
    const { error, status, value } = attempt(() => call(a["capability"], { ...pick(a, ESTIMATE), explain: true }));
    const decision = error instanceof NoProviderAvailableError ? error.decision : value;
    assert.equal(status, expect["error"] ?? "GRATE_OK");
    if (decision === undefined) return;
    if (error === undefined) {
      assert.equal(decision.heldBy, null);
      assert.equal(decision.retryAfterNs, 0);
    }
    assert.equal(decision.lease !== 0n, acquires && error === undefined, "only acquire hands out a lease");
    const candidates = decision.candidates!;
    for (const row of [decision, ...candidates]) {
      for (const value of [row.score, row.quotaScore, row.healthScore, row.priorityScore, row.latencyScore]) {
        assert.ok(value >= 0 && value <= 1, `out of range: ${JSON.stringify(row)}`);
      }
      this.trace.push(bits(row));
    }
    compareRow(expect, decision);
    if ("candidates" in expect) {
      const wanted: Json[] = expect["candidates"].map((c: Json | string) => (typeof c === "string" ? { provider: c } : c));
      assert.deepEqual(
        candidates.map((c) => c.provider),
        wanted.map((c) => c["provider"]),
      );
      wanted.forEach((want, i) => {
        only(want, ROW);
        compareRow(want, candidates[i]!);
      });
    }
    if ("as" in a) this.#leases.set(a["as"], decision.lease);
  }
}

/** A row as text in which every bit of its numbers counts. */
function bits(row: Candidate): string {
  const doubles = [
    ...[row.score, row.quotaScore, row.healthScore, row.priorityScore, row.latencyScore, row.secondsToExhaustion],
    ...[row.retryAfterNs ?? -1, row.heldWindowNs, row.index],
  ];
  return [row.provider, row.heldBy, row.heldDimension, ...new BigUint64Array(new Float64Array(doubles).buffer)].join();
}

function report(a: Json): Report {
  const given = pick(a, RESPONSE);
  // Without both, the binding takes a success; C does not.
  return "outcome" in given || "httpStatus" in given ? given : { ...given, httpStatus: 0 };
}

function compareRow(expect: Json, row: Candidate): void {
  const within = expect["within"] ?? 1e-9;
  const values: Record<string, number> = {
    score: row.score,
    seconds_to_exhaustion: row.secondsToExhaustion,
    quota: row.quotaScore,
    health: row.healthScore,
    priority: row.priorityScore,
    latency: row.latencyScore,
  };
  if ("provider" in expect) assert.equal(row.provider || null, expect["provider"]);
  if ("held_by" in expect) assert.equal(row.heldBy ?? "nothing", expect["held_by"]);
  if ("held_dimension" in expect) assert.equal(row.heldDimension, expect["held_dimension"]);
  if ("held_window_ns" in expect) compare("held_window_ns", expect["held_window_ns"], row.heldWindowNs);
  if ("retry_after_ns" in expect) compare("retry_after_ns", expect["retry_after_ns"], row.retryAfterNs);
  for (const [what, got] of Object.entries(values)) if (what in expect) compare(what, expect[what], got, within);
  if ("weights" in expect) {
    assert.deepEqual(Object.keys(expect["weights"]).sort(), [...COMPONENTS].sort());
    const total = COMPONENTS.reduce((sum, what) => sum + expect["weights"][what] * values[what]!, 0);
    compare("the score against the weighted components", total, row.score, within);
  }
}

/** `within` is for doubles; integers are equal or they are not. `null` is never. */
function compare(what: string, expected: any, got: number | null, within = 0): void {
  let fits;
  if (expected === "never") {
    fits = got === null || got === Infinity;
  } else if (got === null) {
    fits = false;
  } else if (typeof expected === "object") {
    only(expected, ["min", "max"]);
    fits = got >= (expected.min ?? -Infinity) && got <= (expected.max ?? Infinity);
  } else {
    fits = Math.abs(got - expected) <= within;
  }
  assert.ok(fits, `${what}: expected ${JSON.stringify(expected)}, got ${got}`);
}

/** A misspelt key would be a check that is never made. */
function only(a: Json, known: readonly string[]): void {
  assert.deepEqual(
    Object.keys(a).filter((key) => !known.includes(key)),
    [],
    "unknown keys",
  );
}

function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function pick(a: Json, keys: readonly string[]): Json {
  return Object.fromEntries(keys.filter((key) => key in a).map((key) => [camel(key), a[key]]));
}

function attempt<T>(call: () => T): { status: string; value?: T; error?: GrateError } {
  try {
    return { status: "GRATE_OK", value: call() };
  } catch (error) {
    if (!(error instanceof GrateError)) throw error;
    return { status: error.code, error };
  }
}

function settled(a: Json, call: () => void): void {
  const expect: Json = a["expect"] ?? {};
  only(expect, ["error"]);
  assert.equal(attempt(call).status, expect["error"] ?? "GRATE_OK");
}

function checked(a: Json, isDouble: boolean, call: () => number | null): void {
  const { status, value } = attempt(call);
  assert.equal(status, a["error"] ?? "GRATE_OK");
  if (value !== undefined) compare("value", a["value"], value, isDouble ? (a["within"] ?? 1e-9) : 0);
}

let replayed = 0;
for (const file of readdirSync(inRepository("conformance")).sort()) {
  if (!file.endsWith(".json")) continue;
  for (const scenario of JSON.parse(readFileSync(inRepository(`conformance/${file}`), "utf8")) as Json[]) {
    test(`${file}: ${scenario["name"]}`, () => {
      assert.deepEqual(new Replay(scenario).trace, new Replay(scenario).trace, "a second replay gave other decisions");
      replayed++;
    });
  }
}
after(() => console.log(`conformance: ${replayed} scenarios`));
