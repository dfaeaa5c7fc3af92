package io.github.libgrate;

import java.nio.charset.Charset;
import java.nio.file.Path;
import java.time.Duration;

/**
 * Settings of an engine. Immutable. What is not given is the default. In settings that are plain numbers here, 0 is the default
 * too, as in C; JSON, where 0 is 0, can say more.
 */
public final class EngineConfig {
    /** All defaults, and the system's clock. */
    public static final EngineConfig DEFAULT = builder().build();

    /** How this JVM writes the names of files. */
    static final Charset PATHS = Charset.forName(System.getProperty("sun.jnu.encoding", "UTF-8"));

    final MockClock clock;
    private final int cooldownTriggerCount;
    private final double weightQuota;
    private final double weightHealth;
    private final double weightPriority;
    private final double weightLatency;
    private final double minHealthForSelection;
    private final double ewmaAlpha;
    private final double recoveryHalfLifeSecs;
    private final double cooldownThreshold;
    private final double cooldownMultiplier;
    private final double maxCooldownSecs;
    private final long leaseTtlNs;
    private final long skewNs;
    private final double estimateQuantile;
    private final long maxRetryAfterNs;
    private final byte[] statePath;
    private final long stateSize;
    private final long stateFlags;

    private EngineConfig(Builder from) {
        clock = from.clock;
        cooldownTriggerCount = from.cooldownTriggerCount;
        weightQuota = from.weightQuota;
        weightHealth = from.weightHealth;
        weightPriority = from.weightPriority;
        weightLatency = from.weightLatency;
        minHealthForSelection = from.minHealthForSelection;
        ewmaAlpha = from.ewmaAlpha;
        recoveryHalfLifeSecs = from.recoveryHalfLifeSecs;
        cooldownThreshold = from.cooldownThreshold;
        cooldownMultiplier = from.cooldownMultiplier;
        maxCooldownSecs = from.maxCooldownSecs;
        leaseTtlNs = from.leaseTtlNs;
        skewNs = from.skewNs;
        estimateQuantile = from.estimateQuantile;
        maxRetryAfterNs = from.maxRetryAfterNs;
        statePath = from.statePath;
        stateSize = from.stateSize;
        stateFlags = from.stateFlags;
    }

    /**
     * Starts with all defaults.
     *
     * @return a builder
     */
    public static Builder builder() {
        return new Builder();
    }

    /** Writes the struct into the arena, all of which it takes. Returns its address. */
    long write(Scratch scratch, long clockAddress) {
        Memory arena = scratch.arena(Structs.EngineConfig.SIZE + (statePath == null ? 0 : statePath.length));
        int at = scratch.struct(Structs.EngineConfig.SIZE);
        arena.putInt(at + Structs.EngineConfig.COOLDOWN_TRIGGER_COUNT, cooldownTriggerCount);
        arena.putLong(at + Structs.EngineConfig.CLOCK, clockAddress);
        arena.putDouble(at + Structs.EngineConfig.WEIGHT_QUOTA, weightQuota);
        arena.putDouble(at + Structs.EngineConfig.WEIGHT_HEALTH, weightHealth);
        arena.putDouble(at + Structs.EngineConfig.WEIGHT_PRIORITY, weightPriority);
        arena.putDouble(at + Structs.EngineConfig.WEIGHT_LATENCY, weightLatency);
        arena.putDouble(at + Structs.EngineConfig.MIN_HEALTH_FOR_SELECTION, minHealthForSelection);
        arena.putDouble(at + Structs.EngineConfig.EWMA_ALPHA, ewmaAlpha);
        arena.putDouble(at + Structs.EngineConfig.RECOVERY_HALF_LIFE_SECS, recoveryHalfLifeSecs);
        arena.putDouble(at + Structs.EngineConfig.COOLDOWN_THRESHOLD, cooldownThreshold);
        arena.putDouble(at + Structs.EngineConfig.COOLDOWN_MULTIPLIER, cooldownMultiplier);
        arena.putDouble(at + Structs.EngineConfig.MAX_COOLDOWN_SECS, maxCooldownSecs);
        arena.putLong(at + Structs.EngineConfig.LEASE_TTL_NS, leaseTtlNs);
        arena.putLong(at + Structs.EngineConfig.SKEW_NS, skewNs);
        arena.putDouble(at + Structs.EngineConfig.ESTIMATE_QUANTILE, estimateQuantile);
        arena.putLong(at + Structs.EngineConfig.MAX_RETRY_AFTER_NS, maxRetryAfterNs);
        if (statePath != null) {
            int path = scratch.claim(statePath.length);
            for (int i = 0; i < statePath.length; i++) {
                arena.bytes.put(path + i, statePath[i]);
            }
            arena.putLong(at + Structs.EngineConfig.STATE_PATH, arena.address + path);
        }
        arena.putLong(at + Structs.EngineConfig.STATE_SIZE, stateSize);
        arena.putLong(at + Structs.EngineConfig.STATE_FLAGS, stateFlags);
        return arena.address + at;
    }

