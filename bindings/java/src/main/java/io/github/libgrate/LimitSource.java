package io.github.libgrate;

/** Why the limit in force is what it is. */
public enum LimitSource {
    /** It is the configured one. */
    CONFIGURED,
    /** It was learned: the provider refused requests while the books showed room. */
    LEARNED,
    /** The provider told it in response headers. */
    TOLD;

    private static final LimitSource[] BY_ORDINAL = values();

    static LimitSource of(int code) {
        return BY_ORDINAL[code];
    }
}
