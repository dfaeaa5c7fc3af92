package io.github.libgrate;

import java.time.Duration;

/** One quota of a provider. Immutable. Ranges beyond those here are checked when the provider is registered. */
public final class QuotaConfig {
    /** Bytes of a scratch's arena that {@link #write} needs besides the struct. */
    static final int ARENA_SIZE = Text.NAME_SIZE;

    private final Dimension dimension;
    private final Strategy strategy;
    private final long limit;
    private final long windowNs;
    private final long burst;
    private final long phaseNs;
    private final String pool;

    private QuotaConfig(
            Dimension dimension, Strategy strategy, long limit, long windowNs, long burst, long phaseNs, String pool) {
        this.dimension = dimension;
        this.strategy = strategy;
        this.limit = Units.notNegative(limit, "limit");
        this.windowNs = windowNs;
        this.burst = Units.notNegative(burst, "burst");
        this.phaseNs = phaseNs;
        this.pool = pool;
    }

    /**
     * No window of this length, wherever it starts, holds more than the limit. Safe whether the provider counts in fixed
     * windows, a sliding log or a bucket of that size.
     *
     * @param dimension what is counted; not concurrency
     * @param limit units per window; 0 admits nothing
     * @param window 1 ms to 366 days
     * @return the quota
     */
    public static QuotaConfig rolling(Dimension dimension, long limit, Duration window) {
        return new QuotaConfig(dimension, Strategy.ROLLING, limit, Units.nanos(window, "window"), 0, 0, null);
    }

    /**
     * A bucket that refills continuously.
     *
     * @param dimension what is counted; not concurrency
     * @param limit units that come back per window; 0 admits nothing
     * @param window 1 ms to 366 days
     * @param burst size of the bucket in units; 0 is the limit
     * @return the quota
     */
    public static QuotaConfig tokenBucket(Dimension dimension, long limit, Duration window, long burst) {
        return new QuotaConfig(dimension, Strategy.TOKEN_BUCKET, limit, Units.nanos(window, "window"), burst, 0, null);
    }

    /**
     * Calendar windows, from multiples of the window since the Unix epoch plus the phase: 8 hours is midnight in UTC-8.
     *
     * @param dimension what is counted; not concurrency
     * @param limit units per window; 0 admits nothing
     * @param window 1 ms to 366 days
     * @param phase between minus and plus one window
     * @return the quota
     */
    public static QuotaConfig fixedWindow(Dimension dimension, long limit, Duration window, Duration phase) {
        long phaseNs = phase.isNegative() ? -Units.nanos(phase.negated(), "phase") : Units.nanos(phase, "phase");
        return new QuotaConfig(dimension, Strategy.FIXED_WINDOW, limit, Units.nanos(window, "window"), 0, phaseNs, null);
    }

    /**
     * Leases in flight.
     *
     * @param limit how many at one time; 0 admits nothing
     * @return the quota
     */
    public static QuotaConfig concurrency(long limit) {
        return new QuotaConfig(Dimension.CONCURRENCY, Strategy.CONCURRENCY, limit, 0, 0, 0, null);
    }

    /**
     * This quota as a member of a pool. Quotas with the same pool, dimension and window are one counter, whichever providers
     * they are on: several models of one account, several keys of one organisation.
     *
     * @param name name of the pool, 1 to 128 bytes
     * @return the quota
     */
    public QuotaConfig inPool(String name) {
        return new QuotaConfig(dimension, strategy, limit, windowNs, burst, phaseNs, name);
    }

    void write(Scratch scratch, Memory arena, int at) throws InvalidNameException {
        arena.putInt(at + Structs.QuotaConfig.DIMENSION, dimension.code());
        arena.putInt(at + Structs.QuotaConfig.STRATEGY, strategy.code());
        arena.putLong(at + Structs.QuotaConfig.LIMIT, limit);
        arena.putLong(at + Structs.QuotaConfig.WINDOW_NS, windowNs);
        arena.putLong(at + Structs.QuotaConfig.BURST, burst);
        arena.putLong(at + Structs.QuotaConfig.PHASE_NS, phaseNs);
        if (pool != null) {
            arena.putLong(at + Structs.QuotaConfig.POOL, scratch.arenaName(pool));
        }
    }
}
