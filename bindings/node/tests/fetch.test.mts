/** `createFetch` against servers of this process: every way in which a request can end, and that its lease is settled. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  Engine,
  type FetchOptions,
  NoProviderAvailableError,
  type QuotaConfig,
  type RoutedFetch,
  createFetch,
} from "libgrate";
import { collectUntil, configOf, quota } from "./support.mjs";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

let cleanup: (() => void)[] = [];
let engine: Engine;

beforeEach(() => {
  const all = [quota(100), quota(10_000, { dimension: "tokens" }), quota(10, { dimension: "concurrency" })];
  all.forEach((q) => q.dimension === "concurrency" && delete q.window);
  engine = new Engine(configOf({ a: all, b: all }));
});
afterEach(() => {
  cleanup.forEach((end) => end());
  cleanup = [];
});

async function serve(handler: Handler): Promise<string> {
  const server = createServer(handler).listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanup.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A port at which nobody listens. */
async function deadUrl(): Promise<string> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return `http://127.0.0.1:${port}`;
}

async function fetchOver(a: Handler | string, b: Handler | string, more: Partial<FetchOptions> = {}): Promise<RoutedFetch> {
  const url = (of: Handler | string): Promise<string> | string => (typeof of === "string" ? of : serve(of));
  return createFetch(engine, { capability: "api", providers: { a: await url(a), b: await url(b) }, ...more });
}

const ok: Handler = (request, response) => void response.end(`ok ${request.url}`);
const refuse =
  (status: number, headers: Record<string, string> = {}): Handler =>
  (_, response) =>
    void response.writeHead(status, headers).end("refused");

function settled(): void {
  assert.equal(engine.metrics().leasesInFlight, 0);
}

test("a request goes to the provider that was chosen, and its response tells which", async () => {
  const grateFetch = await fetchOver(ok, refuse(500));
  const response = await grateFetch("/v1/answer?x=1");
  assert.equal(response.provider, "a");
  assert.equal(response.status, 200);
  assert.match(response.url, /\/v1\/answer\?x=1$/);
  assert.equal(engine.metrics().leasesInFlight, 1, "a lease lasts as long as its body");
  assert.equal(await response.text(), "ok /v1/answer?x=1");
  settled();
  assert.equal(engine.providerState("a").completions, 1);
  assert.equal(engine.providerState("a").health, 1);
});

test("paths, URLs and Requests", async () => {
  const server = await serve((request, response) => {
    request.pipe(response);
    response.setHeader("x-seen", `${request.method} ${request.url} ${request.headers["x-test"]}`);
  });
  const grateFetch = createFetch(engine, { capability: "api", providers: { a: `${server}/base/`, b: server } });
  const post = { method: "POST", body: "hello", headers: { "x-test": "1" } };
  for (const input of ["v1", "/v1", "https://elsewhere.example/v1", new URL("https://elsewhere.example/v1")]) {
    const response = await grateFetch(input, post);
    assert.equal(response.headers.get("x-seen"), "POST /base/v1 1");
    assert.equal(await response.text(), "hello");
  }
  const versioned = createFetch(engine, { capability: "api", providers: { a: `${server}/base?api-version=3#x`, b: server } });
  for (const [path, url] of [
    ["/v1/", "/base/v1/?api-version=3"],
    ["v1?q=?&r#y?z", "/base/v1?api-version=3&q=?&r"],
    ["https://elsewhere.example?q", "/base/?api-version=3&q"],
  ] as const) {
    const response = await versioned(path);
    assert.equal(response.headers.get("x-seen"), `GET ${url} undefined`);
    await response.text();
  }
  const response = await grateFetch(new Request("https://elsewhere.example/v1?q", post), { headers: { "x-test": "2" } });
  assert.equal(response.headers.get("x-seen"), "POST /base/v1?q 2");
  assert.equal(await response.text(), "hello");
  settled();
});

test("what is given of a request is what fetch would take", async () => {
  const seen: Handler = (request, response) => void request.pipe(response.writeHead(200, { "x-method": request.method }));
  const grateFetch = await fetchOver(seen, seen);
  const post = new Request("http://x/", { method: "POST", body: "hello" });
  for (const given of [
    [post.clone(), { method: undefined, headers: undefined, body: undefined }],
    ["/", post.clone()],
    [post.clone(), null],
  ] as [string | Request, RequestInit?][]) {
    const response = await grateFetch(...given);
    assert.deepEqual([response.headers.get("x-method"), await response.text()], ["POST", "hello"]);
  }
  const signal = AbortSignal.abort(new Error("enough"));
  await assert.rejects(grateFetch(new Request("http://x/", { signal }), { signal: undefined } as unknown as RequestInit), /enough/);
  await assert.rejects(grateFetch(new Request("http://x/", { integrity: "sha256-AAAA" })), TypeError);
  settled();
});

