/** `fetch` over several providers: the engine decides where each request goes, and is told what became of it. */

import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Decision } from "./decision";
import type { Engine } from "./engine";
import { ClosedError, NoProviderAvailableError, StaleLeaseError, invalidArgument } from "./errors";
import { MAX_EXCLUDED } from "./memory";
import { listOf } from "./names";
import { type Hop, isReplayable, nextHop } from "./redirect";
import type { Outcome, Report, RouteOptions, Usage } from "./types";

/** How `createFetch` routes. */
export interface FetchOptions {
  /** What the engine is asked for. */
  capability: string;
  /** The base URL of each provider, by its name. Path and query of a request are appended to its own. */
  providers: Readonly<Record<string, string | URL>>;
  /** What a request will use, or a function that tells it for each: of its path and `init`. */
  estimate?: RouteOptions | ((path: string, init: RequestInit) => RouteOptions) | undefined;
  /** Makes a request one of this provider: its API key, the name of its model. Gets the caller's `init`. */
  prepare?: ((provider: string, init: RequestInit) => RequestInit | Promise<RequestInit>) | undefined;
  /**
   * What an answer has used. Called once a successful answer has been read to its end, with a copy whose body can be read
   * again. What it throws becomes a process warning, and the usage is as estimated.
   */
  usage?: ((response: Response, provider: string) => Usage | Promise<Usage>) | undefined;
  /**
   * How often a request may be sent, all providers together. If it is given, those that refused are asked again once there
   * is no other; by default a request is sent once to each.
   */
  maxAttempts?: number | undefined;
  /**
   * How many milliseconds a request may wait, all in all, while no provider is available. By default 0. It looks again every
   * 50 ms: when the leases of others end nobody knows.
   */
  maxWaitMs?: number | undefined;
  /** What sends. By default the global `fetch`. Has to heed `redirect: "manual"`, as redirects are not left to it. */
  fetch?: typeof globalThis.fetch | undefined;
}

/** Like the global `fetch`, but for the response. */
export type RoutedFetch = (input: string | URL | Request, init?: RequestInit) => Promise<RoutedResponse>;

/** A response that tells who gave it. */
export type RoutedResponse = Response & {
  /** The name of the provider. */
  readonly provider: string;
};

/** Refusals after which another provider may serve the request: it was not processed. */
const REFUSED: readonly number[] = [429, 503, 529];

/** Failures to connect: nothing was sent. */
const NOT_SENT = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "UND_ERR_CONNECT_TIMEOUT",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "CERT_REJECTED",
  "CERT_REVOKED",
  "CERT_SIGNATURE_FAILURE",
  "CERT_UNTRUSTED",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "ERR_TLS_CERT_ALTNAME_INVALID",
  "INVALID_CA",
  "INVALID_PURPOSE",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);

/** What fails so had a connection, over which the request may have been sent before the network was gone. */
const CONNECTED: readonly (string | undefined)[] = ["read", "write"];

const TIMED_OUT = new Set(["ETIMEDOUT", "UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT"]);

/** What undici refuses by itself, though `fetch` has let it pass, before there is a connection. */
const MALFORMED = new Set(["UND_ERR_INVALID_ARG", "UND_ERR_NOT_SUPPORTED"]);

/** What holds until a lease ends: when that will be is an estimate. */
const GUESSED: readonly unknown[] = ["concurrency", "probe"];

/**
 * In milliseconds. However long the wait, it looks again then: leases end when they end, on the provider that frees first or
 * on another, and give back what they did not use.
 */
const LONGEST_NAP = 50;

/** Nothing reached the provider: nothing is counted, but its health suffers. */
const UNREACHABLE: Report = {
  outcome: "server_error",
  requests: 0,
  tokens: 0,
  inputTokens: 0,
  outputTokens: 0,
  bytes: 0,
  costMicroUsd: 0,
};

