package io.github.libgrate;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;

/**
 * What a request will use and demands. Immutable: one that is always the same is made once.
 *
 * <p>An estimate that is not given is learned from what requests of the capability used on the provider before; 0 is zero.
 */
public final class Request {
    /** One request of unknown size. */
    public static final Request UNKNOWN = builder().build();

    private final long tokens;
    private final long inputTokens;
    private final long outputTokens;
    private final long bytes;
    private final long costMicroUsd;
    private final double headroom;
    private final List<String> exclude;
    final boolean explain;

    private Request(Builder from) {
        tokens = from.tokens;
        inputTokens = from.inputTokens;
        outputTokens = from.outputTokens;
        bytes = from.bytes;
        costMicroUsd = from.costMicroUsd;
        headroom = from.headroom;
        exclude = from.exclude == null ? List.of() : List.copyOf(from.exclude);
        explain = from.explain;
    }

    /**
     * A request of so many tokens.
     *
     * @param estimate tokens, input and output together, 0 or more
     * @return the request
     */
    public static Request tokens(long estimate) {
        return builder().tokens(estimate).build();
    }

    /**
     * Starts with nothing given.
     *
     * @return a builder
     */
    public static Builder builder() {
        return new Builder();
    }

    /**
     * Starts with what this request says.
     *
     * @return a builder
     */
    public Builder toBuilder() {
        Builder builder = new Builder();
        builder.tokens = tokens;
        builder.inputTokens = inputTokens;
        builder.outputTokens = outputTokens;
        builder.bytes = bytes;
        builder.costMicroUsd = costMicroUsd;
        builder.headroom = headroom;
        builder.explain = explain;
        return builder.exclude(exclude);
    }

    /** Bytes of {@code scratch}'s arena that {@link #write} claims. */
    int arenaSize() {
        return exclude.size() * (Long.BYTES + Text.NAME_SIZE);
    }

    /** Writes the struct. The arena has room already. */
    void write(Scratch scratch, Memory arena) throws InvalidNameException {
        Memory memory = scratch.memory;
        memory.putLong(Scratch.REQUEST + Structs.Request.TOKENS, tokens);
        memory.putLong(Scratch.REQUEST + Structs.Request.INPUT_TOKENS, inputTokens);
        memory.putLong(Scratch.REQUEST + Structs.Request.OUTPUT_TOKENS, outputTokens);
        memory.putLong(Scratch.REQUEST + Structs.Request.BYTES, bytes);
        memory.putLong(Scratch.REQUEST + Structs.Request.COST_MICRO_USD, costMicroUsd);
        memory.putDouble(Scratch.REQUEST + Structs.Request.HEADROOM, headroom);
        int count = exclude.size();
        long names = 0;
        if (count > 0) {
            int at = scratch.claim(count * Long.BYTES);
            for (int i = 0; i < count; i++) {
                arena.putLong(at + i * Long.BYTES, scratch.arenaName(exclude.get(i)));
            }
            names = arena.address + at;
        }
        memory.putLong(Scratch.REQUEST + Structs.Request.EXCLUDE, names);
        memory.putLong(Scratch.REQUEST + Structs.Request.EXCLUDE_LEN, count);
    }

    /** Builds a {@link Request}. Not for several threads at once. */
    public static final class Builder {
        private long tokens;
        private long inputTokens;
        private long outputTokens;
        private long bytes;
        private long costMicroUsd;
        private double headroom;
        private List<String> exclude;
        private boolean explain;

        private Builder() {}

        /**
         * Estimated tokens, input and output together. If not given, but one of the next two is, their sum.
         *
         * @param estimate 0 or more
         * @return this
         */
        public Builder tokens(long estimate) {
            tokens = Units.given(estimate, "tokens");
            return this;
        }

        /**
         * Estimated input tokens.
         *
         * @param estimate 0 or more
         * @return this
         */
        public Builder inputTokens(long estimate) {
            inputTokens = Units.given(estimate, "inputTokens");
            return this;
        }

        /**
         * Estimated output tokens.
         *
         * @param estimate 0 or more
         * @return this
         */
        public Builder outputTokens(long estimate) {
            outputTokens = Units.given(estimate, "outputTokens");
            return this;
        }

        /**
         * Estimated bytes.
         *
         * @param estimate 0 or more
         * @return this
         */
        public Builder bytes(long estimate) {
            bytes = Units.given(estimate, "bytes");
            return this;
        }

        /**
         * Estimated cost in millionths of a US dollar.
         *
         * @param estimate 0 or more
         * @return this
         */
        public Builder costMicroUsd(long estimate) {
            costMicroUsd = Units.given(estimate, "costMicroUsd");
            return this;
        }

        /**
         * The share of every quota that must stay free after this request: batch work with 0.3 leaves 30 %.
         *
         * @param share at least 0, less than 1; the default is 0
         * @return this
         */
        public Builder headroom(double share) {
            headroom = share;
            return this;
        }

        /**
         * A provider that must not be chosen, such as the one that just failed; added to those before, at most 64.
         *
         * @param provider its name; unknown names are ignored
         * @return this
         */
        public Builder exclude(String provider) {
            return exclude(List.of(provider));
        }

        /**
         * Providers that must not be chosen, added to those before.
         *
         * @param providers their names
         * @return this
         */
        public Builder exclude(Collection<String> providers) {
            if (exclude == null) {
                exclude = new ArrayList<>();
            }
            exclude.addAll(providers);
            return this;
        }

        /**
         * Makes the decision carry all {@link Decision#candidates()}, for logs and dashboards: that costs about a
         * microsecond per provider.
         *
         * @return this
         */
        public Builder explain() {
            explain = true;
            return this;
        }

        /**
         * Makes the request.
         *
         * @return the request
         */
        public Request build() {
            return new Request(this);
        }
    }
}
