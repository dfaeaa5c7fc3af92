/** The clock for tests and simulations. */

import { ClosedError, errorOf, OK } from "./errors";
import { u64Argument } from "./memory";
import { type Address, NULL, library } from "./native";
import type { Amount } from "./types";

const abandoned = new FinalizationRegistry<Address>((clock) => library.grate_clock_free(clock));

/** The address of a clock, for an engine. */
export let clockAddress: (clock: MockClock) => Address;

/**
 * A clock that stands still until it is moved. Engines made with it keep what they need of it: it may be closed before
 * them. Amounts are non-negative integers below 2^64; beyond 2^53 they have to be bigints.
 */
export class MockClock {
  #address: Address;

  static {
    clockAddress = (clock) => clock.#handle();
  }

  /** Starts at 0 ns, and at `unixMs` milliseconds since the Unix epoch. */
  constructor(unixMs: Amount = 0) {
    this.#address = library.grate_clock_mock_new(u64Argument(unixMs, "unixMs"));
    abandoned.register(this, this.#address, this);
  }

  /** Moves the clock, monotonic and Unix time alike. */
  advanceMs(ms: Amount): void {
    this.#check(library.grate_clock_advance_ms(this.#handle(), u64Argument(ms, "ms")));
  }

  /** Moves the clock, monotonic and Unix time alike. */
  advanceSecs(secs: Amount): void {
    this.#check(library.grate_clock_advance_secs(this.#handle(), u64Argument(secs, "secs")));
  }

  /** Sets the clock to `ns` nanoseconds after its start. Going back counts as "no time has passed". */
  setNs(ns: Amount): void {
    this.#check(library.grate_clock_set_ns(this.#handle(), u64Argument(ns, "ns")));
  }

  /** Nanoseconds since its start. */
  nowNs(): bigint {
    return BigInt(library.grate_clock_now_ns(this.#handle()));
  }

  /** Frees the clock. Does nothing if it is closed already. */
  close(): void {
    if (this.#address === NULL) return;
    abandoned.unregister(this);
    library.grate_clock_free(this.#address);
    this.#address = NULL;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #handle(): Address {
    if (this.#address === NULL) throw new ClosedError("clock");
    return this.#address;
  }

  #check(status: number): void {
    if (status !== OK) throw errorOf(status, "the clock cannot be moved");
  }
}
