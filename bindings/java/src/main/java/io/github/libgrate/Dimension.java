package io.github.libgrate;

/** What a quota counts. */
public enum Dimension {
    /** Requests; each attempt is one. */
    REQUESTS,
    /** Tokens, input and output together. */
    TOKENS,
    /** Input (prompt) tokens. */
    INPUT_TOKENS,
    /** Output (completion) tokens. */
    OUTPUT_TOKENS,
    /** Requests in flight. Held by leases, so only acquire uses it. */
    CONCURRENCY,
    /** Bytes. */
    BYTES,
    /** Money, in millionths of a US dollar. */
    COST_MICRO_USD;

    private static final Dimension[] BY_ORDINAL = values();

    /** The constant of {@code grate.h}. */
    int code() {
        return ordinal() + 1;
    }

    /** The dimension of a constant of {@code grate.h}; null for 0. */
    static Dimension of(int code) {
        return code == 0 ? null : BY_ORDINAL[code - 1];
    }
}
