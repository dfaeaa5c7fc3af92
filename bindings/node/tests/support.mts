/** What the tests share. */

import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type Config, Engine, MockClock, type QuotaConfig } from "libgrate";

export const NEW_YEAR = 1767225600000; // 2026-01-01T00:00:00Z

/** A file of the repository. */
export function inRepository(path: string): string {
  return fileURLToPath(new URL(`../../../${path}`, import.meta.url));
}

export function quota(limit: number, more: Partial<QuotaConfig> = {}): QuotaConfig {
  return { dimension: "requests", limit, window: "minute", ...more };
}

/** Providers with these quotas, the first with the highest priority, which all serve "api". */
export function configOf(providers: Record<string, QuotaConfig[]>): Config {
  const names = Object.keys(providers);
  return {
    providers: names.map((name, i) => ({ name, priority: 1000 - i, quotas: providers[name] ?? [] })),
    capabilities: [{ name: "api", providers: names.map((provider) => ({ provider })) }],
  };
}

/** On a mock clock: `a` has 2 requests and 1000 tokens a minute, `b` 100 requests. */
export function mockEngine(): { engine: Engine; clock: MockClock } {
  const clock = new MockClock(NEW_YEAR);
  const config = configOf({ a: [quota(2), quota(1000, { dimension: "tokens" })], b: [quota(100)] });
  return { engine: new Engine(config, { clock }), clock };
}

setFlagsFromString("--expose-gc");
/** Collects garbage. */
export const gc = runInNewContext("gc") as () => void;

/** Collects garbage until a condition holds, which finalizers bring about. */
export async function collectUntil(condition: () => boolean, attempts = 100): Promise<boolean> {
  for (let i = 0; i < attempts; i++) {
    gc();
    await sleep(10);
    if (condition()) return true;
  }
  return false;
}