for (const status of [429, 503, 529]) {
  test(`a refusal with ${status} goes elsewhere`, async () => {
    const grateFetch = await fetchOver(refuse(status, { "retry-after": "20" }), ok);
    const response = await grateFetch("/", { method: "POST", body: JSON.stringify({ again: true }) });
    assert.equal(response.provider, "b");
    assert.equal(await response.text(), "ok /");
    assert.ok(engine.providerInCooldown("a"), "the headers were reported");
    settled();
  });
}

test("when everybody refuses, the last refusal is the response", async () => {
  const grateFetch = await fetchOver(refuse(429), refuse(529));
  const response = await grateFetch("/");
  assert.equal(response.status, 529);
  assert.equal(response.provider, "b");
  assert.equal(await response.text(), "refused");
  assert.equal(engine.metrics().rateLimitedResponses, 1);
  settled();
});

test("a provider that was refused is tried again if there are attempts left", async () => {
  let requests = 0;
  const grateFetch = await fetchOver(
    (request, response) => (requests++ === 0 ? refuse(503) : ok)(request, response),
    refuse(503),
    { maxAttempts: 3 },
  );
  assert.equal((await grateFetch("/")).status, 200);
});

test("without that it is asked once, and one that is excluded never", async () => {
  const asked: string[] = [];
  const busy = (name: string): Handler => (request, response) => (asked.push(name), refuse(503)(request, response));
  const more = { estimate: { exclude: ["b"] } };
  assert.equal((await (await fetchOver(busy("a"), busy("b"), more))("/")).provider, "a");
  assert.deepEqual(asked, ["a"]);
  assert.equal((await (await fetchOver(busy("a"), busy("b"), { ...more, maxAttempts: 2 }))("/")).provider, "a");
  assert.deepEqual(asked, ["a", "a", "a"]);
});

test("an exclusion in each form", async () => {
  const providers = { one: await serve(ok), two: await serve(refuse(529)) };
  const full = ["one", ...Array.from({ length: 63 }, (_, i) => `${i}`)];
  for (const exclude of ["one", new Set(["one"]), full]) {
    const options = { capability: "api", providers, estimate: { exclude: exclude as string[] } };
    const grateFetch = createFetch(new Engine(configOf({ one: [], two: [] })), options);
    assert.equal((await grateFetch("/")).provider, "two");
  }
});

test("other failures are the caller's to judge", async () => {
  const grateFetch = await fetchOver(refuse(500), ok);
  const response = await grateFetch("/");
  assert.equal(response.status, 500);
  await response.text();
  assert.ok(engine.providerHealth("a") < 1);
  settled();
});

test("a provider that cannot be reached: nothing is counted, its health suffers, another serves", async () => {
  const grateFetch = await fetchOver(await deadUrl(), ok, { estimate: { tokens: 500 } });
  const response = await grateFetch("/");
  assert.equal(response.provider, "b");
  await response.text();
  assert.ok(engine.providerHealth("a") < 1);
  assert.equal(engine.remainingQuota("a", "requests"), 100);
  assert.equal(engine.remainingQuota("a", "tokens"), 10_000);
  assert.equal(engine.remainingQuota("b", "tokens"), 9500);
  settled();
});

test("when nobody can be reached, the error of fetch is thrown", async () => {
  const grateFetch = await fetchOver(await deadUrl(), await deadUrl());
  await assert.rejects(grateFetch("/"), (error: Error) => error instanceof TypeError && /fetch failed/.test(error.message));
  assert.equal(engine.metrics().completions, 2);
  settled();
});

test("a stream is sent once", async () => {
  const stream = () => ({ method: "POST", body: new Blob(["x"]).stream(), duplex: "half" }) as const;
  const refused = await (await fetchOver(refuse(429), ok))("/", stream());
  assert.equal(refused.status, 429);
  await assert.rejects((await fetchOver(await deadUrl(), await deadUrl()))("/", stream()), TypeError);
  settled();
});

