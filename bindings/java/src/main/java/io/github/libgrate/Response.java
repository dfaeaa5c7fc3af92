package io.github.libgrate;

import java.time.Duration;
import java.util.Collection;
import java.util.Map;

/**
 * What became of a request. Immutable. An outcome or an HTTP status is required. Usage that is not given is as estimated (none,
 * of a request that was refused); 0 is zero.
 */
public final class Response {
    private static final Response SUCCESS = builder().outcome(Outcome.SUCCESS).build();

    private final int outcome;
    private final int httpStatus;
    private final long latencyNs;
    private final long retryAfterNs;
    private final long requests;
    private final long tokens;
    private final long inputTokens;
    private final long outputTokens;
    private final long bytes;
    private final long costMicroUsd;
    private final HeaderFields headers; // null if there are none

    private Response(Builder from) {
        outcome = from.outcome;
        httpStatus = from.httpStatus;
        latencyNs = from.latencyNs;
        retryAfterNs = from.retryAfterNs;
        requests = from.requests;
        tokens = from.tokens;
        inputTokens = from.inputTokens;
        outputTokens = from.outputTokens;
        bytes = from.bytes;
        costMicroUsd = from.costMicroUsd;
        headers = from.headers == null ? null : HeaderFields.copyOf(from.headers);
    }

    /**
     * A request that was served and used what was estimated.
     *
     * @return the response
     */
    public static Response success() {
        return SUCCESS;
    }

    /**
     * Starts with an outcome.
     *
     * @param outcome what became of the request
     * @return a builder
     */
    public static Builder of(Outcome outcome) {
        return builder().outcome(outcome);
    }

    /**
     * Starts with an HTTP status, from which the outcome follows.
     *
     * @param status as it came, 100 or more
     * @return a builder
     */
    public static Builder http(int status) {
        return builder().httpStatus(status);
    }

    /**
     * Starts with nothing given.
     *
     * @return a builder
     */
    public static Builder builder() {
        return new Builder();
    }

    void write(Scratch scratch) {
        Memory memory = scratch.memory;
        memory.putInt(Scratch.RESPONSE + Structs.Response.OUTCOME, outcome);
        memory.putInt(Scratch.RESPONSE + Structs.Response.HTTP_STATUS, httpStatus);
        memory.putLong(Scratch.RESPONSE + Structs.Response.LATENCY_NS, latencyNs);
        memory.putLong(Scratch.RESPONSE + Structs.Response.RETRY_AFTER_NS, retryAfterNs);
        memory.putLong(Scratch.RESPONSE + Structs.Response.REQUESTS, requests);
        memory.putLong(Scratch.RESPONSE + Structs.Response.TOKENS, tokens);
        memory.putLong(Scratch.RESPONSE + Structs.Response.INPUT_TOKENS, inputTokens);
        memory.putLong(Scratch.RESPONSE + Structs.Response.OUTPUT_TOKENS, outputTokens);
        memory.putLong(Scratch.RESPONSE + Structs.Response.BYTES, bytes);
        memory.putLong(Scratch.RESPONSE + Structs.Response.COST_MICRO_USD, costMicroUsd);
        long fields = 0;
        int count = 0;
        if (headers != null) {
            fields = headers.write(scratch, scratch.arena(headers.arenaSize()));
            count = headers.count();
        }
        memory.putLong(Scratch.RESPONSE + Structs.Response.HEADERS, fields);
        memory.putLong(Scratch.RESPONSE + Structs.Response.HEADERS_LEN, count);
    }

    /** Builds a {@link Response}. Not for several threads at once. */
    public static final class Builder {
        private int outcome;
        private int httpStatus;
        private long latencyNs;
        private long retryAfterNs;
        private long requests;
        private long tokens;
        private long inputTokens;
        private long outputTokens;
        private long bytes;
        private long costMicroUsd;
        private HeaderFields headers;

        private Builder() {}

        /**
         * What became of the request. Without it, it follows from the HTTP status.
         *
         * @param value the outcome
         * @return this
         */
        public Builder outcome(Outcome value) {
            outcome = value.code();
            return this;
        }

        /**
         * The HTTP status as it came. Only used without an outcome.
         *
         * @param status 100 or more
         * @return this
         */
        public Builder httpStatus(int status) {
            httpStatus = status;
            return this;
        }

        /**
         * From sending to the end of the answer. If not given: since the lease was acquired; unknown for observe.
         *
         * @param value 0 or more, up to 292 years
         * @return this
         */
        public Builder latency(Duration value) {
            latencyNs = Units.givenNanos(value, "latency");
            return this;
        }

        /**
         * How long the provider says to stay away, if that is known from elsewhere than the headers. Of no effect with a
         * success, client error or cancelled request.
         *
         * @param value 0 or more, up to 292 years
         * @return this
         */
        public Builder retryAfter(Duration value) {
            retryAfterNs = Units.givenNanos(value, "retryAfter");
            return this;
        }

        /**
         * Requests used. If not given: 1.
         *
         * @param used 0 or more
         * @return this
         */
        public Builder requests(long used) {
            requests = Units.given(used, "requests");
            return this;
        }

        /**
         * Tokens used, input and output together. If only the next two are given, their sum.
         *
         * @param used 0 or more
         * @return this
         */
        public Builder tokens(long used) {
            tokens = Units.given(used, "tokens");
            return this;
        }

        /**
         * Input tokens used.
         *
         * @param used 0 or more
         * @return this
         */
        public Builder inputTokens(long used) {
            inputTokens = Units.given(used, "inputTokens");
            return this;
        }

        /**
         * Output tokens used.
         *
         * @param used 0 or more
         * @return this
         */
        public Builder outputTokens(long used) {
            outputTokens = Units.given(used, "outputTokens");
            return this;
        }

        /**
         * Bytes used.
         *
         * @param used 0 or more
         * @return this
         */
        public Builder bytes(long used) {
            bytes = Units.given(used, "bytes");
            return this;
        }

        /**
         * Cost in millionths of a US dollar.
         *
         * @param used 0 or more
         * @return this
         */
        public Builder costMicroUsd(long used) {
            costMicroUsd = Units.given(used, "costMicroUsd");
            return this;
        }

        /**
         * One header field of the response, added to those before. Rate-limit fields correct what is known of the provider,
         * all others are ignored.
         *
         * @param name in any case
         * @param value as it came
         * @return this
         */
        public Builder header(String name, String value) {
            fields().add(name, value);
            return this;
        }

        /**
         * The header fields of the response, added to those before: {@code HttpHeaders.map()} of {@code java.net.http},
         * {@code URLConnection.getHeaderFields()} and the like.
         *
         * @param values values by name; an entry without a name (a status line) is left out
         * @return this
         */
        public Builder headers(Map<String, ? extends Collection<String>> values) {
            fields().add(values);
            return this;
        }

        private HeaderFields fields() {
            if (headers == null) {
                headers = new HeaderFields();
            }
            return headers;
        }

        /**
         * Makes the response.
         *
         * @return the response
         */
        public Response build() {
            return new Response(this);
        }
    }
}
