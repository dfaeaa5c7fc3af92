/** Runs all tests, one file after the other, once for each form of the hot calls, and prints how many have passed. */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL(".", import.meta.url));
const files = readdirSync(folder)
  .filter((name) => /\.test\.[cm]js$/.test(name))
  .map((name) => join(folder, name));

const counts = { passed: 0, failed: 0, skipped: 0 };
for (const [form, without] of [
  ["with the part in C", "0"],
  ["without it", "1"],
] as const) {
  console.log(`== ${form}`);
  process.env["GRATE_NO_ADDON"] = without;
  const results = run({ files, concurrency: 1 });
  results.on("test:pass", ({ skip, todo }) => counts[skip !== undefined || todo !== undefined ? "skipped" : "passed"]++);
  results.on("test:fail", () => counts.failed++);
  await finished(results.pipe(new spec()).on("data", (text) => process.stdout.write(text)));
}
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
