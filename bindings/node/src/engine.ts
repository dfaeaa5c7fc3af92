/** The engine. */

import * as calls from "./calls";
import { type MockClock, clockAddress } from "./clock";
import { Decision, putLeaseOf, readCandidates } from "./decision";
import {
  ClosedError,
  ERR_BUFFER_TOO_SMALL,
  ERR_INVALID_JSON,
  ERR_NO_PROVIDER_AVAILABLE,
  InvalidJsonError,
  NoProviderAvailableError,
  OK,
  invalidArgument,
} from "./errors";
import * as layout from "./layout";
import * as memory from "./memory";
import { encodeName, isUnicode } from "./names";
import { type Address, NULL, library, readText } from "./native";
import { putReport } from "./report";
import * as request from "./request";
import { readMetrics, readProviderState } from "./state";
import {
  DIMENSIONS,
  type CapabilityConfig,
  type Config,
  type Dimension,
  type Metrics,
  type ProviderConfig,
  type ProviderState,
  type Report,
  type RouteOptions,
} from "./types";

// Constants of this module are faster than those of another.
const { DECISION, ENGINE_CONFIG, ERROR_ADDRESS, METRICS, OUT, OUT_ADDRESS, PROVIDER_STATE } = memory;
const { at, check, f64, i32, getNumber, putGiven, putNumber } = memory;
const { acquire, complete, putLeaseNumber, select } = calls;

const RESPONSE_ADDRESS = at(memory.RESPONSE);
const PROVIDER = DECISION + layout.Decision.at.provider;
// Of the request.
const TOKENS = memory.REQUEST + layout.Request.at.tokens;
const INPUT_TOKENS = memory.REQUEST + layout.Request.at.input_tokens;
const OUTPUT_TOKENS = memory.REQUEST + layout.Request.at.output_tokens;
const BYTES = memory.REQUEST + layout.Request.at.bytes;
const COST = memory.REQUEST + layout.Request.at.cost_micro_usd;
const CANDIDATES_LEN = DECISION + layout.Decision.at.candidates_len;

const EMPTY = {};

const STATE_REPLACE_UNUSABLE = 1;

declare const brand: unique symbol;

/** An engine on its way to another thread: `share` gives it, `postMessage` carries it, and `new Engine` takes it. */
export type SharedEngine = SharedArrayBuffer & { readonly [brand]: "engine" };

// What every thread that has the engine sees of it. The library is told by the address of a text of it: a thread that has
// loaded another copy must not touch the engine.
const LIBRARY = 0;
const ADDRESS = 1;
const OWNERS = 2;
const WORDS = 3;
const THIS_LIBRARY = BigInt(library.grate_version_string());

/** Ends this thread's part in an engine; the last one frees it. */
function release(words: BigInt64Array): void {
  if (Atomics.sub(words, OWNERS, 1n) === 1n) library.grate_engine_free(Number(words[ADDRESS]));
}

const abandoned = new FinalizationRegistry<BigInt64Array>(release);

/** How an engine is made. */
export interface EngineOptions {
  /** For tests and simulations; by default the system's time. */
  clock?: MockClock | undefined;
  /**
   * A file in which the state lives, shared by all processes of this host that give the same path, and kept over restarts. Made
   * if it is not there. Without it, the state is this engine's own.
   */
  statePath?: string | undefined;
  /** Its size in bytes if it is made; by default 16 MiB. */
  stateSize?: number | undefined;
  /** Whether a file that cannot be used is replaced by a new one; otherwise that throws `StateFileError`. */
  replaceUnusableState?: boolean | undefined;
}

/**
 * Providers, capabilities, quotas, health and leases.
 *
 * No call blocks or does I/O, so none is asynchronous. An `Engine` object belongs to its thread; `share` lends the engine
 * behind it to others. After `close` every method throws `ClosedError`. All methods throw `InvalidNameError` for a name
 * that cannot be one, and `InvalidArgumentError` for a value out of its range; nothing has changed then.
 */
export class Engine {
  #address: Address = NULL;
  readonly #words: BigInt64Array;
  // Names by address: they stay where they are as long as the engine.
  readonly #names = new Map<Address, string>([[NULL, ""]]);
  // The latest one: most often it is the next one, too.
  #providerAddress: Address = NULL;
  #provider = "";