test("a connection that breaks after sending is not tried again", async () => {
  const grateFetch = await fetchOver((request) => request.socket.destroy(), ok);
  await assert.rejects(grateFetch("/"), TypeError);
  assert.equal(engine.providerState("b").acquires, 0);
  assert.ok(engine.providerHealth("a") < 1);
  assert.equal(engine.remainingQuota("a", "requests"), 99);
  settled();
});

test("a body that breaks", async () => {
  const grateFetch = await fetchOver((request, response) => {
    response.writeHead(200, { "content-length": 1000 });
    response.write("half");
    setTimeout(() => request.socket.destroy(), 20);
  }, ok);
  const response = await grateFetch("/");
  await assert.rejects(response.text());
  assert.ok(engine.providerHealth("a") < 1);
  settled();
});

test("a timeout counts, and is told as one", async () => {
  const grateFetch = await fetchOver(() => {}, ok);
  await assert.rejects(grateFetch("/", { signal: AbortSignal.timeout(30) }), { name: "TimeoutError" });
  assert.ok(engine.providerHealth("a") < 1);
  assert.equal(engine.remainingQuota("a", "requests"), 99);
  settled();
});

test("a timeout of one attempt, made by prepare", async () => {
  const prepare = (_: string, init: RequestInit) => ({ ...init, signal: AbortSignal.timeout(30) });
  await assert.rejects((await fetchOver(() => {}, ok, { prepare }))("/"), { name: "TimeoutError" });
  assert.ok(engine.providerHealth("a") < 1);
  settled();
});

test("a caller that gives up: the request counts, the provider is not blamed", async () => {
  const grateFetch = await fetchOver(() => {}, ok);
  const reason = new Error("enough");
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), 30);
  await assert.rejects(grateFetch("/", { signal: controller.signal }), reason);
  assert.equal(engine.providerHealth("a"), 1);
  assert.equal(engine.remainingQuota("a", "requests"), 99);
  settled();
  await assert.rejects(grateFetch("/", { signal: controller.signal }), reason);
  assert.equal(engine.metrics().acquires, 1, "aborted before: nothing is asked for");
});

test("a caller that gives up, whatever its reason", async () => {
  const reasons = [new TypeError("mine"), Object.assign(new Error("mine"), { code: "ETIMEDOUT" }), "mine", null];
  for (const [i, reason] of reasons.entries()) {
    const grateFetch = await fetchOver(() => {}, ok);
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 30);
    await grateFetch("/", { signal: controller.signal }).then(() => assert.fail(), (error: unknown) => assert.equal(error, reason));
    assert.equal(engine.providerHealth("a"), 1);
    assert.equal(engine.remainingQuota("a", "requests"), 99 - i, "it was sent");
    settled();
  }
});

test("a body of a request that cannot be read", async () => {
  async function* half(failure: unknown): AsyncGenerator<string> {
    yield "half";
    throw failure;
  }
  const grateFetch = await fetchOver((request) => void request.resume(), ok);
  const failures = ["EIO", "ECONNREFUSED", "ETIMEDOUT"].map((code) => Object.assign(new Error(code), { code, syscall: "connect" }));
  let sent = 0;
  for (const failure of failures) {
    const stream = half(failure);
    const bytes = new ReadableStream<Uint8Array>({
      async pull(controller) {
        controller.enqueue(Buffer.from((await stream.next()).value));
      },
    });
    for (const body of [bytes, half(failure), Readable.from(half(failure))] as NonNullable<RequestInit["body"]>[]) {
      await assert.rejects(grateFetch("/", { method: "POST", body, duplex: "half" }), { cause: failure });
      assert.equal(engine.providerHealth("a"), 1);
      assert.equal(engine.remainingQuota("a", "requests"), 100 - ++sent, "it was sent");
    }
  }
  const cause = new DOMException("no such file", "NotReadableError"); // of a Blob that is a file
  const failing = await fetchOver(ok, ok, { fetch: () => Promise.reject(new TypeError("fetch failed", { cause })) });
  await assert.rejects(failing("/", { method: "POST", body: "a file" }), { cause });
  assert.equal(engine.providerHealth("a"), 1);
  assert.equal(engine.providerState("b").acquires, 0);
  settled();
});

