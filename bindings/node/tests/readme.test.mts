/** The examples of the README run as they stand. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { inRepository } from "./support.mjs";

const readme = readFileSync(inRepository("bindings/node/README.md"), "utf8");
const blocks = [...readme.matchAll(/^```js\n(.*?)^```/gms)].map(([, code = ""]) => code);

/** The base URL of a server that answers to every request with its key. */
async function upstream(t: TestContext): Promise<string> {
  const server = createServer((request, response) => {
    const { authorization: key, "x-test": test } = request.headers;
    response.end(JSON.stringify({ usage: { total_tokens: 1043 }, key, test }));
  }).listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test("the examples of the README", async (t) => {
  assert.equal(blocks.length, 3);
  const url = await upstream(t);
  const examples = blocks.slice(0, 2).map((code) => code.replace(/https:\/\/api\.\w+\.example/g, url));
  const module = `
    const keys = { primary: "one", backup: "two" };
    const headers = { "x-ratelimit-limit-requests": "60" };
    const sendItTo = async (provider) => ({ status: 200, tokens: 1043, headers });
    ${examples.join("\n")}
    export { chatFetch, engine, response };
  `;
  const file = new URL("readme-example.mjs", import.meta.url);
  writeFileSync(file, module);
  const lines: unknown[][] = [];
  t.mock.method(console, "log", (...line: unknown[]) => void lines.push(line));
  const { chatFetch, engine, response } = await import(file.href);
  assert.equal(response.provider, "primary");
  assert.deepEqual(lines, [["primary", { usage: { total_tokens: 1043 }, key: "Bearer one" }]]);
  assert.equal(engine.metrics().completions, 2);
  assert.equal(engine.metrics().leasesInFlight, 0);
  assert.equal(engine.remainingQuota("primary", "tokens"), 90_000 - 2 * 1043);
  const headers = new Headers({ "x-test": "1" });
  for (const request of [["/v1/models", { headers }], [new Request(url, { method: "POST", body: "Hello", headers })]]) {
    assert.deepEqual(await (await chatFetch(...request)).json(), { usage: { total_tokens: 1043 }, key: "Bearer one", test: "1" });
  }
});

test("the server of the README", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "grate-readme-"));
  const free = createServer().listen(0, "127.0.0.1");
  await once(free, "listening");
  const { port } = free.address() as AddressInfo;
  await new Promise((closed) => free.close(closed));
  const module = `
    const config = { providers: [{ name: "a" }], capabilities: [{ name: "chat", providers: [{ provider: "a" }] }] };
    const options = { capability: "chat", providers: { a: "${await upstream(t)}" } };
    ${(blocks[2] ?? "").replace("/var/lib/service", folder).replace("8080", `${port}`)}
  `;
  const file = new URL("readme-server.mjs", import.meta.url);
  writeFileSync(file, module);
  // What workers say that are ended while they start is of no interest.
  const server = spawn(process.execPath, [fileURLToPath(file)], { stdio: "ignore" });
  t.after(async () => {
    server.kill();
    await once(server, "exit");
    rmSync(folder, { recursive: true });
  });
  let answer: Response | undefined;
  for (let i = 0; i < 200 && answer === undefined; i++) {
    await sleep(50);
    answer = await fetch(`http://127.0.0.1:${port}`).catch(() => undefined);
  }
  assert.deepEqual(await answer?.json(), { usage: { total_tokens: 1043 } });
  assert.ok(statSync(join(folder, "grate")).size > 0);
});