/**
 * A `fetch` that sends each request to the provider that the engine chooses, and to another one if the first could not be
 * reached or refused it (429, 503, 529), as long as the body can be sent again. What comes after a redirect that turned
 * it into a GET is the caller's: the provider has done what it was asked then. Every lease is settled, with status, headers
 * and usage, when the body of the answer has been read, was cancelled, failed, or was garbage-collected unread.
 *
 * It is used like `fetch`, with a path, or with a URL or Request of whose URL only path and query count. It throws
 * `NoProviderAvailableError`, and what `fetch` throws. A refusal after which no other provider is left is returned as a
 * response. `createFetch` throws `InvalidArgumentError` for a number out of its range, and a TypeError for a URL that is none.
 */
export function createFetch(engine: Engine, options: FetchOptions): RoutedFetch {
  const { capability, estimate, prepare, usage, maxWaitMs = 0 } = options;
  const again = options.maxAttempts !== undefined;
  const bases = new Map(Object.entries(options.providers).map(([name, url]) => [name, new URL(url)]));
  const { maxAttempts = Math.max(bases.size, 1) } = options;
  atLeast(1, maxAttempts, "maxAttempts");
  atLeast(0, maxWaitMs, "maxWaitMs");

  return async function routedFetch(input, given) {
    const target = pathOf(input instanceof Request ? input.url : String(input));
    const init = initOf(input instanceof Request ? input : undefined, given);
    const signal = init.signal ?? undefined;
    const estimated = typeof estimate === "function" ? estimate(target, init) : (estimate ?? {});
    const wanted = { ...estimated, exclude: [...listOf(estimated.exclude ?? [])] };
    const deadline = performance.now() + maxWaitMs;
    const tried: string[] = []; // the latest first
    let last: Failure | undefined;
    for (let attempts = 1; ; attempts++) {
      let decision;
      try {
        signal?.throwIfAborted();
        decision = await acquire(engine, capability, wanted, tried, again, deadline, signal);
      } catch (error) {
        // What the last provider said tells more than that there is no other.
        if (last !== undefined && error instanceof NoProviderAvailableError) return last.end();
        last?.discard();
        throw error;
      }
      last?.discard();
      const base = bases.get(decision.provider);
      if (base === undefined) {
        decision.cancel();
        throw invalidArgument(`the engine chose '${decision.provider}', for which createFetch has no URL`);
      }
      tried.unshift(decision.provider);
      const attempt = new Attempt(decision, usage);
      const result = await attempt.send(options.fetch ?? globalThis.fetch, join(base, target), init, prepare);
      if (!(result instanceof Failure)) return result;
      if (attempts >= maxAttempts || !isReplayable(init.body)) return result.end();
      last = result;
    }
  };
}

/** Checks a number, of which NaN would be a limit that is never reached. */
function atLeast(least: number, value: number, what: string): void {
  if (!(typeof value === "number" && value >= least)) {
    throw invalidArgument(`${what} is ${String(value)}, and must be a number of at least ${least}`);
  }
}

/** A base URL to which path and query of a request are appended. */
function join(base: URL, target: string): string {
  const path = target.replace(/\?.*/s, "");
  const query = target.slice(path.length + 1);
  const url = new URL(base);
  url.pathname = base.pathname.replace(/\/+$/, "") + path;
  url.search = [base.search.slice(1), query].filter(Boolean).join("&");
  url.hash = "";
  return url.href;
}