test("a body of a request that is ended by who sends it", async () => {
  const reset = Object.assign(new Error("reset"), { code: "ECONNRESET" });
  const breaking = await fetchOver(ok, ok, {
    fetch: async (_, init) => {
      const body = init?.body as unknown as Readable;
      await once(body, "readable");
      await new Promise((closed) => body.destroy(reset).on("close", closed).on("error", () => {}));
      throw new TypeError("fetch failed", { cause: reset });
    },
  });
  await assert.rejects(breaking("/", { method: "POST", body: Readable.from(["o", "n", "e"]) as never }), { cause: reset });
  assert.ok(engine.providerHealth("a") < 1);
  settled();
});

test("a body of a request is sent as it comes", async () => {
  const grateFetch = await fetchOver((request, response) => void request.pipe(response), await deadUrl());
  async function* parts(): AsyncGenerator<string> {
    yield* ["one ", "two"];
  }
  const posted = (body: unknown) => grateFetch("/", { method: "POST", body, duplex: "half" } as RequestInit);
  for (const body of [new Blob(["one two"]).stream(), parts(), Readable.from(parts())]) {
    assert.equal(await (await posted(body)).text(), "one two");
  }
  const used = new Blob(["x"]).stream();
  await used.cancel();
  const locked = new Blob(["x"]).stream();
  locked.getReader();
  for (const body of [used, locked]) await assert.rejects(posted(body), TypeError);
  assert.equal(engine.metrics().cancellations, 2);
  settled();
});

test("a caller that gives up while the body comes", async () => {
  const controller = new AbortController();
  const grateFetch = await fetchOver((_, response) => void response.writeHead(200).write("half"), ok);
  const response = await grateFetch("/", { signal: controller.signal });
  setTimeout(() => controller.abort(), 30);
  await assert.rejects(response.text(), { name: "AbortError" });
  assert.equal(engine.providerHealth("a"), 1);
  settled();
});

test("a body that ends while nobody reads it", async () => {
  const controller = new AbortController();
  const half: Handler = (request, response) => {
    response.writeHead(200).write("half");
    if (request.url === "/broken") setTimeout(() => response.destroy(), 30);
  };
  const grateFetch = await fetchOver(half, half);
  const given = await grateFetch("/", { signal: controller.signal });
  controller.abort();
  await sleep(0);
  assert.equal(engine.providerHealth("a"), 1);
  settled();
  const broken = await grateFetch("/broken");
  await sleep(100);
  assert.ok(engine.providerHealth("a") < 1);
  settled();
  await assert.rejects(given.text(), { name: "AbortError" });
  await assert.rejects(broken.text(), TypeError);
});

test("a body that is cancelled", async () => {
  const grateFetch = await fetchOver((_, response) => void response.writeHead(200).write("endless"), ok);
  const response = await grateFetch("/");
  await response.body?.cancel();
  settled();
});

test("a body that is dropped unread", async () => {
  let closed = false;
  const grateFetch = await fetchOver((request, response) => {
    request.socket.on("close", () => (closed = true));
    response.writeHead(200).write("endless");
  }, ok);
  await (async () => void (await grateFetch("/")))();
  assert.ok(await collectUntil(() => engine.metrics().leasesInFlight === 0 && closed), "its lease and its connection");
  assert.equal(engine.metrics().completions, 1);
});

test("responses without a body", async () => {
  const grateFetch = await fetchOver(refuse(204), ok);
  assert.equal((await grateFetch("/")).provider, "a");
  assert.equal((await grateFetch("/", { method: "HEAD" })).status, 204);
  settled();
});

test("answers of a fetch that is not the global one", async () => {
  const read = new Response("ok");
  await read.text();
  const foreign = (status: number) => ({ status, ok: true, headers: new Map(), body: Readable.from(["x"]) });
  const plain = { status: 200, headers: null, body: null };
  const answers = [read, foreign(200), foreign(429), plain, Response.error()] as Response[];
  for (const answer of answers) {
    const options = { capability: "api", providers: { a: "http://a", b: "http://b" }, fetch: async () => answer };
    assert.equal((await createFetch(engine, options)("/")).status, answer.status);
    settled();
  }
  assert.equal(engine.metrics().completions, answers.length + 1, "one went to both");
  const strange = { status: 200, body: new Response("x").body, statusText: "\n" } as Response;
  await assert.rejects((await fetchOver(ok, ok, { fetch: async () => strange }))("/"), TypeError);
  settled();
});

