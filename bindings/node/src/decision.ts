/** Where a request goes, and why. */

import type { Engine } from "./engine";
import { ClosedError, StaleLeaseError } from "./errors";
import { Candidate as CandidateLayout, Decision as Layout } from "./layout";
import * as memory from "./memory";
import { DIMENSIONS, HELD_BY, type Candidate, type Dimension, type HeldBy, type Report } from "./types";

// Constants of this module are faster than those of another.
const { f64, i32, u32, u64, getNumber, getNumberOrNull } = memory;
const HOLD = (memory.DECISION + Layout.at.held_by) >> 2;
const LEASE = (memory.DECISION + Layout.at.lease) >> 3;
const SCORE = (memory.DECISION + Layout.at.score) >> 3; // the first of six doubles
const RETRY_AFTER = memory.DECISION + Layout.at.retry_after_ns;
const HELD_DIMENSION = (memory.DECISION + Layout.at.held_dimension) >> 2;
const INDEX = (memory.DECISION + Layout.at.index) >> 2;
const HELD_WINDOW = memory.DECISION + Layout.at.held_window_ns;

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
  readonly #lease: bigint;
  readonly #candidates: readonly Candidate[] | undefined;
  #settled = false;

  /** @internal Reads what the call that was just made has decided. */
  constructor(engine: Engine, provider: string, candidates: readonly Candidate[] | undefined) {
    this.provider = provider;
    this.score = f64[SCORE]!;
    this.quotaScore = f64[SCORE + 1]!;
    this.healthScore = f64[SCORE + 2]!;
    this.priorityScore = f64[SCORE + 3]!;
    this.latencyScore = f64[SCORE + 4]!;
    this.secondsToExhaustion = f64[SCORE + 5]!;
    this.heldBy = HELD_BY[i32[HOLD]!]!;
    this.retryAfterNs = getNumberOrNull(RETRY_AFTER);
    this.heldDimension = DIMENSIONS[i32[HELD_DIMENSION]!]!;
    this.heldWindowNs = getNumber(HELD_WINDOW);
    this.index = u32[INDEX]!;
    this.#engine = engine;
    this.#lease = u64[LEASE]!;
    this.#candidates = candidates;
  }

  /** What `Engine.complete` and `Engine.cancel` settle, on any thread; 0n from `select`, which reserves nothing. */
  get lease(): bigint {
    return this.#lease;
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
    if (this.#settled || this.#lease === 0n) return;
    try {
      this.cancel();
    } catch (error) {
      // Settled by its number, expired, or gone with the engine: nothing is left to give back.
      if (!(error instanceof StaleLeaseError || error instanceof ClosedError)) throw error;
    }
  }
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
