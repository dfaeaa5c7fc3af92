/** Runs all tests, one file after the other, and prints how many have passed. */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL(".", import.meta.url));
const files = readdirSync(folder)
  .filter((name) => /\.test\.[cm]js$/.test(name))
  .map((name) => join(folder, name));

const counts = { passed: 0, failed: 0, skipped: 0 };
const results = run({ files, concurrency: 1 });
results.on("test:pass", ({ skip, todo }) => counts[skip !== undefined || todo !== undefined ? "skipped" : "passed"]++);
results.on("test:fail", () => counts.failed++);
results.pipe(new spec()).pipe(process.stdout);
results.on("end", () => {
  process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
  process.on("exit", () => console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`));
});