test("redirects", async () => {
  const target = await serve(ok);
  const redirect = await serve((request, response) => {
    const location = request.url === "/loop" ? "/loop" : `${target}/there`;
    response.writeHead(302, { location }).end();
  });
  const grateFetch = await fetchOver(redirect, redirect);
  const followed = await grateFetch("/away");
  assert.ok(followed.redirected);
  assert.equal(await followed.text(), "ok /there");
  const manual = await grateFetch("/away", { redirect: "manual" });
  assert.equal(manual.status, 302);
  await manual.text();
  await assert.rejects(grateFetch("/loop"), TypeError);
  await assert.rejects(grateFetch("/away", { redirect: "error" }), TypeError);
  settled();
});

test("redirects lead where those of fetch do", async () => {
  const seen: Handler = (request, response) => {
    const { authorization, cookie, "content-type": type, "x-test": test } = request.headers;
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => response.end(JSON.stringify({ method: request.method, authorization, cookie, type, test, body })));
  };
  const elsewhere = await serve(seen);
  const redirect = await serve((request, response) => {
    const [, status = "", where] = request.url?.split("/") ?? [];
    if (status === "seen") return seen(request, response);
    request.resume();
    return response.writeHead(Number(status), { location: where === "here" ? "/seen" : elsewhere }).end();
  });
  const grateFetch = await fetchOver(redirect, redirect);
  const headers = { authorization: "key", cookie: "a=1", "content-type": "text/x", "content-language": "en", "x-test": "1" };
  for (const method of ["GET", "HEAD", "POST", "PUT"]) {
    for (const path of ["301/here", "302/there", "303/here", "303/there", "307/here", "308/there"]) {
      const init = { method, headers, ...(method.startsWith("P") ? { body: "hello" } : {}) };
      const [ours, theirs] = [await grateFetch(path, init), await fetch(`${redirect}/${path}`, init)];
      assert.equal(ours.url, theirs.url);
      assert.ok(ours.redirected);
      assert.equal(await ours.text(), await theirs.text(), `${method} ${path}`);
    }
  }
  const stream = () => ({ method: "POST", body: new Blob(["x"]).stream(), duplex: "half" }) as const;
  assert.match(await (await grateFetch("303/here", stream())).text(), /"GET"/);
  await assert.rejects(grateFetch("307/here", stream()), TypeError);
  settled();
});

for (const location of ["http://", "data:text/plain,x", "http://user:password@127.0.0.1/"]) {
  test(`a redirect to ${location}`, async () => {
    const grateFetch = await fetchOver(refuse(302, { location }), ok);
    await assert.rejects(grateFetch("/"), TypeError);
    assert.equal(engine.remainingQuota("a", "requests"), 99);
    settled();
  });
}

for (const [status, method, target, end] of [
  [303, "POST", "refuses", 503],
  [302, "POST", "is gone", TypeError],
  [303, "GET", "is gone", "elsewhere"],
  [307, "POST", "refuses", "elsewhere"],
] as const) {
  test(`${method}, a redirect with ${status}, whose target ${target}: ${String(end)}`, async () => {
    const location = target === "refuses" ? await serve(refuse(503)) : await deadUrl();
    const grateFetch = await fetchOver(refuse(status, { location }), ok);
    const answer = grateFetch("/", { method });
    if (end === TypeError) await assert.rejects(answer, end);
    else if (end === "elsewhere") assert.equal((await answer).provider, "b");
    else assert.equal((await answer).status, end);
    assert.equal(engine.providerState("b").acquires, end === "elsewhere" ? 1 : 0);
    assert.equal(engine.remainingQuota("a", "requests"), 99, "the redirect was a request");
    assert.ok(engine.providerHealth("a") < 1);
  });
}

test("a fetch that follows redirects by itself", async () => {
  const grateFetch = await fetchOver(refuse(303, { location: await serve(refuse(429)) }), ok, {
    fetch: (url, init) => fetch(url, { ...init, redirect: "follow" }),
  });
  assert.equal((await grateFetch("/", { method: "POST" })).status, 429);
  settled();
});

