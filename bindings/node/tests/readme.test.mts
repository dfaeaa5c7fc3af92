/** The examples of the README run as they stand. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { inRepository } from "./support.mjs";

test("the examples of the README", async (t) => {
  const server = createServer((request, response) => {
    response.end(JSON.stringify({ usage: { total_tokens: 1043 }, key: request.headers.authorization }));
  }).listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const blocks = readFileSync(inRepository("bindings/node/README.md"), "utf8").matchAll(/^```js\n(.*?)^```/gms);
  const examples = [...blocks].map(([, code = ""]) => code.replace(/https:\/\/api\.\w+\.example/g, url));
  assert.equal(examples.length, 2);
  const module = `
    const keys = { primary: "one", backup: "two" };
    const headers = { "x-ratelimit-limit-requests": "60" };
    const sendItTo = async (provider) => ({ status: 200, tokens: 1043, headers });
    ${examples.join("\n")}
    export { engine, response };
  `;
  const file = new URL("readme-example.mjs", import.meta.url);
  writeFileSync(file, module);
  const lines: unknown[][] = [];
  t.mock.method(console, "log", (...line: unknown[]) => void lines.push(line));
  const { engine, response } = await import(file.href);
  assert.equal(response.provider, "primary");
  assert.deepEqual(lines, [["primary", { usage: { total_tokens: 1043 }, key: "Bearer one" }]]);
  assert.equal(engine.metrics().completions, 2);
  assert.equal(engine.metrics().leasesInFlight, 0);
  assert.equal(engine.remainingQuota("primary", "tokens"), 90_000 - 2 * 1043);
});
