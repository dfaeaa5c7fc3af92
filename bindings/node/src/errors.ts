/** What can go wrong, one class per status of the library. */

import type { Decision } from "./decision";
import { library, readText } from "./native";
import type { HeldBy } from "./types";

export const OK = 0;
export const ERR_INVALID_NAME = 3;
export const ERR_INVALID_ARGUMENT = 4;
export const ERR_INVALID_JSON = 6;
export const ERR_NO_PROVIDER_AVAILABLE = 9;
export const ERR_BUFFER_TOO_SMALL = 11;
export const ERR_STATE_FILE = 14;

const names = new Map<number, string>();

/** The symbolic name of a status of `grate.h`, such as `"GRATE_ERR_STALE_LEASE"`; `"GRATE_ERR_UNKNOWN"` if it has none. */
export function statusName(status: number): string {
  let name = names.get(status);
  if (name === undefined) {
    name = readText(library.grate_status_name(status));
    names.set(status, name);
  }
  return name;
}

/** Base of all errors. `name` is that of the class. */
export class GrateError extends Error {
  /** Symbolic name of the status, such as `"GRATE_ERR_STALE_LEASE"`. */
  readonly code: string;
  /** Number of the status in `grate.h`; -1 for an error that is not the library's. */
  readonly status: number;

  constructor(message: string, status: number, code: string = statusName(status)) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** A name is empty, longer than 128 bytes, not valid Unicode, or contains control characters. */
export class InvalidNameError extends GrateError {}

/** A value is out of its range. */
export class InvalidArgumentError extends GrateError {}

/** A configuration contradicts itself or the one in force; nothing was applied. */
export class InvalidConfigError extends GrateError {}

/** A configuration is malformed, or has fields that do not exist; nothing was applied. */
export class InvalidJsonError extends InvalidConfigError {}

/** No capability of that name is registered. */
export class UnknownCapabilityError extends GrateError {}

/** No provider of that name is registered. */
export class UnknownProviderError extends GrateError {}

/** The lease was settled already, has expired, or never existed. */
export class StaleLeaseError extends GrateError {}

/** Too many providers, quotas or leases in flight for one engine. */
export class CapacityError extends GrateError {}

/** The state file cannot be used: it is damaged, not one, of another version, or cannot be opened. */
export class StateFileError extends GrateError {}

/** A bug in libgrate or in this package. Please report it. */
export class InternalError extends GrateError {}

/** The engine or clock was used after `close()`. `code` is `"GRATE_CLOSED"`. */
export class ClosedError extends GrateError {
  constructor(what: "engine" | "clock") {
    super(`this ${what} is closed`, -1, "GRATE_CLOSED");
  }
}

/** No provider can take the request now. */
export class NoProviderAvailableError extends GrateError {
  /** All that is known; with `explain`, also of the other providers. */
  readonly decision: Decision;

  constructor(decision: Decision) {
    super(waitOf(decision), ERR_NO_PROVIDER_AVAILABLE);
    this.decision = decision;
  }

  /** The provider that frees first; null if the capability has none. */
  get provider(): string | null {
    return this.decision.provider || null;
  }

  /** Nanoseconds until then; null if waiting does not help, as for a request larger than the limit. */
  get retryAfterNs(): number | null {
    return this.decision.retryAfterNs;
  }

  /** The same in whole milliseconds, rounded up: for a timer. */
  get retryAfterMs(): number | null {
    const ns = this.decision.retryAfterNs;
    return ns === null ? null : Math.ceil(ns / 1e6);
  }

  /** What holds that provider; null if the capability has none. */
  get heldBy(): HeldBy | null {
    return this.decision.heldBy;
  }
}

function waitOf(decision: Decision): string {
  const { provider, heldBy, retryAfterNs, heldDimension, heldWindowNs } = decision;
  if (!provider) return "no provider available: the capability has none";
  const why = heldBy === "quota" ? `quota of ${heldDimension} per ${heldWindowNs / 1e9} s` : heldBy;
  return retryAfterNs === null
    ? `no provider available: '${provider}' is held by its ${why}, and waiting does not help`
    : `no provider available: '${provider}' frees first, in ${Math.round(retryAfterNs / 1e6)} ms (${why})`;
}

// On the prototypes, so that an error does not spend time on its name.
for (const [name, kind] of Object.entries({
  GrateError,
  InvalidNameError,
  InvalidArgumentError,
  InvalidConfigError,
  InvalidJsonError,
  UnknownCapabilityError,
  UnknownProviderError,
  StaleLeaseError,
  CapacityError,
  StateFileError,
  InternalError,
  ClosedError,
  NoProviderAvailableError,
})) {
  Object.defineProperty(kind.prototype, "name", { value: name, configurable: true, writable: true });
}

const CLASSES = new Map<number, new (message: string, status: number) => GrateError>([
  [ERR_INVALID_NAME, InvalidNameError],
  [ERR_INVALID_ARGUMENT, InvalidArgumentError],
  [5, InvalidConfigError],
  [ERR_INVALID_JSON, InvalidJsonError],
  [7, UnknownCapabilityError],
  [8, UnknownProviderError],
  [10, StaleLeaseError],
  [12, CapacityError],
  [ERR_STATE_FILE, StateFileError],
]);

/** The error for a status. */
export function errorOf(status: number, message: string): GrateError {
  return new (CLASSES.get(status) ?? InternalError)(message, status);
}

export function invalidArgument(message: string): InvalidArgumentError {
  return new InvalidArgumentError(message, ERR_INVALID_ARGUMENT);
}
