package io.github.libgrate;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/** A provider. Immutable. Ranges beyond those here are checked when it is registered. */
public final class ProviderConfig {
    private final String name;
    private final int priority;
    private final double weight;
    private final double cooldownSeconds;
    private final List<QuotaConfig> quotas;

    private ProviderConfig(Builder from) {
        name = from.name;
        priority = from.priority;
        weight = from.weight;
        cooldownSeconds = from.cooldownSeconds;
        quotas = List.copyOf(from.quotas);
    }

    /**
     * Starts a provider with priority 0 and no quotas.
     *
     * @param name 1 to 128 bytes of UTF-8 without control characters
     * @return a builder
     */
    public static Builder builder(String name) {
        return new Builder(name);
    }

    /** Writes the struct and what belongs to it into the arena, all of which it takes. Returns its address. */
    long write(Scratch scratch) throws InvalidNameException {
        int rows = quotas.size() * Structs.QuotaConfig.SIZE;
        Memory arena = scratch.arena(
                Structs.ProviderConfig.SIZE + Text.NAME_SIZE + rows + quotas.size() * QuotaConfig.ARENA_SIZE);
        int at = scratch.struct(Structs.ProviderConfig.SIZE);
        arena.putInt(at + Structs.ProviderConfig.PRIORITY, priority);
        arena.putLong(at + Structs.ProviderConfig.NAME, scratch.arenaName(name));
        arena.putDouble(at + Structs.ProviderConfig.WEIGHT, weight);
        arena.putDouble(at + Structs.ProviderConfig.COOLDOWN_SECONDS, cooldownSeconds);
        int array = scratch.array(quotas.size(), Structs.QuotaConfig.SIZE);
        for (int i = 0; i < quotas.size(); i++) {
            quotas.get(i).write(scratch, arena, array + i * Structs.QuotaConfig.SIZE);
        }
        arena.putLong(at + Structs.ProviderConfig.QUOTAS, arena.address + array);
        arena.putLong(at + Structs.ProviderConfig.QUOTAS_LEN, quotas.size());
        return arena.address + at;
    }

    /** Builds a {@link ProviderConfig}. Not for several threads at once. */
    public static final class Builder {
        private final String name;
        private int priority;
        private double weight;
        private double cooldownSeconds;
        private final List<QuotaConfig> quotas = new ArrayList<>();

        private Builder(String name) {
            this.name = Objects.requireNonNull(name, "name");
        }

        /**
         * The default priority in capabilities: higher is better.
         *
         * @param value 0 to 1000000
         * @return this
         */
        public Builder priority(int value) {
            priority = (int) Units.notNegative(value, "priority");
            return this;
        }

        /**
         * Multiplies the priority component of the score.
         *
         * @param value finite, more than 0; the default is 1
         * @return this
         */
        public Builder weight(double value) {
            weight = value;
            return this;
        }

        /**
         * The first cooldown; each in a row is longer.
         *
         * @param value more than 0, at most 366 days; the default is 30 s
         * @return this
         */
        public Builder cooldown(Duration value) {
            cooldownSeconds = Units.seconds(value, "cooldown");
            return this;
        }

        /**
         * A quota, added to those before, at most 32. All hold at once.
         *
         * @param quota the quota
         * @return this
         */
        public Builder quota(QuotaConfig quota) {
            quotas.add(quota);
            return this;
        }

        /**
         * Makes the configuration.
         *
         * @return the configuration
         */
        public ProviderConfig build() {
            return new ProviderConfig(this);
        }
    }
}