test("connections that are not made", async () => {
  const timeouts = ["ETIMEDOUT", "ENETUNREACH"].map((code) => Object.assign(new Error(), { code, syscall: "connect" }));
  const causes = [
    timeouts[0],
    Object.assign(new AggregateError(timeouts), { code: "ETIMEDOUT" }), // a host with several addresses
    Object.assign(new Error(), { code: "UNABLE_TO_GET_ISSUER_CERT_LOCALLY" }),
    Object.assign(new Error(), { code: "CERT_NOT_YET_VALID" }),
  ];
  for (const cause of causes) {
    let requests = 0;
    const grateFetch = await fetchOver(ok, ok, {
      fetch: async (url, init) => {
        if (requests++ === 0) throw new TypeError("fetch failed", { cause });
        return fetch(url, init);
      },
    });
    assert.equal(await (await grateFetch("/", { method: "POST", body: "x" })).text(), "ok /");
  }
  assert.equal(engine.remainingQuota("a", "requests")! + engine.remainingQuota("b", "requests")!, 200 - causes.length);
  settled();
});

test("a network that goes away after sending", async () => {
  const cause = Object.assign(new Error(), { code: "EHOSTUNREACH", syscall: "read" });
  const grateFetch = await fetchOver(ok, ok, { fetch: () => Promise.reject(new TypeError("fetch failed", { cause })) });
  await assert.rejects(grateFetch("/"), { cause });
  assert.equal(engine.metrics().completions, 1);
  settled();
});

test("the usage is asked of the caller", async () => {
  const seen: string[] = [];
  const grateFetch = await fetchOver(
    (_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.write('{"usage": ');
      setTimeout(() => response.end('{"total": 1234}}'), 5);
    },
    ok,
    {
      estimate: (path, init) => ({ tokens: path.length + String(init.body).length }),
      usage: async (response, provider) => {
        seen.push(`${provider} ${response.headers.get("content-type")}`);
        const { usage } = (await response.json()) as { usage: { total: number } };
        return { tokens: usage.total };
      },
    },
  );
  const pending = await grateFetch("/123", { method: "POST", body: "456" });
  assert.equal(engine.remainingQuota("a", "tokens"), 10_000 - 7);
  assert.deepEqual(await pending.json(), { usage: { total: 1234 } });
  assert.equal(engine.remainingQuota("a", "tokens"), 10_000 - 1234);
  assert.deepEqual(seen, ["a application/json"]);
  settled();
});

test("a usage that fails is a warning", async () => {
  const warnings: Error[] = [];
  const listen = (warning: Error): void => void warnings.push(warning);
  process.on("warning", listen);
  cleanup.push(() => void process.off("warning", listen));
  const thrown = new Error("no usage in it");
  const grateFetch = await fetchOver(ok, ok, {
    usage: (response) => {
      if (response.url === "") throw thrown;
      return {};
    },
  });
  assert.equal(await (await grateFetch("/")).text(), "ok /");
  assert.equal(await (await (await fetchOver(ok, ok, { usage: () => ({ tokens: -1 }) }))("/")).text(), "ok /");
  await sleep(10);
  assert.equal(warnings[0], thrown);
  assert.equal(warnings[1]?.name, "InvalidArgumentError");
  settled();
});

test("requests are prepared for their provider", async () => {
  const echo: Handler = (request, response) => void response.end(request.headers.authorization);
  const grateFetch = await fetchOver(refuse(429), echo, {
    prepare: async (provider, init) => ({ ...init, headers: { authorization: `key of ${provider}` } }),
  });
  assert.equal(await (await grateFetch("/")).text(), "key of b");
  const prepare = (): never => {
    throw new Error("no key");
  };
  await assert.rejects((await fetchOver(ok, ok, { prepare }))("/"), /no key/);
  assert.equal(engine.metrics().cancellations, 1);
  settled();
});

test("arguments that fetch does not take", async () => {
  const grateFetch = await fetchOver(ok, ok);
  await assert.rejects(grateFetch("/", { method: "GET", body: "x" }), TypeError);
  await assert.rejects(grateFetch("/", { headers: { "bad name": "x" } }), TypeError);
  await assert.rejects(grateFetch("/", { headers: { "x-user": "line\nbreak" } }), TypeError);
  await assert.rejects(grateFetch("/", { method: "NO METHOD" }), TypeError);
  await assert.rejects(grateFetch("/", { headers: { "transfer-encoding": "chunked" } }), TypeError);
  await assert.rejects(grateFetch("/", { headers: { expect: "100-continue" } }), TypeError);
  assert.equal(engine.metrics().cancellations, 6);
  assert.equal(engine.providerHealth("a"), 1);
  assert.equal(engine.remainingQuota("a", "requests"), 100);
  settled();
  assert.throws(() => createFetch(engine, { capability: "api", providers: { a: "not a URL" } }), TypeError);
  for (const wrong of [NaN, -1, "5" as unknown as number]) {
    const invalid = { name: "InvalidArgumentError", message: /^max\w+ is (NaN|-1|5), and must be/ };
    assert.throws(() => createFetch(engine, { capability: "api", providers: {}, maxWaitMs: wrong }), invalid);
    assert.throws(() => createFetch(engine, { capability: "api", providers: {}, maxAttempts: wrong }), invalid);
  }
  const partial = createFetch(engine, { capability: "api", providers: { b: "http://127.0.0.1:1" } });
  await assert.rejects(partial("/"), /for which createFetch has no URL/);
  settled();
});

