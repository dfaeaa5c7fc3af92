package io.github.libgrate;

/** Counters of an engine since it was made. Immutable. Per provider, see {@link ProviderState}. */
public final class Metrics {
    private final long selects;
    private final long acquires;
    private final long completions;
    private final long cancellations;
    private final long expiredLeases;
    private final long observations;
    private final long cooldownsTriggered;
    private final long noneAvailable;
    private final long rateLimitedResponses;
    private final long leasesInFlight;
    private final long cappedWaits;

    Metrics(Memory memory, int at) {
        selects = memory.getLong(at + Structs.Metrics.SELECTS);
        acquires = memory.getLong(at + Structs.Metrics.ACQUIRES);
        completions = memory.getLong(at + Structs.Metrics.COMPLETIONS);
        cancellations = memory.getLong(at + Structs.Metrics.CANCELLATIONS);
        expiredLeases = memory.getLong(at + Structs.Metrics.EXPIRED_LEASES);
        observations = memory.getLong(at + Structs.Metrics.OBSERVATIONS);
        cooldownsTriggered = memory.getLong(at + Structs.Metrics.COOLDOWNS_TRIGGERED);
        noneAvailable = memory.getLong(at + Structs.Metrics.NONE_AVAILABLE);
        rateLimitedResponses = memory.getLong(at + Structs.Metrics.RATE_LIMITED_RESPONSES);
        leasesInFlight = memory.getLong(at + Structs.Metrics.LEASES_IN_FLIGHT);
        cappedWaits = memory.getLong(at + Structs.Metrics.CAPPED_WAITS);
    }

    /**
     * Calls of select that chose a provider.
     *
     * @return the count
     */
    public long selects() {
        return selects;
    }

    /**
     * Leases granted.
     *
     * @return the count
     */
    public long acquires() {
        return acquires;
    }

    /**
     * Leases settled by complete.
     *
     * @return the count
     */
    public long completions() {
        return completions;
    }

    /**
     * Leases given back by cancel.
     *
     * @return the count
     */
    public long cancellations() {
        return cancellations;
    }

    /**
     * Leases that expired unsettled.
     *
     * @return the count
     */
    public long expiredLeases() {
        return expiredLeases;
    }

    /**
     * Calls of observe.
     *
     * @return the count
     */
    public long observations() {
        return observations;
    }

    /**
     * Cooldowns started.
     *
     * @return the count
     */
    public long cooldownsTriggered() {
        return cooldownsTriggered;
    }

    /**
     * Calls of select and acquire that found no provider available.
     *
     * @return the count
     */
    public long noneAvailable() {
        return noneAvailable;
    }

    /**
     * Outcomes rate limited and quota exhausted: the number this library exists to keep at 0.
     *
     * @return the count
     */
    public long rateLimitedResponses() {
        return rateLimitedResponses;
    }

    /**
     * Leases in flight now.
     *
     * @return the count
     */
    public long leasesInFlight() {
        return leasesInFlight;
    }

    /**
     * Waits told by providers that were longer than the longest that is believed, and cut.
     *
     * @return the count
     */
    public long cappedWaits() {
        return cappedWaits;
    }

    @Override
    public String toString() {
        return "Metrics[selects=" + selects
                + ", acquires=" + acquires
                + ", completions=" + completions
                + ", cancellations=" + cancellations
                + ", expiredLeases=" + expiredLeases
                + ", observations=" + observations
                + ", cooldownsTriggered=" + cooldownsTriggered
                + ", noneAvailable=" + noneAvailable
                + ", rateLimitedResponses=" + rateLimitedResponses
                + ", leasesInFlight=" + leasesInFlight
                + ", cappedWaits=" + cappedWaits
                + "]";
    }
}
