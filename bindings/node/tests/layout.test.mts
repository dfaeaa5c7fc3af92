/** Structs and constants against the header, by a C compiler. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import * as errors from "../dist/errors.js";
import * as layout from "../dist/layout.js";
import type { Layout } from "../dist/layout.js";
import * as memory from "../dist/memory.js";
import { HEADER_VERSION } from "../dist/native.js";
import * as types from "../dist/types.js";
import { inRepository } from "./support.mjs";

const STRUCTS: Record<string, Layout<string>> = {
  grate_error: layout.ErrorInfo,
  grate_engine_config: layout.EngineConfig,
  grate_request: layout.Request,
  grate_candidate: layout.Candidate,
  grate_decision: layout.Decision,
  grate_header: layout.Header,
  grate_response: layout.Response,
  grate_header_quota: layout.HeaderQuota,
  grate_header_report: layout.HeaderReport,
  grate_metrics: layout.Metrics,
  grate_quota_state: layout.QuotaState,
  grate_provider_state: layout.ProviderState,
};

const CONSTANTS = new Map<string, number>([["GRATE_VERSION", HEADER_VERSION]]);
for (const [kind, names] of Object.entries({
  DIMENSION: types.DIMENSIONS,
  STRATEGY: types.STRATEGIES,
  OUTCOME: types.OUTCOMES,
  HELD_BY: ["nothing", ...types.HELD_BY.slice(1)],
  CIRCUIT: types.CIRCUITS,
  LIMIT: types.LIMIT_SOURCES,
})) {
  names.forEach((name, i) => name !== null && CONSTANTS.set(`GRATE_${kind}_${name.toUpperCase()}`, i));
}
for (const [name, value] of Object.entries(errors)) {
  if (typeof value === "number") CONSTANTS.set(`GRATE_${name}`, value);
}

const folder = mkdtempSync(join(tmpdir(), "grate-layout-"));
after(() => rmSync(folder, { recursive: true }));

/** What the compiler says of each expression. */
function ask(expressions: string[]): Map<string, number> {
  const lines = expressions.map((e) => `    printf("${e}=%llu\\n", (unsigned long long)(${e}));`);
  const source = join(folder, "layout.c");
  const program = join(folder, "layout");
  writeFileSync(
    source,
    `#include <stddef.h>\n#include <stdio.h>\n#include <grate.h>\nint main(void)\n{\n${lines.join("\n")}\n    return 0;\n}\n`,
  );
  const prefix = process.env["GRATE_PREFIX"];
  const include = prefix ? join(prefix, "include") : inRepository("include");
  execFileSync(process.env["CC"] ?? "cc", ["-std=c99", `-I${include}`, source, "-o", program]);
  const lineOf = (line: string): [string, number] => {
    const [name = "", value] = line.split("=");
    return [name, Number(value)];
  };
  return new Map(execFileSync(program, { encoding: "utf8" }).trim().split("\n").map(lineOf));
}

test("structs are laid out as in grate.h", () => {
  const expected = new Map<string, number>();
  for (const [name, { size, at }] of Object.entries(STRUCTS)) {
    expected.set(`sizeof(${name})`, size);
    for (const [field, offset] of Object.entries(at)) expected.set(`offsetof(${name}, ${field})`, offset);
  }
  assert.deepEqual(ask([...expected.keys()]), expected);
});

test("the amounts of a usage follow each other", () => {
  for (const { at } of [layout.Request, layout.Response]) {
    const offsets = [at.tokens, at.input_tokens, at.output_tokens, at.bytes, at.cost_micro_usd];
    assert.deepEqual(offsets, [0, 8, 16, 24, 32].map((offset) => at.tokens + offset));
  }
});

test("constants are those of grate.h", () => {
  assert.ok(CONSTANTS.size > 35);
  assert.deepEqual(ask([...CONSTANTS.keys()]), CONSTANTS);
});

test("the arguments of a call do not overlap", () => {
  const parts = [
    [memory.ERROR, layout.ErrorInfo.size],
    [memory.DECISION, layout.Decision.size],
    [memory.REQUEST, layout.Request.size],
    [memory.RESPONSE, layout.Response.size],
    [memory.QUOTA_STATES, memory.MAX_QUOTAS * layout.QuotaState.size],
    [memory.HEADER_QUOTAS, memory.MAX_HEADER_QUOTAS * layout.HeaderQuota.size],
    [memory.EXCLUDED_NAMES, memory.MAX_EXCLUDED * memory.NAME_SIZE],
    [memory.OUT, 8],
  ].sort(([a = 0], [b = 0]) => a - b) as [number, number][];
  let end = 0;
  for (const [start, size] of parts) {
    assert.ok(start >= end && start % 8 === 0);
    end = start + size;
  }
});
