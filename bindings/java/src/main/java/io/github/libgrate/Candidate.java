package io.github.libgrate;

import java.io.Serializable;
import java.time.Duration;
import java.util.Optional;

/** One provider of the capability, as a decision saw it. Immutable. */
public class Candidate implements Serializable {
    private static final long serialVersionUID = 1;

    private final String provider;
    private final int index;
    private final double score;
    private final double quotaScore;
    private final double healthScore;
    private final double priorityScore;
    private final double latencyScore;
    private final double secondsToExhaustion;
    private final HeldBy heldBy;
    private final long retryAfterNs;
    private final Dimension heldDimension;
    private final long heldWindowNs;

    /** Reads the struct at {@code at}. */
    Candidate(Memory memory, int at, Names names) {
        this(memory, at, at, names);
    }

    /** Reads the struct at {@code at}; from the provider on, the offsets are those of grate_candidate after {@code rest}. */
    Candidate(Memory memory, int at, int rest, Names names) {
        heldBy = HeldBy.of(memory.getInt(at + Structs.Candidate.HELD_BY));
        provider = names.get(memory.getLong(rest + Structs.Candidate.PROVIDER));
        score = memory.getDouble(rest + Structs.Candidate.SCORE);
        quotaScore = memory.getDouble(rest + Structs.Candidate.QUOTA_SCORE);
        healthScore = memory.getDouble(rest + Structs.Candidate.HEALTH_SCORE);
        priorityScore = memory.getDouble(rest + Structs.Candidate.PRIORITY_SCORE);
        latencyScore = memory.getDouble(rest + Structs.Candidate.LATENCY_SCORE);
        secondsToExhaustion = memory.getDouble(rest + Structs.Candidate.SECONDS_TO_EXHAUSTION);
        retryAfterNs = memory.getLong(rest + Structs.Candidate.RETRY_AFTER_NS);
        heldDimension = Dimension.of(memory.getInt(rest + Structs.Candidate.HELD_DIMENSION));
        index = memory.getInt(rest + Structs.Candidate.INDEX);
        heldWindowNs = memory.getLong(rest + Structs.Candidate.HELD_WINDOW_NS);
    }

    /**
     * The provider: in a decision the chosen one, or, when nothing is available, the one that frees first.
     *
     * @return its name; null only in the decision about a capability that has no providers
     */
    public String provider() {
        return provider;
    }

    /**
     * Its place in the capability's list.
     *
     * @return the place, from 0
     */
    public int index() {
        return index;
    }

    /**
     * The weighted sum of the four components. Also computed for providers that are held.
     *
     * @return the score, from 0 to 1
     */
    public double score() {
        return score;
    }

    /**
     * How well off the tightest quota will be at the forecast horizon: 1 while more than a quarter of it will be left, falling
     * to 0 when none will.
     *
     * @return the component, from 0 to 1
     */
    public double quotaScore() {
        return quotaScore;
    }

    /**
     * Health.
     *
     * @return the component, from 0 to 1
     */
    public double healthScore() {
        return healthScore;
    }

    /**
     * Priority, relative to the highest of the capability, times the weight.
     *
     * @return the component, from 0 to 1
     */
    public double priorityScore() {
        return priorityScore;
    }

    /**
     * Lowest latency of the capability, relative to this one's.
     *
     * @return the component, from 0 to 1
     */
    public double latencyScore() {
        return latencyScore;
    }

    /**
     * The time until the first quota is spent if the present burn goes on.
     *
     * @return seconds; infinity if none will be
     */
    public double secondsToExhaustion() {
        return secondsToExhaustion;
    }

    /**
     * What holds the provider longest.
     *
     * @return the reason; {@link HeldBy#NOTHING} if it can be chosen
     */
    public HeldBy heldBy() {
        return heldBy;
    }

    /**
     * How long until it can take this request: exact for cooldown, health and quotas; for concurrency and probes the expected
     * end of the oldest lease.
     *
     * @return the wait, 0 if it can now; empty if waiting does not help
     */
    public Optional<Duration> retryAfter() {
        return Units.knownNanos(retryAfterNs);
    }

    /**
     * The dimension of the quota that holds it.
     *
     * @return the dimension; empty if no quota and no concurrency holds it
     */
    public Optional<Dimension> heldDimension() {
        return Optional.ofNullable(heldDimension);
    }

    /**
     * The window of the quota that holds it.
     *
     * @return the window; empty if no quota with a window holds it
     */
    public Optional<Duration> heldWindow() {
        return heldWindowNs == 0 ? Optional.empty() : Units.knownNanos(heldWindowNs);
    }

    @Override
    public String toString() {
        String held = heldBy == HeldBy.NOTHING ? "" : ", held by " + heldBy + ", retry after "
                + retryAfter().map(Duration::toString).orElse("never");
        return getClass().getSimpleName() + "[" + provider + ", score " + score + held + "]";
    }
}