  /** `config` is applied as by `configure`, and fails as there. Throws `StateFileError` if the state file cannot be used. */
  constructor(config?: Config | string | Uint8Array, options?: EngineOptions);
  /**
   * Joins an engine of another thread of this process. Each thread closes its own `Engine`; the last one frees it. Throws
   * `ClosedError` if all are closed already.
   */
  constructor(shared: SharedEngine);
  constructor(config?: Config | string | Uint8Array | SharedEngine, options: EngineOptions = EMPTY) {
    const shared = config instanceof SharedArrayBuffer;
    this.#words = shared ? join(config) : make(options);
    this.#address = Number(this.#words[ADDRESS]);
    abandoned.register(this, this.#words, this);
    if (shared || config === undefined) return;
    try {
      this.configure(config);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** What makes an `Engine` of this one in a worker thread: hand it over with `postMessage` or `workerData`. */
  share(): SharedEngine {
    this.#handle();
    return this.#words.buffer as SharedEngine;
  }

  /** Frees the engine, unless other threads have it still. Leases need not be settled before. May be called again. */
  close(): void {
    if (this.#address === NULL) return;
    this.#address = NULL;
    abandoned.unregister(this);
    release(this.#words);
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#address === NULL;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Applies a configuration, whole or not at all: an object, or a JSON document as text or UTF-8. It registers or changes
   * what it names and leaves the rest, or, with `replace: true`, removes what it does not name. Usage, health and leases
   * are kept. Throws `InvalidJsonError`, `InvalidConfigError`, `UnknownProviderError`, `CapacityError`.
   */
  configure(config: Config | string | Uint8Array): void {
    // A copy, which no other thread can change; and not empty, because then its address may be NULL.
    const document = Buffer.from(config instanceof Uint8Array ? config : toJson(config));
    const json = document.length === 0 ? Buffer.from(" ") : document;
    check(library.grate_engine_configure_json(this.#handle(), json, json.length, ERROR_ADDRESS));
  }

  /** Registers a provider, or changes it. As `configure` with this one. */
  upsertProvider(provider: ProviderConfig): void {
    this.configure({ providers: [provider] });
  }

  /** Registers a capability, or replaces its list of providers. As `configure` with this one. */
  upsertCapability(capability: CapabilityConfig): void {
    this.configure({ capabilities: [capability] });
  }

  /** Removes a provider, also from every capability. Its leases can still be settled. Throws `UnknownProviderError`. */
  removeProvider(name: string): void {
    check(library.grate_engine_remove_provider(this.#handle(), encodeName(name), ERROR_ADDRESS));
  }

  /** Removes a capability; its providers and leases stay. Throws `UnknownCapabilityError`. */
  removeCapability(name: string): void {
    check(library.grate_engine_remove_capability(this.#handle(), encodeName(name), ERROR_ADDRESS));
  }

  /**
   * Chooses a provider and changes nothing: a look, not a promise. Throws `NoProviderAvailableError` and
   * `UnknownCapabilityError`.
   */
  select(capability: string, options: RouteOptions = EMPTY): Decision {
    return this.#route(select, capability, options);
  }

  /**
   * Chooses a provider and reserves one request, the estimated usage and a concurrency slot, all or nothing. Settle the
   * decision with `complete` or `cancel`; if neither is called, its lease expires (after 10 minutes by default). Throws
   * `NoProviderAvailableError`, `UnknownCapabilityError` and `CapacityError`.
   */
  acquire(capability: string, options: RouteOptions = EMPTY): Decision {
    return this.#route(acquire, capability, options);
  }

  /**
   * Settles the lease of a request that was sent, given by its decision or its number: frees its slot, corrects the
   * estimate to the actual usage, and learns from the outcome. Throws `StaleLeaseError` if it was settled before or has
   * expired.
   */
  complete(lease: Decision | bigint, report: Report = EMPTY): void {
    putReport(report);
    this.#putLease(lease); // after all code of the caller's, which may settle others
    check(complete(this.#handle()));
  }

  /** Gives the lease of a request back that was not sent, with all it reserved. Throws `StaleLeaseError`. */
  cancel(lease: Decision | bigint): void {
    this.#putLease(lease);
    check(library.grate_engine_cancel(this.#handle(), calls.getLease(), ERROR_ADDRESS));
  }

  /** Reports a request that was sent without a lease. Throws `UnknownProviderError`. */
  observe(provider: string, report: Report = EMPTY): void {
    putReport(report);
    const name = encodeName(provider); // after all code of the caller's, which may drop it
    check(library.grate_engine_observe(this.#handle(), name, RESPONSE_ADDRESS, ERROR_ADDRESS));
  }

  /** The provider's health now, in [0, 1]. Throws `UnknownProviderError`. */
  providerHealth(provider: string): number {
    check(library.grate_engine_provider_health(this.#handle(), encodeName(provider), OUT_ADDRESS, ERROR_ADDRESS));
    return f64[OUT >> 3]!;
  }

  /** Whether the provider is cooling down now. Throws `UnknownProviderError`. */
  providerInCooldown(provider: string): boolean {
    check(library.grate_engine_provider_in_cooldown(this.#handle(), encodeName(provider), OUT_ADDRESS, ERROR_ADDRESS));
    return i32[OUT >> 2] === 1;
  }

  /**
   * How many units may be reserved now: the least over the provider's quotas of that dimension, null if it has none.
   * Throws `UnknownProviderError`.
   */
  remainingQuota(provider: string, dimension: Dimension): number | null {
    const code = DIMENSIONS.indexOf(dimension, 1);
    if (code < 0) {
      throw invalidArgument(`unknown dimension '${dimension}', expected one of ${DIMENSIONS.slice(1).join(", ")}`);
    }
    const name = encodeName(provider);
    check(library.grate_engine_remaining_quota(this.#handle(), name, code, OUT_ADDRESS, ERROR_ADDRESS));
    return memory.getNumberOrNull(OUT);
  }

  /** All that is known of a provider and of its quotas. Throws `UnknownProviderError`. */
  providerState(provider: string): ProviderState {
    const name = encodeName(provider);
    check(library.grate_engine_provider_state(this.#handle(), name, at(PROVIDER_STATE), ERROR_ADDRESS));
    return readProviderState((address) => this.#nameAt(address));
  }

  /** The engine's counters. */
  metrics(): Metrics {
    check(library.grate_engine_metrics(this.#handle(), at(METRICS), ERROR_ADDRESS));
    return readMetrics();
  }

  /** All metrics in the Prometheus text format, engine-wide and per provider. */
  prometheus(): string {
    for (let capacity = 8192; ; capacity = getNumber(OUT) + 1) {
      const buffer = Buffer.allocUnsafe(capacity);
      const status = library.grate_engine_prometheus(
        this.#handle(),
        buffer,
        capacity,
        OUT_ADDRESS,
        ERROR_ADDRESS,
      );
      // Another thread may have added a provider since: then it is asked again.
      if (status === ERR_BUFFER_TOO_SMALL) continue;
      check(status);
      return buffer.toString("utf8", 0, getNumber(OUT));
    }
  }

  #handle(): Address {
    return this.#address || closed();
  }

  #nameAt(address: Address): string {
    let name = this.#names.get(address);
    if (name === undefined) {
      name = readText(address);
      this.#names.set(address, name);
    }
    return name;
  }

  #putLease(lease: Decision | bigint): void {
    if (!(lease instanceof Decision)) putLeaseNumber(leaseNumber(lease));
    else if (lease.engine === this || this.#shares(lease.engine)) putLeaseOf(lease);
  }

  /** Lease numbers of two engines look alike: here the mistake can still be seen. */
  #shares(other: Engine): true {
    if (other.#words.buffer !== this.#words.buffer) throw invalidArgument("this decision was made by another engine");
    return true;
  }

  /**
   * Makes the call that decides. Long on purpose: V8 compiles a function of more than 460 bytes of bytecode by itself. A
   * shorter one becomes part of its callers, but only as many of its pieces as they have room for, which is slower.
   */
  #route(call: calls.Route, capability: string, options: RouteOptions): Decision {
    const { tokens, inputTokens, outputTokens, bytes, costMicroUsd, headroom, exclude, explain } = options;
    const isPlain = headroom === undefined && exclude === undefined && explain === undefined && !request.demanding;
    const room = isPlain ? undefined : request.putDemands(headroom, exclude, explain);
    const name = encodeName(capability);
    const doubles = f64;
    doubles[TOKENS >> 3] = 0;
    doubles[INPUT_TOKENS >> 3] = 0;
    doubles[OUTPUT_TOKENS >> 3] = 0;
    doubles[BYTES >> 3] = 0;
    doubles[COST >> 3] = 0;
    if (tokens !== undefined) putGiven(TOKENS, tokens, "tokens");
    if (inputTokens !== undefined) putGiven(INPUT_TOKENS, inputTokens, "inputTokens");
    if (outputTokens !== undefined) putGiven(OUTPUT_TOKENS, outputTokens, "outputTokens");
    if (bytes !== undefined) putGiven(BYTES, bytes, "bytes");
    if (costMicroUsd !== undefined) putGiven(COST, costMicroUsd, "costMicroUsd");
    const status = call(this.#handle(), name);
    if (status !== OK || room !== undefined) return this.#unusual(status, room);
    const address = getNumber(PROVIDER);
    if (address !== this.#providerAddress) {
      this.#provider = this.#nameAt(address);
      this.#providerAddress = address;
    }
    return new Decision(this, this.#provider, true);
  }

  #unusual(status: number, room: request.Room | undefined): Decision {
    if (status !== OK && status !== ERR_NO_PROVIDER_AVAILABLE) throw memory.failure(status);
    const candidates =
      room && readCandidates(room.rows, getNumber(CANDIDATES_LEN), (address) => this.#nameAt(address));
    const decision = new Decision(this, this.#nameAt(getNumber(PROVIDER)), status === OK, candidates);
    if (status !== OK) throw new NoProviderAvailableError(decision);
    return decision;
  }
}

function closed(): never {
  throw new ClosedError("engine");
}

function leaseNumber(lease: bigint): bigint {
  if (typeof lease !== "bigint") throw invalidArgument("a lease is a Decision or its number, a bigint");
  return memory.u64Argument(lease, "the lease") as bigint;
}

function make({ clock, statePath, stateSize, replaceUnusableState }: EngineOptions): BigInt64Array {
  const fields = layout.EngineConfig.at;
  putNumber(ENGINE_CONFIG + fields.clock, clock === undefined ? NULL : clockAddress(clock));
  putNumber(ENGINE_CONFIG + fields.state_path, statePath === undefined ? NULL : memory.putPath(statePath));
  memory.putAmount(ENGINE_CONFIG + fields.state_size, stateSize, "stateSize");
  putNumber(ENGINE_CONFIG + fields.state_flags, replaceUnusableState === true ? STATE_REPLACE_UNUSABLE : 0);
  check(library.grate_engine_new(at(ENGINE_CONFIG), OUT_ADDRESS, ERROR_ADDRESS));
  const words = new BigInt64Array(new SharedArrayBuffer(WORDS * 8));
  words.set([THIS_LIBRARY, BigInt(getNumber(OUT)), 1n]);
  return words;
}

/** Becomes one of the owners of an engine, unless there are none any more. */
function join(shared: SharedArrayBuffer): BigInt64Array {
  const words = shared.byteLength === WORDS * 8 ? new BigInt64Array(shared) : undefined;
  if (words?.[LIBRARY] !== THIS_LIBRARY) {
    throw invalidArgument("this is not an engine of this process and of the library that this thread has loaded");
  }
  for (;;) {
    const owners = Atomics.load(words, OWNERS);
    if (owners === 0n) throw new ClosedError("engine");
    if (Atomics.compareExchange(words, OWNERS, owners, owners + 1n) === owners) return words;
  }
}

function toJson(config: Config | string): string {
  if (typeof config === "string") {
    if (isUnicode(config)) return config;
    throw new InvalidJsonError("the configuration is not valid Unicode", ERR_INVALID_JSON);
  }
  // A Map, an ArrayBuffer or a promise would be an empty configuration.
  const kind = Object.prototype.toString.call(config).slice(8, -1);
  if (kind !== "Object" && kind !== "Module") {
    throw invalidArgument(`a configuration is a plain object, JSON text or a Uint8Array of it, not of the kind ${kind}`);
  }
  return JSON.stringify(config, (key, value: unknown) => {
    // JSON has none of these: a bigint would be an error that tells nothing, NaN and Infinity a default.
    if (typeof value === "bigint" || (typeof value === "number" && !Number.isFinite(value))) {
      throw invalidArgument(`${key} is ${String(value)}, and must be a finite number (beyond 2^53, give JSON text)`);
    }
    return value;
  });
}
