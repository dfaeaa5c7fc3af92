package io.github.libgrate;

import java.time.Duration;
import java.util.Optional;
import java.util.OptionalLong;

/** One quota, as it stands. Immutable. Counts beyond 2^63 - 1 are reported as that. */
public final class QuotaState {
    private final Dimension dimension;
    private final Strategy strategy;
    private final long limit;
    private final long windowNs;
    private final long used;
    private final long remaining;
    private final double predictedShare;
    private final double burnPerSec;
    private final double secondsToExhaustion;
    private final String pool;
    private final long effectiveLimit;
    private final long margin;
    private final LimitSource limitSource;

    QuotaState(Memory memory, int at, Names names) {
        dimension = Dimension.of(memory.getInt(at + Structs.QuotaState.DIMENSION));
        strategy = Strategy.of(memory.getInt(at + Structs.QuotaState.STRATEGY));
        limit = memory.getLong(at + Structs.QuotaState.LIMIT);
        windowNs = memory.getLong(at + Structs.QuotaState.WINDOW_NS);
        used = memory.getLong(at + Structs.QuotaState.USED);
        remaining = memory.getLong(at + Structs.QuotaState.REMAINING);
        predictedShare = memory.getDouble(at + Structs.QuotaState.PREDICTED_SHARE);
        burnPerSec = memory.getDouble(at + Structs.QuotaState.BURN_PER_SEC);
        secondsToExhaustion = memory.getDouble(at + Structs.QuotaState.SECONDS_TO_EXHAUSTION);
        pool = names.get(memory.getLong(at + Structs.QuotaState.POOL));
        effectiveLimit = memory.getLong(at + Structs.QuotaState.EFFECTIVE_LIMIT);
        margin = memory.getLong(at + Structs.QuotaState.MARGIN);
        limitSource = LimitSource.of(memory.getInt(at + Structs.QuotaState.LIMIT_SOURCE));
    }

    /**
     * What is counted.
     *
     * @return the dimension
     */
    public Dimension dimension() {
        return dimension;
    }

    /**
     * How it is counted.
     *
     * @return the strategy
     */
    public Strategy strategy() {
        return strategy;
    }

    /**
     * Units per window as configured.
     *
     * @return the limit; empty if nobody configured one, but one was learned
     */
    public OptionalLong limit() {
        return Units.known(limit);
    }

    /**
     * The window.
     *
     * @return its length; empty for concurrency
     */
    public Optional<Duration> window() {
        return windowNs == 0 ? Optional.empty() : Units.knownNanos(windowNs);
    }

    /**
     * Units counted now: in the window, missing from the bucket, or in flight.
     *
     * @return the units
     */
    public long used() {
        return Units.clamped(used);
    }

    /**
     * Units that may be reserved now.
     *
     * @return the units
     */
    public long remaining() {
        return Units.clamped(remaining);
    }

    /**
     * The predicted share of the limit that will be left at the forecast horizon.
     *
     * @return the share, from 0 to 1
     */
    public double predictedShare() {
        return predictedShare;
    }

    /**
     * The present burn.
     *
     * @return units per second
     */
    public double burnPerSec() {
        return burnPerSec;
    }

    /**
     * The time until it is spent if the present burn goes on.
     *
     * @return seconds; infinity if it will not be
     */
    public double secondsToExhaustion() {
        return secondsToExhaustion;
    }

    /**
     * The pool that it is shared in.
     *
     * @return the name of the pool; empty if it is the provider's own
     */
    public Optional<String> pool() {
        return Optional.ofNullable(pool);
    }

    /**
     * The limit in force, in units per window.
     *
     * @return the limit; empty if there is none at present
     */
    public OptionalLong effectiveLimit() {
        return Units.known(effectiveLimit);
    }

    /**
     * Units that are kept free, because others who share the quota were seen to be faster than headers tell.
     *
     * @return the units
     */
    public long margin() {
        return Units.clamped(margin);
    }

    /**
     * Why the limit in force is what it is.
     *
     * @return the source
     */
    public LimitSource limitSource() {
        return limitSource;
    }

    @Override
    public String toString() {
        return "QuotaState[" + dimension + ", " + strategy + ", used=" + Long.toUnsignedString(used)
                + ", remaining=" + Long.toUnsignedString(remaining) + "]";
    }
}
