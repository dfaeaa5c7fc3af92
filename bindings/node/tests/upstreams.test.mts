/** `createFetch` against real metered servers, which `scripts/with-upstreams.sh` has started. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Engine, NoProviderAvailableError, type QuotaConfig, createFetch } from "libgrate";

const urls = process.env["GRATE_UPSTREAMS"]?.split(" ") ?? [];
const NAMES = ["gold", "silver", "bronze"] as const;

/** What nginx allows: a rate per second, and a burst. */
const LIMITS = { gold: [20, 10], silver: [12, 6], bronze: [6, 3] } as const;

interface Outcome {
  /** How many requests ended with each status; 0: because no provider was available in time. */
  statuses: Map<number, number>;
  attempts: number;
  refusals: number;
}

type QuotasOf = (name: (typeof NAMES)[number]) => QuotaConfig[];

/** So many requests a second for so long, each once it is due, whatever became of those before it. */
async function load(quotasOf: QuotasOf, perSecond: number, seconds: number): Promise<Outcome> {
  assert.equal(urls.length, 3, "run this with scripts/with-upstreams.sh");
  const engine = new Engine({
    providers: NAMES.map((name, i) => ({ name, priority: 10 - i, quotas: quotasOf(name) })),
    capabilities: [{ name: "answer", providers: NAMES.map((provider) => ({ provider })) }],
  });
  const providers = Object.fromEntries(NAMES.map((name, i) => [name, urls[i]!]));
  const grateFetch = createFetch(engine, { capability: "answer", providers, maxAttempts: 10, maxWaitMs: 5000 });
  const statuses = new Map<number, number>();
  const request = async (): Promise<void> => {
    let status = 0;
    try {
      const response = await grateFetch("/v1/answer");
      status = response.status;
      const body = await response.text();
      if (response.ok) assert.equal(body, `{"upstream":"${response.provider}"}\n`);
    } catch (error) {
      if (!(error instanceof NoProviderAvailableError)) throw error;
    }
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
  };
  const start = performance.now();
  const pending: Promise<void>[] = [];
  for (let i = 0; i < perSecond * seconds; i++) {
    await sleep(Math.max(0, start + (i * 1000) / perSecond - performance.now()));
    pending.push(request());
  }
  await Promise.all(pending);
  const { leasesInFlight, completions, rateLimitedResponses } = engine.metrics();
  assert.equal(leasesInFlight, 0);
  engine.close();
  return { statuses, attempts: completions, refusals: rateLimitedResponses };
}

test("with quotas: everything is served, and nearly nothing is refused", async () => {
  const quotasOf: QuotasOf = (name) => {
    const [limit, burst] = LIMITS[name];
    return [{ dimension: "requests", limit, window: "second", strategy: "token_bucket", burst: burst + 1 }];
  };
  const { statuses, attempts, refusals } = await load(quotasOf, 30, 6);
  console.log(`with quotas: ${attempts} attempts, ${refusals} of them refused`);
  assert.deepEqual([...statuses], [[200, 180]]);
  assert.ok(refusals < attempts / 100, `${refusals} refusals`);
});

test("without quotas: refusals are told, others take over", async () => {
  const { statuses, attempts, refusals } = await load(() => [], 30, 3);
  console.log(`without quotas: ${attempts} attempts, ${refusals} of them refused`);
  assert.ok(refusals > 0);
  // What is learned of a limit is held for a minute, so not everything can be served.
  const served = statuses.get(200) ?? 0;
  assert.ok(served > 10, `${served} served`);
  assert.equal(attempts, served + refusals);
  const ends = [...statuses.keys()].filter((status) => ![0, 200, 429].includes(status));
  assert.deepEqual(ends, []);
});
