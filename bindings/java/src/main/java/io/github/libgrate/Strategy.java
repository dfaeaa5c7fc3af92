package io.github.libgrate;

/** How a quota counts. */
public enum Strategy {
    /** No window of this length, wherever it starts, holds more than the limit. */
    ROLLING,
    /** A bucket that refills continuously at the limit per window. */
    TOKEN_BUCKET,
    /** Calendar windows, from multiples of the window since the Unix epoch plus a phase. */
    FIXED_WINDOW,
    /** Leases in flight. */
    CONCURRENCY;

    private static final Strategy[] BY_ORDINAL = values();

    /** The constant of {@code grate.h}. */
    int code() {
        return ordinal() + 1;
    }

    static Strategy of(int code) {
        return BY_ORDINAL[code - 1];
    }
}