test("nothing available: an error at once, or a wait", async () => {
  const url = await serve(ok);
  engine = new Engine(configOf({ a: [quota(1, { window_ms: 300, window: undefined as never })] }));
  const options = { capability: "api", providers: { a: url } };
  await (await createFetch(engine, options)("/")).text();
  await assert.rejects(createFetch(engine, options)("/"), NoProviderAvailableError);
  await assert.rejects(createFetch(engine, { ...options, maxWaitMs: 50 })("/"), NoProviderAvailableError);
  const patient = createFetch(engine, { ...options, maxWaitMs: 2000 });
  assert.equal((await patient("/")).status, 200);
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error("enough")), 20);
  await assert.rejects(patient("/", { signal: controller.signal }), /enough/);
  await assert.rejects(createFetch(engine, { ...options, estimate: { exclude: ["a"] } })("/"), { heldBy: "exclusion" });
});

test("a concurrency slot frees earlier than is guessed", async () => {
  const slots: QuotaConfig = { dimension: "concurrency", limit: 1 };
  engine = new Engine(configOf({ a: [slots] }));
  const url = await serve((request, response) => void setTimeout(() => ok(request, response), 60));
  const options = { capability: "api", providers: { a: url } };
  const patient = createFetch(engine, { ...options, maxWaitMs: 5000 });
  const first = patient("/").then((response) => response.text());
  await assert.rejects(createFetch(engine, options)("/"), { heldBy: "concurrency" });
  await assert.rejects(createFetch(engine, { ...options, maxWaitMs: 20 })("/"), { heldBy: "concurrency" });
  assert.equal((await patient("/")).status, 200);
  assert.equal(await first, "ok /");
});

test("a lease that ends gives quota back before it was expected, or frees another provider", async () => {
  const url = await serve(ok);
  const hourly = { dimension: "requests", limit: 1, window: "hour" } as const;
  for (const providers of [{ a: [hourly] }, { a: [hourly], b: [{ dimension: "concurrency", limit: 1 }] }] as const) {
    engine = new Engine(configOf(providers as unknown as Record<string, QuotaConfig[]>));
    const leases = Object.keys(providers).map(() => engine.acquire("api"));
    const options = { capability: "api", providers: { a: url, b: url } };
    await assert.rejects(createFetch(engine, { ...options, maxWaitMs: 200 })("/"), NoProviderAvailableError);
    setTimeout(() => leases.at(-1)!.cancel(), 20);
    const response = await createFetch(engine, { ...options, maxWaitMs: 7_200_000 })("/", { signal: AbortSignal.timeout(5000) });
    assert.equal(response.provider, leases.at(-1)!.provider);
    await response.text();
  }
});

test("the engine sees the headers as they came", async () => {
  const headers = { "x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "5" };
  const grateFetch = await fetchOver(refuse(200, headers), ok);
  const response = await grateFetch("/");
  response.headers.delete("x-ratelimit-remaining-requests");
  await response.text();
  assert.equal(engine.remainingQuota("a", "requests"), 5);
});

test("more providers than can be excluded", async () => {
  const dead = await deadUrl();
  const names = Array.from({ length: 70 }, (_, i) => `p${i}`);
  engine = new Engine(configOf(Object.fromEntries(names.map((name) => [name, [quota(10)]]))));
  const providers = Object.fromEntries(names.map((name) => [name, dead]));
  await assert.rejects(createFetch(engine, { capability: "api", providers })("/"), TypeError);
  assert.equal(engine.metrics().completions, 70);
  settled();
});

test("an engine that is closed meanwhile does not spoil the answer", async () => {
  const grateFetch = await fetchOver(ok, ok);
  const response = await grateFetch("/");
  engine.close();
  assert.equal(await response.text(), "ok /");
  await assert.rejects(grateFetch("/"), { name: "ClosedError" });
});
