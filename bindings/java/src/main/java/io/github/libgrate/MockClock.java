package io.github.libgrate;

import java.util.function.LongUnaryOperator;

/**
 * A clock for tests and simulations: it stands still until it is moved. It starts at 0 ns of monotonic time. Safe on any thread.
 *
 * <p>Engines keep what they need of it, so it may be closed before them. One that is not closed goes with the garbage.
 */
public final class MockClock implements AutoCloseable {
    private final Handle handle;

    /**
     * A clock that starts at an instant.
     *
     * @param unixMs milliseconds since the Unix epoch, 0 or more
     */
    public MockClock(long unixMs) {
        Units.notNegative(unixMs, "unixMs");
        handle = new Handle(this, "clock", LibGrate.grate_clock_mock_new(unixMs), LibGrate::grate_clock_free);
    }

    /**
     * Moves the clock, monotonic and Unix time alike.
     *
     * @param ms milliseconds, 0 or more
     * @throws IllegalStateException if the clock is closed, as all methods do
     */
    public void advanceMs(long ms) {
        Units.notNegative(ms, "ms");
        call(clock -> LibGrate.grate_clock_advance_ms(clock, ms));
    }

    /**
     * Moves the clock, monotonic and Unix time alike.
     *
     * @param secs seconds, 0 or more
     */
    public void advanceSecs(long secs) {
        Units.notNegative(secs, "secs");
        call(clock -> LibGrate.grate_clock_advance_secs(clock, secs));
    }

    /**
     * Sets the clock. Going back is allowed and counts as "no time has passed".
     *
     * @param ns nanoseconds after its start, 0 or more
     */
    public void setNs(long ns) {
        Units.notNegative(ns, "ns");
        call(clock -> LibGrate.grate_clock_set_ns(clock, ns));
    }

    /**
     * What the clock shows.
     *
     * @return nanoseconds after its start; unsigned, for it goes up to 584 years
     */
    public long nowNs() {
        return call(LibGrate::grate_clock_now_ns);
    }

    /** A call with the address of the clock, which stays meanwhile. */
    long call(LongUnaryOperator function) {
        Scratch scratch = handle.enter();
        try {
            return function.applyAsLong(handle.address);
        } finally {
            handle.leave(scratch);
        }
    }

    /** Frees the clock, after calls that other threads have under way. Does nothing the second time. */
    @Override
    public void close() {
        handle.close();
    }
}
