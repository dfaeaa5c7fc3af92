/**
 * The arguments of one call, made once per thread: a thread of JavaScript is in one call at a time, and whatever code of
 * the caller a call may run (getters, iterators) runs before its first argument is written here.
 */

import { OK, errorOf, invalidArgument } from "./errors";
import * as layout from "./layout";
import type { Layout } from "./layout";
import { type Address, addressOf } from "./native";
import type { Amount } from "./types";

/** Of a provider. */
export const MAX_QUOTAS = 32;
/** Of one response. */
export const MAX_HEADER_QUOTAS = 16;
export const MAX_EXCLUDED = 64;
/** Bytes of a name with its NUL. */
export const NAME_SIZE = 129;
/** Bytes of a path with its NUL; what is longer no system opens. */
export const PATH_SIZE = 4097;

const U32_MAX = 2 ** 32 - 1;
const TWO_32 = 2 ** 32;
const PER_TWO_32 = 1 / TWO_32; // exact, and faster than a division

let end = 0;
function room(bytes: number): number {
  const start = end;
  end = Math.ceil((end + bytes) / 8) * 8;
  return start;
}

// Where each argument is, in bytes from the start.
export const ERROR = room(layout.ErrorInfo.size);
export const DECISION = room(layout.Decision.size);
export const REQUEST = room(layout.Request.size);
export const RESPONSE = room(layout.Response.size);
export const ENGINE_CONFIG = room(layout.EngineConfig.size);
export const STATE_PATH = room(PATH_SIZE);
export const METRICS = room(layout.Metrics.size);
export const PROVIDER_STATE = room(layout.ProviderState.size);
export const QUOTA_STATES = room(MAX_QUOTAS * layout.QuotaState.size);
export const HEADER_REPORT = room(layout.HeaderReport.size);
export const HEADER_QUOTAS = room(MAX_HEADER_QUOTAS * layout.HeaderQuota.size);
export const EXCLUDED = room(MAX_EXCLUDED * 8);
export const EXCLUDED_NAMES = room(MAX_EXCLUDED * NAME_SIZE);
/** A single result of up to 8 bytes. */
export const OUT = room(8);

const memory = new ArrayBuffer(end);
const u8 = Buffer.from(memory);
const i32 = new Int32Array(memory);
const u32 = new Uint32Array(memory);
const u64 = new BigUint64Array(memory);
const f64 = new Float64Array(memory);
export { f64, i32, u32, u64, u8 }; // apart, or each use here would be one of a property of the module

const BASE = addressOf(memory);

/** The address of an argument. */
export function at(offset: number): Address {
  return BASE + offset;
}

export const ERROR_ADDRESS = at(ERROR);
export const OUT_ADDRESS = at(OUT);

for (const [offset, { size }] of [
  [ERROR, layout.ErrorInfo],
  [DECISION, layout.Decision],
  [REQUEST, layout.Request],
  [RESPONSE, layout.Response],
  [ENGINE_CONFIG, layout.EngineConfig],
  [METRICS, layout.Metrics],
  [PROVIDER_STATE, layout.ProviderState],
  [QUOTA_STATES, layout.QuotaState],
  [HEADER_REPORT, layout.HeaderReport],
  [HEADER_QUOTAS, layout.HeaderQuota],
] as [number, Layout<string>][]) {
  u32[offset >> 2] = size;
}
putNumber(PROVIDER_STATE + layout.ProviderState.at.quotas, at(QUOTA_STATES));
putNumber(PROVIDER_STATE + layout.ProviderState.at.quotas_capacity, MAX_QUOTAS);
putNumber(HEADER_REPORT + layout.HeaderReport.at.quotas, at(HEADER_QUOTAS));
putNumber(HEADER_REPORT + layout.HeaderReport.at.quotas_capacity, MAX_HEADER_QUOTAS);

/** Throws if the call that just got `ERROR_ADDRESS` has failed. */
export function check(status: number): void {
  if (status !== OK) throw failure(status);
}

