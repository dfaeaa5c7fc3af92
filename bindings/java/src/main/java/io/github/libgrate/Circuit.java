package io.github.libgrate;

/** Whether a provider works. */
public enum Circuit {
    /** Working normally. */
    CLOSED,
    /** Cooling down: not chosen. */
    OPEN,
    /** The cooldown is over, and one lease at a time may try it. */
    HALF_OPEN,
    /** Recovering: the number of leases that may be out doubles with each success. */
    RAMPING;

    private static final Circuit[] BY_ORDINAL = values();

    static Circuit of(int code) {
        return BY_ORDINAL[code];
    }
}
