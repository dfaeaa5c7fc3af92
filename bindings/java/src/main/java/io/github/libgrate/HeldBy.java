package io.github.libgrate;

/** What keeps a provider from being chosen. */
public enum HeldBy {
    /** Nothing: it can be chosen. */
    NOTHING,
    /** It is cooling down. */
    COOLDOWN,
    /** Its health is below the least for selection. */
    HEALTH,
    /** A quota has no room; heldDimension and heldWindow say which. */
    QUOTA,
    /** All its concurrency slots are taken. */
    CONCURRENCY,
    /** It is half-open after a cooldown, and the leases that may try it are out. */
    PROBE,
    /** The request excludes it. */
    EXCLUSION;

    private static final HeldBy[] BY_ORDINAL = values();

    static HeldBy of(int code) {
        return BY_ORDINAL[code];
    }
}
