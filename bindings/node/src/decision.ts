/** Where a request goes, and why. */

import { getLease, putLease } from "./calls";
import type { Engine } from "./engine";
import { ClosedError, StaleLeaseError } from "./errors";
import { Candidate as CandidateLayout, Decision as Layout } from "./layout";
import * as memory from "./memory";
import { DIMENSIONS, HELD_BY, type Candidate, type Dimension, type HeldBy, type Report } from "./types";

// Constants of this module are faster than those of another.
const { f64, i32, getNumber, getNumberOrNull } = memory;
const HOLD = (memory.DECISION + Layout.at.held_by) >> 2;
const LEASE = (memory.DECISION + Layout.at.lease) >> 2;
const SCORE = (memory.DECISION + Layout.at.score) >> 3; // the first of six doubles
const RETRY_AFTER = memory.DECISION + Layout.at.retry_after_ns;
const HELD_DIMENSION = (memory.DECISION + Layout.at.held_dimension) >> 2;
const INDEX = (memory.DECISION + Layout.at.index) >> 2;
const HELD_WINDOW = memory.DECISION + Layout.at.held_window_ns;

/** Puts the lease of a decision where a call takes it from. */
export let putLeaseOf: (decision: Decision) => void;

/**
 * The decision of one call, a `Candidate` itself: the provider that was chosen, or, in a `NoProviderAvailableError`, the
 * one that frees first.
 *
 * The decision of `acquire` has a lease: settle it with `complete` or `cancel`. With `using`, a lease that is still
 * unsettled at the end of the block is cancelled, which is right for a request that was not sent.
 */
export class Decision implements Candidate {
  /** The chosen provider. In a `NoProviderAvailableError`: the one that frees first, `""` if the capability is empty. */
  readonly provider: string;
  readonly score: number;
  readonly quotaScore: number;
  readonly healthScore: number;
  readonly priorityScore: number;
  readonly latencyScore: number;
  readonly secondsToExhaustion: number;
  readonly heldBy: HeldBy | null;
  readonly retryAfterNs: number | null;
  readonly heldDimension: Dimension | null;
  readonly heldWindowNs: number;
  readonly index: number;
  readonly #engine: Engine;
  readonly #leaseLow = i32[LEASE]!;
  readonly #leaseHigh = i32[LEASE + 1]!;
  readonly #candidates: readonly Candidate[] | undefined;
  #settled = false;

  static {
    putLeaseOf = (decision) => putLease(decision.#leaseLow, decision.#leaseHigh);
  }

  /** @internal Reads what the call that was just made has decided. */
  constructor(engine: Engine, provider: string, available: boolean, candidates?: readonly Candidate[]) {
    const doubles = f64;
    const ints = i32;
    const score = SCORE;
    this.provider = provider;
    this.score = doubles[score]!;
    this.quotaScore = doubles[score + 1]!;
    this.healthScore = doubles[score + 2]!;
    this.priorityScore = doubles[score + 3]!;
    this.latencyScore = doubles[score + 4]!;
    this.secondsToExhaustion = doubles[score + 5]!;
    this.heldBy = null; // as what is available is not held
    this.retryAfterNs = 0;
    this.heldDimension = null;
    this.heldWindowNs = 0;
    this.index = ints[INDEX]!;
    this.#engine = engine;
    this.#candidates = candidates;
    if (!available) readWait(this);
  }

  /** What `Engine.complete` and `Engine.cancel` settle, on any thread; 0n from `select`, which reserves nothing. */
  get lease(): bigint {
    putLease(this.#leaseLow, this.#leaseHigh);
    return getLease();
  }

  /** The engine that made it. */
  get engine(): Engine {
    return this.#engine;
  }

  /**
   * All providers of the capability: those that can be chosen, best first, then those that are held, soonest free first;
   * the first 1024, if there are more. undefined without `explain`.
   */
  get candidates(): readonly Candidate[] | undefined {
    return this.#candidates;
  }

  /** Settles the lease of a request that was sent. See `Engine.complete`. */
  complete(report?: Report): void {
    this.#engine.complete(this, report);
    this.#settled = true;
  }

  /** Gives the lease of a request back that was not sent. See `Engine.cancel`. */
  cancel(): void {
    this.#engine.cancel(this);
    this.#settled = true;
  }

  /** Cancels the lease, if there is one that is not settled. */
  [Symbol.dispose](): void {
    if (this.#settled || this.lease === 0n) return;
    try {
      this.cancel();
    } catch (error) {
      // Settled by its number, expired, or gone with the engine: nothing is left to give back.
      if (!(error instanceof StaleLeaseError || error instanceof ClosedError)) throw error;
    }
  }
}

/** Reads what holds the provider of the call that was just made. */
function readWait(decision: { -readonly [Field in keyof Decision]: Decision[Field] }): void {
  decision.heldBy = HELD_BY[i32[HOLD]!]!;
  decision.retryAfterNs = getNumberOrNull(RETRY_AFTER);
  decision.heldDimension = DIMENSIONS[i32[HELD_DIMENSION]!]!;
  decision.heldWindowNs = getNumber(HELD_WINDOW);
}

/** Reads the rows of an array of `grate_candidate`. */
export function readCandidates(rows: DataView, count: number, nameAt: (address: number) => string): Candidate[] {
  const { at, size } = CandidateLayout;
  const u64At = (offset: number): bigint => rows.getBigUint64(offset, true);
  const candidates: Candidate[] = [];
  for (let row = 0; row < count * size; row += size) {
    const wait = u64At(row + at.retry_after_ns);
    candidates.push({
      provider: nameAt(Number(u64At(row + at.provider))),
      score: rows.getFloat64(row + at.score, true),
      quotaScore: rows.getFloat64(row + at.quota_score, true),
      healthScore: rows.getFloat64(row + at.health_score, true),
      priorityScore: rows.getFloat64(row + at.priority_score, true),
      latencyScore: rows.getFloat64(row + at.latency_score, true),
      secondsToExhaustion: rows.getFloat64(row + at.seconds_to_exhaustion, true),
      heldBy: HELD_BY[rows.getInt32(row + at.held_by, true)]!,
      retryAfterNs: wait === 2n ** 64n - 1n ? null : Number(wait),
      heldDimension: DIMENSIONS[rows.getInt32(row + at.held_dimension, true)]!,
      heldWindowNs: Number(u64At(row + at.held_window_ns)),
      index: rows.getUint32(row + at.index, true),
    });
  }
  return candidates;
}