    /** Builds an {@link EngineConfig}. Not for several threads at once. */
    public static final class Builder {
        private MockClock clock;
        private int cooldownTriggerCount;
        private double weightQuota;
        private double weightHealth;
        private double weightPriority;
        private double weightLatency;
        private double minHealthForSelection;
        private double ewmaAlpha;
        private double recoveryHalfLifeSecs;
        private double cooldownThreshold;
        private double cooldownMultiplier;
        private double maxCooldownSecs;
        private long leaseTtlNs;
        private long skewNs;
        private double estimateQuantile;
        private long maxRetryAfterNs;
        private byte[] statePath;
        private long stateSize;
        private long stateFlags;

        private Builder() {}

        /**
         * A clock for tests. The engine keeps what it needs of it: it may be closed before the engine.
         *
         * @param value the clock; null is the system's time
         * @return this
         */
        public Builder clock(MockClock value) {
            clock = value;
            return this;
        }

        /**
         * Consecutive failures that start a cooldown.
         *
         * @param value more than 0; the default is 3
         * @return this
         */
        public Builder cooldownTriggerCount(int value) {
            cooldownTriggerCount = (int) Units.notNegative(value, "cooldownTriggerCount");
            return this;
        }

        /**
         * The weights of the components in the score: finite, 0 or more, used relative to their sum. The defaults are 0.40,
         * 0.35, 0.20, 0.05; so is all four 0.
         *
         * @param quota weight of the quota component
         * @param health weight of the health component
         * @param priority weight of the priority component
         * @param latency weight of the latency component
         * @return this
         */
        public Builder weights(double quota, double health, double priority, double latency) {
            weightQuota = quota;
            weightHealth = health;
            weightPriority = priority;
            weightLatency = latency;
            return this;
        }

        /**
         * Providers with less health are not chosen.
         *
         * @param value more than 0, at most 1; the default is 0.2
         * @return this
         */
        public Builder minHealthForSelection(double value) {
            minHealthForSelection = value;
            return this;
        }

        /**
         * The share of a new outcome in the health average.
         *
         * @param value more than 0, at most 1; the default is 0.25
         * @return this
         */
        public Builder ewmaAlpha(double value) {
            ewmaAlpha = value;
            return this;
        }

        /**
         * The time in which the health that is missing halves.
         *
         * @param value more than 0, at most 366 days; the default is 30 s
         * @return this
         */
        public Builder recoveryHalfLife(Duration value) {
            recoveryHalfLifeSecs = Units.seconds(value, "recoveryHalfLife");
            return this;
        }

        /**
         * A failure that leaves less health than this starts a cooldown.
         *
         * @param value more than 0, at most 1; the default is 0.2
         * @return this
         */
        public Builder cooldownThreshold(double value) {
            cooldownThreshold = value;
            return this;
        }

        /**
         * Each cooldown in a row is this times longer.
         *
         * @param value 1 or more; the default is 2
         * @return this
         */
        public Builder cooldownMultiplier(double value) {
            cooldownMultiplier = value;
            return this;
        }

        /**
         * The longest computed cooldown. A provider's Retry-After may be longer.
         *
         * @param value more than 0, at most 366 days; the default is 10 minutes
         * @return this
         */
        public Builder maxCooldown(Duration value) {
            maxCooldownSecs = Units.seconds(value, "maxCooldown");
            return this;
        }

        /**
         * The time after which a lease that is not settled expires.
         *
         * @param value more than 0, at most 366 days; the default is 10 minutes
         * @return this
         */
        public Builder leaseTtl(Duration value) {
            leaseTtlNs = Units.nanos(value, "leaseTtl");
            return this;
        }

        /**
         * The longest time a request spends on the wire before the provider counts it: so much longer do the units of a lease
         * stay in their window.
         *
         * @param value 0 (none) to one hour; the default is 50 ms
         * @return this
         */
        public Builder skew(Duration value) {
            skewNs = Units.givenNanos(value, "skew");
            return this;
        }

        /**
         * Which quantile of past usage stands for an estimate that a request does not give.
         *
         * @param value more than 0, less than 1; the default is the mean
         * @return this
         */
        public Builder estimateQuantile(double value) {
            estimateQuantile = value;
            return this;
        }

        /**
         * The longest wait that is believed when a provider tells one; longer ones are cut to it and counted.
         *
         * @param value more than 0, at most 366 days; the default is one day
         * @return this
         */
        public Builder maxRetryAfter(Duration value) {
            maxRetryAfterNs = Units.nanos(value, "maxRetryAfter");
            return this;
        }

        /**
         * The file in which the state lives, shared by all processes of this host that give the same path, and kept over
         * restarts. Made if it is not there.
         *
         * @param value the path; null, the default: the state is the engine's own
         * @return this
         */
        public Builder statePath(Path value) {
            statePath = value == null ? null : (value + "\0").getBytes(PATHS);
            return this;
        }

        /**
         * The size of the state file if it is made.
         *
         * @param bytes 1 MiB to 64 GiB; the default is 16 MiB
         * @return this
         */
        public Builder stateSize(long bytes) {
            stateSize = Units.notNegative(bytes, "stateSize");
            return this;
        }

        /**
         * Whether a state file that cannot be used is replaced by a new one.
         *
         * @param value false, the default, is {@link StateFileException}
         * @return this
         */
        public Builder replaceUnusableState(boolean value) {
            stateFlags = value ? LibGrate.STATE_REPLACE_UNUSABLE : 0;
            return this;
        }

        /**
         * Makes the settings.
         *
         * @return the settings
         */
        public EngineConfig build() {
            return new EngineConfig(this);
        }
    }
}
