package io.github.libgrate;

import java.time.Duration;
import java.util.List;
import java.util.Optional;

/** What the headers of one response tell about rate limits. Immutable. */
public final class HeaderReport {
    private final boolean cached;
    private final long retryAfterMs;
    private final List<HeaderQuota> quotas;

    HeaderReport(Memory memory, int at, List<HeaderQuota> quotas) {
        cached = memory.getInt(at + Structs.HeaderReport.CACHED) != 0;
        retryAfterMs = memory.getLong(at + Structs.HeaderReport.RETRY_AFTER_MS);
        this.quotas = quotas;
    }

    /**
     * Whether the response comes from a cache, so that its quotas are those of an earlier time.
     *
     * @return whether {@code Age} is above 0
     */
    public boolean cached() {
        return cached;
    }

    /**
     * How long to wait from receipt (Retry-After and its relatives), to the millisecond.
     *
     * @return the wait; empty if the headers do not tell
     */
    public Optional<Duration> retryAfter() {
        return Units.knownMillis(retryAfterMs);
    }

    /**
     * The quotas that the headers tell of.
     *
     * @return at most 16, unmodifiable
     */
    public List<HeaderQuota> quotas() {
        return quotas;
    }

    @Override
    public String toString() {
        return "HeaderReport[cached=" + cached + ", retryAfter=" + retryAfter() + ", quotas=" + quotas + "]";
    }
}