/** Path and query, with a slash in front. */
function pathOf(text: string): string {
  if (!/^[a-z][a-z0-9+.-]*:/i.test(text)) return text.replace(/^\/?/, "/").replace(/#.*/s, "");
  const { pathname, search } = new URL(text);
  return pathname + search;
}

/** What `fetch` reads of a Request, whose properties are not its own. */
const OF_A_REQUEST = ["method", "headers", "body", "signal", "redirect", "integrity", "keepalive", "duplex"];

/** What requests are made of, but for their URLs. What is undefined is not given, as in `fetch`; the last one counts. */
function initOf(...given: (Request | RequestInit | null | undefined)[]): RequestInit {
  const init: Record<string, unknown> = {};
  for (const from of given as readonly (Record<string, unknown> | null | undefined)[]) {
    for (const name of from instanceof Request ? OF_A_REQUEST : Object.keys(from ?? {})) {
      if (from?.[name] !== undefined) init[name] = from[name];
    }
  }
  return init;
}

/** A lease on a provider that was not tried yet; on any, if all were and may be `again`; after a wait, if that is allowed. */
async function acquire(
  engine: Engine,
  capability: string,
  wanted: RouteOptions & { exclude: string[] },
  tried: string[],
  again: boolean,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<Decision> {
  for (;;) {
    try {
      // The caller's all, even if they are too many.
      const exclude = [...wanted.exclude, ...tried].slice(0, Math.max(MAX_EXCLUDED, wanted.exclude.length));
      return engine.acquire(capability, { ...wanted, exclude });
    } catch (error) {
      if (!(error instanceof NoProviderAvailableError)) throw error;
      if (again && error.heldBy === "exclusion" && tried.length > 0) {
        tried.length = 0;
        continue;
      }
      const isGuess = GUESSED.includes(error.heldBy);
      const left = deadline - performance.now();
      if (error.retryAfterMs === null || left <= 0 || (error.retryAfterMs > left && !isGuess)) throw error;
      const nap = Math.min(error.retryAfterMs, left, LONGEST_NAP);
      await sleep(nap, undefined, signal && { signal }).catch(() => signal?.throwIfAborted());
    }
  }
}

/** A request that another provider may serve. */
class Failure {
  /** Ends the request with it: the response, or the error that was thrown. */
  readonly end: () => RoutedResponse;
  /** Lets go of it. */
  readonly discard: () => void;

  constructor(end: () => RoutedResponse, discard: () => void) {
    this.end = end;
    this.discard = discard;
  }
}

/** One request on its way to one provider: sees to it that its lease is settled, once. */
class Attempt {
  readonly #decision: Decision;
  readonly #usage: FetchOptions["usage"];
  readonly #started = performance.now();
  #signal: AbortSignal | undefined;
  #hop: Hop | undefined;
  /** Whether the body of the request could not be read: that looks like a failure of the connection. */
  #torn = false;
  #report: Report = {};
  #settled = false;
  /** Without the time in which nobody has asked for more of the body. */
  #latencyMs = 0;

  constructor(decision: Decision, usage: FetchOptions["usage"]) {
    this.#decision = decision;
    this.#usage = usage;
  }

  get provider(): string {
    return this.#decision.provider;
  }

  /** Sends the request. A response is settled when its body ends; all else is at once. */
  async send(
    fetch: typeof globalThis.fetch,
    url: string,
    init: RequestInit,
    prepare: FetchOptions["prepare"],
  ): Promise<RoutedResponse | Failure> {
    let prepared;
    try {
      prepared = prepare === undefined ? init : await prepare(this.provider, init);
      if (prepared instanceof Request) prepared = initOf(prepared);
      prepared = watchedInit(prepared, () => (this.#torn = true));
      this.#signal = prepared.signal ?? undefined;
      this.#signal?.throwIfAborted();
    } catch (error) {
      this.cancel();
      throw error;
    }
    let response: Response;
    try {
      response = await this.#follow(fetch, { url, init: prepared, redirects: 0, turned: false });
    } catch (error) {
      return this.#failed(error);
    }
    try {
      return this.#answered(response);
    } catch (error) {
      this.settle();
      throw error;
    }
  }

  #answered(response: Response): RoutedResponse | Failure {
    this.#latencyMs = performance.now() - this.#started;
    this.#report = { httpStatus: response.status, headers: response.headers };
    if (REFUSED.includes(response.status)) {
      this.settle();
      const routed = withProvider(response, this.provider);
      if (this.#hop?.turned) return routed;
      return new Failure(
        () => routed,
        () => void discard(response),
      );
    }
    return this.#watched(response);
  }

  /**
   * Sends the request, and what redirects make of it. An error of `fetch` would not tell whether it was the request that
   * failed, or what an answer to it had led to.
   */
  async #follow(fetch: typeof globalThis.fetch, first: Hop): Promise<Response> {
    const { redirect = "follow" } = first.init;
    if (redirect !== "follow") return fetch(first.url, first.init);
    for (let hop = first; ; ) {
      this.#hop = hop;
      const response = await fetch(hop.url, { ...hop.init, redirect: "manual" });
      if (response.redirected) this.#hop = { ...hop, turned: true }; // by itself: what it has sent is not known
      const next = nextHop(hop, response);
      if (next === undefined) {
        return hop === first ? response : Object.defineProperty(response, "redirected", { value: true });
      }
      void discard(response);
      hop = next;
    }
  }

  #failed(error: unknown): Failure {
    const redirected = this.#hop !== undefined && this.#hop.redirects > 0;
    const { name } = Object((error as Error | undefined)?.cause) as Error;
    if (name === "NotReadableError") this.#torn = true; // a Blob that is a file
    if (this.#isCallers || this.#hop?.turned || !isNotSent(error)) {
      if (!this.#isCallers && isMalformed(error) && !redirected) this.cancel();
      else this.settle({ outcome: this.#outcomeOf(error) });
      throw error;
    }
    this.settle(redirected ? { ...UNREACHABLE, requests: 1 } : UNREACHABLE);
    return new Failure(
      () => {
        throw error;
      },
      () => {},
    );
  }

  /** The response, with a body that tells how it ends. */
  #watched(response: Response): RoutedResponse {
    const { status, statusText, headers } = response;
    // What Response does not take cannot be rebuilt around another body; what is no stream, or is read, cannot be watched.
    const isStream = response.body instanceof ReadableStream && !response.body.locked;
    if (!isStream || status < 200 || status > 599) {
      this.settle();
      return withProvider(response, this.provider);
    }
    const copy = this.#usage !== undefined && response.ok ? [] : undefined;
    const reader = response.body.getReader();
    // Also if nobody reads it then.
    reader.closed.catch((error: unknown) => this.settle({ outcome: this.#outcomeOf(error), headers: response.headers }));
    const body = watch(this, reader, copy);
    abandoned.register(body, { attempt: this, reader });
    const watched = new Response(body, { status, statusText, headers });
    Object.defineProperties(watched, {
      url: { value: response.url },
      redirected: { value: response.redirected },
    });
    return withProvider(watched, this.provider);
  }

  /** Whether the caller has ended the request: by its signal, or by its body. */
  get #isCallers(): boolean {
    return this.#torn || this.#signal?.aborted === true;
  }

  /** What an error says of the provider. */
  #outcomeOf(error: unknown): Outcome {
    const reason: unknown = this.#signal?.aborted ? this.#signal.reason : error;
    if ((reason as Error | null | undefined)?.name === "TimeoutError") return "timeout";
    if (this.#isCallers) return "cancelled";
    return TIMED_OUT.has(systemErrorOf(error)?.code ?? "") ? "timeout" : "server_error";
  }

  /** Settles the lease of a response that was read to its end. */
  async finish(copy: Uint8Array[] | undefined): Promise<void> {
    if (copy !== undefined) {
      try {
        const { httpStatus: status = 200, headers = {} } = this.#report;
        const response = new Response(Buffer.concat(copy), { status, headers: headers as Headers });
        this.#complete({ ...this.#report, ...(await this.#usage?.(response, this.provider)) });
      } catch (error) {
        process.emitWarning(error instanceof Error ? error : String(error));
      }
    }
    this.settle();
  }

  /** Settles the lease, unless that has happened. */
  settle(report: Report = this.#report): void {
    try {
      this.#complete(report);
    } catch {
      // An answer that cannot be told, such as one with the status 0, counts, and says nothing of the provider.
      this.#complete({ outcome: "cancelled" });
    }
  }

  #complete(report: Report): void {
    this.#end(() => this.#decision.complete({ latencyMs: this.#latencyMs || undefined, ...report }));
  }

  /** Gives the lease back. */
  cancel(): void {
    this.#end(() => this.#decision.cancel());
  }

  /** Reads a chunk of the body. */
  async read(reader: BodyReader): ReturnType<BodyReader["read"]> {
    const asked = performance.now();
    try {
      return await reader.read();
    } finally {
      this.#latencyMs += performance.now() - asked;
    }
  }

  #end(settle: () => void): void {
    if (this.#settled) return;
    try {
      settle();
    } catch (error) {
      // A lease that has expired, or is gone with its engine, needs no settling; its answer is still good.
      if (!(error instanceof StaleLeaseError || error instanceof ClosedError)) throw error;
    }
    this.#settled = true;
  }
}

/** The request, whose body tells if it cannot be read. */
function watchedInit(init: RequestInit, failed: () => void): RequestInit {
  const body = init.body as ReadableStream<Uint8Array> | undefined | null;
  // What fetch refuses stays what it is.
  if (body?.[Symbol.asyncIterator] === undefined || body.locked || Readable.isDisturbed(body as never)) return init;
  const chunks = noting(body, failed);
  if (!(body instanceof ReadableStream)) return { ...init, body: Readable.from(chunks) };
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await chunks.return();
      },
    },
    { highWaterMark: 0 },
  );
  return { ...init, body: stream };
}

async function* noting(chunks: AsyncIterable<Uint8Array>, failed: () => void): AsyncGenerator<Uint8Array, void, void> {
  let reading = true; // else what is thrown is by who sends it
  try {
    for await (const chunk of chunks) {
      reading = false;
      yield chunk;
      reading = true;
    }
  } catch (error) {
    if (reading) failed();
    throw error;
  }
}

type BodyReader = ReadableStreamDefaultReader<Uint8Array>;

/** Bodies that are collected before they end; their connections would wait for a reader for ever. */
const abandoned = new FinalizationRegistry<{ attempt: Attempt; reader: BodyReader }>(({ attempt, reader }) => {
  attempt.settle();
  reader.cancel().catch(() => {});
});

/** Passes a body on, chunk by chunk as it is asked for, and tells the attempt how it ends. */
function watch(attempt: Attempt, reader: BodyReader, copy: Uint8Array[] | undefined): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await attempt.read(reader);
        if (done) {
          await attempt.finish(copy);
          controller.close();
        } else {
          copy?.push(value);
          controller.enqueue(value);
        }
      },
      async cancel(reason) {
        attempt.settle();
        await reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

/** Lets go of a body, which frees its connection. */
async function discard({ body }: Response): Promise<void> {
  try {
    await body?.cancel();
  } catch {
    // It is gone, or none that can be cancelled.
  }
}

function withProvider(response: Response, provider: string): RoutedResponse {
  return Object.defineProperty(response, "provider", { value: provider, enumerable: true, configurable: true }) as RoutedResponse;
}

/** The system error, which fetch hides in the cause of its own, and where it has tried several addresses in a list. */
function systemErrorOf(error: unknown): NodeJS.ErrnoException | undefined {
  for (let at: unknown = error; at instanceof Error; at = at instanceof AggregateError ? at.errors[0] : at.cause) {
    if (!(at instanceof AggregateError) && typeof (at as NodeJS.ErrnoException).code === "string") return at;
  }
  return undefined;
}

/** Whether this is about the arguments of fetch, which has sent nothing then. */
function isMalformed(error: unknown): boolean {
  return (error instanceof TypeError && error.cause === undefined) || MALFORMED.has(systemErrorOf(error)?.code ?? "");
}

function isNotSent(error: unknown): boolean {
  const { code = "", syscall } = systemErrorOf(error) ?? {};
  return syscall === "connect" || (NOT_SENT.has(code) && !CONNECTED.includes(syscall));
}