/** The error of the call that just got `ERROR_ADDRESS`. */
export function failure(status: number): Error {
  const start = ERROR + layout.ErrorInfo.at.message;
  return errorOf(status, u8.toString("utf8", start, u8.indexOf(0, start)));
}

/** Writes an unsigned 64-bit integer, without making a bigint of it. */
export function putNumber(offset: number, value: number): void {
  u32[offset >> 2] = value; // typed arrays keep the lower 32 bits
  u32[(offset >> 2) + 1] = value * PER_TWO_32;
}

/** Writes the path of a state file. Its address. */
export function putPath(path: string): Address {
  const bytes = Buffer.from(path);
  if (bytes.includes(0)) throw invalidArgument("statePath contains a NUL character");
  if (bytes.length >= PATH_SIZE) throw invalidArgument(`statePath is longer than ${PATH_SIZE - 1} bytes`);
  u8.set(bytes, STATE_PATH);
  u8[STATE_PATH + bytes.length] = 0;
  return at(STATE_PATH);
}

/** Writes a 0 of 64 bits. */
export function putZero(offset: number): void {
  f64[offset >> 3] = 0;
}

/** Reads one; beyond 2^53 it is rounded. */
export function getNumber(offset: number): number {
  return u32[offset >> 2]! + u32[(offset >> 2) + 1]! * TWO_32;
}

/** The same, but null for 2^64 - 1, which is GRATE_NEVER, GRATE_ABSENT, or "no such quota". */
export function getNumberOrNull(offset: number): number | null {
  const low = u32[offset >> 2]!;
  const high = u32[(offset >> 2) + 1]!;
  return low === U32_MAX && high === U32_MAX ? null : low + high * TWO_32;
}

/** GRATE_ZERO */
function putTrueZero(offset: number): void {
  u32[offset >> 2] = U32_MAX;
  u32[(offset >> 2) + 1] = U32_MAX;
}

// What is rare in these is apart: only short functions become part of their callers.

/** Writes an amount: undefined is 0, "not given", there, and 0 is GRATE_ZERO. */
export function putAmount(offset: number, value: Amount | undefined, what: string): void {
  if (value === undefined) f64[offset >> 3] = 0;
  else putGiven(offset, value, what);
}

/** Writes an amount that is given. */
export function putGiven(offset: number, value: Amount, what: string): void {
  if (Number.isSafeInteger(value) && (value as number) > 0) putNumber(offset, value as number);
  else putUnusual(offset, value, what);
}

function putUnusual(offset: number, value: Amount, what: string): void {
  if (value === 0 || value === 0n) {
    putTrueZero(offset);
  } else if (typeof value === "bigint" && value > 0n && value < 2n ** 64n - 1n) {
    u64[offset >> 3] = value;
  } else {
    throw invalidArgument(`${what} is ${String(value)}, and must be a non-negative integer (a bigint beyond 2^53)`);
  }
}

/** Writes milliseconds as nanoseconds, as `putAmount` does. */
export function putMilliseconds(offset: number, ms: number | undefined, what: string): void {
  if (ms === undefined) f64[offset >> 3] = 0;
  else putGivenMilliseconds(offset, ms, what);
}

function putGivenMilliseconds(offset: number, ms: number, what: string): void {
  const ns = typeof ms === "number" ? Math.round(ms * 1e6) : NaN;
  if (!(ns >= 0 && ns < 2 ** 64)) throw invalidArgument(`${what} is ${String(ms)}, and must be a non-negative number`);
  if (ns === 0) putTrueZero(offset);
  else putNumber(offset, ns);
}

/** Checks an argument that is an unsigned 64-bit integer: koffi would cut it silently. */
export function u64Argument(value: Amount, what: string): Amount {
  const fits = typeof value === "bigint" ? BigInt.asUintN(64, value) === value : Number.isSafeInteger(value) && value >= 0;
  if (!fits) throw invalidArgument(`${what} is ${String(value)}, and must be a non-negative integer (a bigint beyond 2^53)`);
  return value;
}
