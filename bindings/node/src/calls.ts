/**
 * The calls of every request, in two forms. koffi takes most of its time for the arguments of a call. The part in C,
 * `native/fast.c`, finds them in a block of memory instead; it is used if it was compiled and can be loaded.
 */

import * as memory from "./memory";
import { type Address, addressOfFunction, library } from "./native";

const { grate_engine_acquire, grate_engine_complete, grate_engine_select, grate_version } = library;
const { ERROR_ADDRESS } = memory;
const REQUEST = memory.at(memory.REQUEST);
const RESPONSE = memory.at(memory.RESPONSE);
const DECISION = memory.at(memory.DECISION);

// The block is laid out as in fast.c; these are places of 8 bytes.
const ENGINE = 0;
const NAME = 1;
const LEASE = 2;
const STATUS = 3;
const CONSTANTS = 4;
const END = 12;

const block = new ArrayBuffer(8 * END);
const i32 = new Int32Array(block);
const u64 = new BigUint64Array(block);
const f64 = new Float64Array(block);

/** A lease for `complete` or `getLease`, in halves: they take no memory of their own, as a bigint does. */
export function putLease(low: number, high: number): void {
  i32[2 * LEASE] = low;
  i32[2 * LEASE + 1] = high;
}

/** The same, of a number. */
export function putLeaseNumber(lease: bigint): void {
  u64[LEASE] = lease;
}

/** The lease that was put, as a number. */
export function getLease(): bigint {
  return u64[LEASE]!;
}

interface Fast {
  version(): number;
  select(): void;
  acquire(): void;
  complete(): void;
}

function load(): Fast | undefined {
  if (process.env["GRATE_NO_ADDON"] === "1") return undefined;
  try {
    const { bind } = require("../native/fast.node");
    const functions = ["grate_version", "grate_engine_select", "grate_engine_acquire", "grate_engine_complete"] as const;
    u64.set([REQUEST, RESPONSE, DECISION, ERROR_ADDRESS, ...functions.map(addressOfFunction)].map(BigInt), CONSTANTS);
    return bind(block);
  } catch {
    return undefined; // it was not compiled, or on another system
  }
}

const fast = load();

/** Whether the part in C is used. */
export const isFast = fast !== undefined;

/** The least that a call can be. */
export const version: () => number = fast === undefined ? grate_version : fast.version;

export type Route = (engine: Address, name: Address) => number;

function route(call: typeof grate_engine_acquire, fastCall: (() => void) | undefined): Route {
  if (fastCall === undefined) return (engine, name) => call(engine, name, REQUEST, DECISION, ERROR_ADDRESS);
  return (engine, name) => {
    f64[ENGINE] = engine;
    f64[NAME] = name;
    fastCall();
    return i32[2 * STATUS]!;
  };
}

/** Reads `REQUEST`, writes `DECISION`. */
export const select: Route = route(grate_engine_select, fast?.select);

/** Reads `REQUEST`, writes `DECISION`. */
export const acquire: Route = route(grate_engine_acquire, fast?.acquire);

/** Settles the lease that was put, with `RESPONSE`. */
export const complete: (engine: Address) => number =
  fast === undefined
    ? (engine) => grate_engine_complete(engine, u64[LEASE]!, RESPONSE, ERROR_ADDRESS)
    : (engine) => {
        f64[ENGINE] = engine;
        fast.complete();
        return i32[2 * STATUS]!;
      };
