package io.github.libgrate;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/** A logical operation and the providers that serve it. Immutable. */
public final class CapabilityConfig {
    private static final class Member {
        final String provider;
        final int priority;

        Member(String provider, int priority) {
            this.provider = Objects.requireNonNull(provider, "provider");
            this.priority = priority;
        }
    }

    private final String name;
    private final List<Member> members;

    private CapabilityConfig(Builder from) {
        name = from.name;
        members = List.copyOf(from.members);
    }

    /**
     * Starts a capability without providers.
     *
     * @param name 1 to 128 bytes of UTF-8 without control characters
     * @return a builder
     */
    public static Builder builder(String name) {
        return new Builder(name);
    }

    /** Writes the struct and what belongs to it into the arena, all of which it takes. Returns its address. */
    long write(Scratch scratch) throws InvalidNameException {
        int rows = members.size() * Structs.CapabilityProvider.SIZE;
        Memory arena =
                scratch.arena(Structs.CapabilityConfig.SIZE + Text.NAME_SIZE + rows + members.size() * Text.NAME_SIZE);
        int at = scratch.struct(Structs.CapabilityConfig.SIZE);
        arena.putLong(at + Structs.CapabilityConfig.NAME, scratch.arenaName(name));
        int array = scratch.array(members.size(), Structs.CapabilityProvider.SIZE);
        for (int i = 0; i < members.size(); i++) {
            int row = array + i * Structs.CapabilityProvider.SIZE;
            arena.putInt(row + Structs.CapabilityProvider.PRIORITY, members.get(i).priority);
            arena.putLong(row + Structs.CapabilityProvider.PROVIDER, scratch.arenaName(members.get(i).provider));
        }
        arena.putLong(at + Structs.CapabilityConfig.PROVIDERS, arena.address + array);
        arena.putLong(at + Structs.CapabilityConfig.PROVIDERS_LEN, members.size());
        return arena.address + at;
    }

    /** Builds a {@link CapabilityConfig}. Not for several threads at once. */
    public static final class Builder {
        private final String name;
        private final List<Member> members = new ArrayList<>();

        private Builder(String name) {
            this.name = Objects.requireNonNull(name, "name");
        }

        /**
         * A provider with its default priority, added to those before. The order breaks ties.
         *
         * @param provider name of a registered provider
         * @return this
         */
        public Builder provider(String provider) {
            members.add(new Member(provider, 0));
            return this;
        }

        /**
         * A provider with its priority here, added to those before.
         *
         * @param provider name of a registered provider
         * @param priority 0 to 1000000
         * @return this
         */
        public Builder provider(String provider, int priority) {
            members.add(new Member(
                    provider, priority == 0 ? LibGrate.PRIORITY_ZERO : (int) Units.notNegative(priority, "priority")));
            return this;
        }

        /**
         * Makes the configuration.
         *
         * @return the configuration
         */
        public CapabilityConfig build() {
            return new CapabilityConfig(this);
        }
    }
}
