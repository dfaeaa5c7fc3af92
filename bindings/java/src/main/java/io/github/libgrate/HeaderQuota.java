package io.github.libgrate;

import java.time.Duration;
import java.util.Optional;
import java.util.OptionalLong;

/** What headers tell of one quota. Immutable. */
public final class HeaderQuota {
    private final Dimension dimension;
    private final long limit;
    private final long remaining;
    private final long resetInMs;
    private final long windowMs;

    HeaderQuota(Memory memory, int at) {
        dimension = Dimension.of(memory.getInt(at + Structs.HeaderQuota.DIMENSION));
        limit = memory.getLong(at + Structs.HeaderQuota.LIMIT);
        remaining = memory.getLong(at + Structs.HeaderQuota.REMAINING);
        resetInMs = memory.getLong(at + Structs.HeaderQuota.RESET_IN_MS);
        windowMs = memory.getLong(at + Structs.HeaderQuota.WINDOW_MS);
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
     * The size of the quota.
     *
     * @return units; empty if the headers do not tell
     */
    public OptionalLong limit() {
        return Units.known(limit);
    }

    /**
     * What is left of it.
     *
     * @return units; empty if the headers do not tell
     */
    public OptionalLong remaining() {
        return Units.known(remaining);
    }

    /**
     * The time from receipt until it is filled up, partly or wholly, to the millisecond.
     *
     * @return the time; empty if the headers do not tell
     */
    public Optional<Duration> resetIn() {
        return Units.knownMillis(resetInMs);
    }

    /**
     * The window that the limit is for, to the millisecond.
     *
     * @return its length; empty if the headers do not tell
     */
    public Optional<Duration> window() {
        return Units.knownMillis(windowMs);
    }

    @Override
    public String toString() {
        return "HeaderQuota[" + dimension + ", limit=" + limit() + ", remaining=" + remaining() + ", resetIn=" + resetIn() + "]";
    }
}
