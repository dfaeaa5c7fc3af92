package io.github.libgrate;

import java.time.Duration;
import java.util.List;
import java.util.Optional;

/** One provider, as it stands. Immutable. */
public final class ProviderState {
    private final Circuit circuit;
    private final double health;
    private final long cooldownRemainingNs;
    private final long latencyNs;
    private final long consecutiveFailures;
    private final long leasesInFlight;
    private final long selects;
    private final long acquires;
    private final long completions;
    private final long cancellations;
    private final long expiredLeases;
    private final long observations;
    private final long cooldownsTriggered;
    private final long rateLimitedResponses;
    private final List<QuotaState> quotas;

    ProviderState(Memory memory, int at, List<QuotaState> quotas) {
        circuit = Circuit.of(memory.getInt(at + Structs.ProviderState.CIRCUIT));
        health = memory.getDouble(at + Structs.ProviderState.HEALTH);
        cooldownRemainingNs = memory.getLong(at + Structs.ProviderState.COOLDOWN_REMAINING_NS);
        latencyNs = memory.getLong(at + Structs.ProviderState.LATENCY_NS);
        consecutiveFailures = Integer.toUnsignedLong(memory.getInt(at + Structs.ProviderState.CONSECUTIVE_FAILURES));
        leasesInFlight = memory.getLong(at + Structs.ProviderState.LEASES_IN_FLIGHT);
        selects = memory.getLong(at + Structs.ProviderState.SELECTS);
        acquires = memory.getLong(at + Structs.ProviderState.ACQUIRES);
        completions = memory.getLong(at + Structs.ProviderState.COMPLETIONS);
        cancellations = memory.getLong(at + Structs.ProviderState.CANCELLATIONS);
        expiredLeases = memory.getLong(at + Structs.ProviderState.EXPIRED_LEASES);
        observations = memory.getLong(at + Structs.ProviderState.OBSERVATIONS);
        cooldownsTriggered = memory.getLong(at + Structs.ProviderState.COOLDOWNS_TRIGGERED);
        rateLimitedResponses = memory.getLong(at + Structs.ProviderState.RATE_LIMITED_RESPONSES);
        this.quotas = quotas;
    }

    /**
     * Whether it works.
     *
     * @return the state of its circuit
     */
    public Circuit circuit() {
        return circuit;
    }

    /**
     * Its health.
     *
     * @return the health, from 0 to 1
     */
    public double health() {
        return health;
    }

    /**
     * How long its cooldown goes on.
     *
     * @return the time left, 0 if it does not cool down
     */
    public Duration cooldownRemaining() {
        return Duration.ofNanos(Units.clamped(cooldownRemainingNs));
    }

    /**
     * Its average latency.
     *
     * @return the latency; empty if unknown
     */
    public Optional<Duration> latency() {
        return latencyNs == 0 ? Optional.empty() : Optional.of(Duration.ofNanos(Units.clamped(latencyNs)));
    }

    /**
     * Failures since the last success.
     *
     * @return the count
     */
    public long consecutiveFailures() {
        return consecutiveFailures;
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
     * Calls of select that chose it.
     *
     * @return the count
     */
    public long selects() {
        return selects;
    }

    /**
     * Leases granted on it.
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
     * Outcomes rate limited and quota exhausted.
     *
     * @return the count
     */
    public long rateLimitedResponses() {
        return rateLimitedResponses;
    }

    /**
     * Its quotas.
     *
     * @return their states, unmodifiable
     */
    public List<QuotaState> quotas() {
        return quotas;
    }

    @Override
    public String toString() {
        return "ProviderState[circuit=" + circuit + ", health=" + health + ", cooldownRemaining=" + cooldownRemaining()
                + ", leasesInFlight=" + leasesInFlight + ", quotas=" + quotas + "]";
    }
}
