package io.github.libgrate.http;

import io.github.libgrate.Engine;
import io.github.libgrate.GrateException;
import io.github.libgrate.HeldBy;
import io.github.libgrate.Lease;
import io.github.libgrate.NoAvailableProvidersException;
import io.github.libgrate.Request;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandler;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * Sends HTTP requests to whichever provider the engine chooses, and reports by itself what became of them.
 *
 * <p>A provider that answers 429, 503 or 529, or that cannot be reached, is excluded and the request goes to another one, as
 * long as there is one and {@link Builder#maxAttempts} allows it. Other failures are the caller's to judge: the provider may
 * have done what it was asked. Redirects are followed as the {@link HttpClient} is configured; each one to the provider counts
 * as a request. With a client that follows them, only GET and HEAD are sent again after a failure to connect, which may have
 * been that of a redirect, and after a refusal by what a redirect has made a GET.
 *
 * <p>Every lease is settled on every path. It is held until the body has arrived: with a streaming body handler, read the body
 * to its end or close it, as {@code java.net.http} wants it anyway; one that is neither is given up after {@link
 * Builder#bodyTimeout}.
 *
 * <p>Immutable, and safe on any thread. Engine and {@link HttpClient} are the caller's to close.
 */
public final class GrateHttpClient {
    private static final Duration SHORTEST_NAP = Duration.ofMillis(1);
    /**
     * However long the wait, it looks again then: leases end when they end, on the provider that frees first or on another, and
     * give back what they did not use.
     */
    private static final long LONGEST_NAP_MS = 50;

    private final Engine engine;
    private final HttpClient http;
    private final Map<String, URI> providers;
    private final int maxAttempts;
    private final Duration maxWait;
    private final Duration bodyTimeout;

    private GrateHttpClient(Builder from) {
        engine = from.engine;
        http = from.http == null ? HttpClient.newHttpClient() : from.http;
        providers = Map.copyOf(from.providers);
        maxAttempts = from.maxAttempts;
        maxWait = from.maxWait;
        bodyTimeout = from.bodyTimeout;
    }

    /**
     * Starts a client without providers.
     *
     * @param engine what decides
     * @return a builder
     */
    public static Builder builder(Engine engine) {
        return new Builder(engine);
    }

    /**
     * Sends a request whose usage is as estimated. See {@link #send(String, Request, RequestFactory, BodyHandler, UsageReader)}.
     *
     * @param <T> type of the body
     * @param capability what is asked for
     * @param estimate what the request will use
     * @param requests makes the request for the provider that was chosen
     * @param handler what to do with the body, of refusals too: one that writes to a file must empty it first
     * @return the response, of whatever status
     * @throws NoAvailableProvidersException if nothing is available, and will not be in time
     * @throws GrateException if the engine refuses capability or estimate
     * @throws IOException if no provider could be reached, or the one that was reached failed
     * @throws InterruptedException if the thread was interrupted
     */
    public <T> HttpResponse<T> send(String capability, Request estimate, RequestFactory requests, BodyHandler<T> handler)
            throws GrateException, IOException, InterruptedException {
        return send(capability, estimate, requests, handler, (response, report) -> {});
    }

    /**
     * Sends a request and reports what became of it. When nothing is available it waits, for {@link Builder#maxWait} at most.
     *
     * @param <T> type of the body
     * @param capability what is asked for
     * @param estimate what the request will use
     * @param requests makes the request for the provider that was chosen
     * @param handler what to do with the body, of refusals too: one that writes to a file must empty it first
     * @param usage tells what the request used
     * @return the response, of whatever status: 429, 503 or 529 only if no other provider could be tried
     * @throws NoAvailableProvidersException if nothing is available, and will not be in time
     * @throws GrateException if the engine refuses capability or estimate
     * @throws IOException if no provider could be reached, or the one that was reached failed
     * @throws InterruptedException if the thread was interrupted
     */
    public <T> HttpResponse<T> send(
            String capability,
            Request estimate,
            RequestFactory requests,
            BodyHandler<T> handler,
            UsageReader<? super T> usage)
            throws GrateException, IOException, InterruptedException {
        long start = System.nanoTime();
        List<String> tried = new ArrayList<>();
        Lease lease = acquire(capability, estimate, start);
        while (true) {
            Exchange<T> exchange = new Exchange<>(lease, providers.get(lease.provider()), handler);
            HttpResponse<T> response = null;
            IOException unreachable = null;
            try {
                response = exchange.send(http, requests);
                if (!exchange.refused(response)) {
                    exchange.responded(response, usage, bodyTimeout);
                    return response;
                }
                exchange.settle(response);
            } catch (IOException error) {
                if (!exchange.unsent(error)) {
                    throw error;
                }
                unreachable = error;
            }
            tried.add(lease.provider());
            lease = null;
            try {
                if (tried.size() < maxAttempts) {
                    lease = acquire(capability, estimate.toBuilder().exclude(tried).build(), start);
                }
            } catch (NoAvailableProvidersException none) {
                // Then this was the last attempt.
            } catch (Throwable error) {
                exchange.discard();
                throw error;
            }
            if (lease == null) {
                if (response == null) {
                    throw unreachable;
                }
                return response;
            }
            exchange.discard();
        }
    }

    /** A lease, now or within the longest wait. How long others keep theirs is a guess, for which nobody is sent away. */
    private Lease acquire(String capability, Request request, long start) throws GrateException, InterruptedException {
        while (true) {
            try {
                return engine.acquire(capability, request);
            } catch (NoAvailableProvidersException none) {
                Duration left = maxWait.minusNanos(System.nanoTime() - start);
                Duration wait = none.retryAfter().orElseThrow(() -> none);
                boolean guessed = none.reason() == HeldBy.CONCURRENCY || none.reason() == HeldBy.PROBE;
                if (left.compareTo(guessed ? SHORTEST_NAP : wait) < 0) {
                    throw none;
                }
                Duration nap = wait.compareTo(left) < 0 ? wait : left;
                Thread.sleep(Math.max(SHORTEST_NAP.toMillis(), Math.min(nap.toMillis(), LONGEST_NAP_MS)));
            }
        }
    }

    /** Builds a {@link GrateHttpClient}. Not for several threads at once. */
    public static final class Builder {
        private final Engine engine;
        private final Map<String, URI> providers = new HashMap<>();
        private HttpClient http;
        private int maxAttempts = 3;
        private Duration maxWait = Duration.ofSeconds(30);
        private Duration bodyTimeout = Duration.ofMinutes(5);

        private Builder(Engine engine) {
            this.engine = Objects.requireNonNull(engine, "engine");
        }

        /**
         * Where a provider is. Each one that the engine may choose needs this.
         *
         * @param name name of the provider
         * @param base its base URI, handed to the {@link RequestFactory}
         * @return this
         */
        public Builder provider(String name, URI base) {
            providers.put(name, Objects.requireNonNull(base, "base"));
            return this;
        }

        /**
         * What sends the requests.
         *
         * @param client the client; the default is {@link HttpClient#newHttpClient}
         * @return this
         */
        public Builder httpClient(HttpClient client) {
            http = Objects.requireNonNull(client, "client");
            return this;
        }

        /**
         * How many providers one request is sent to at most.
         *
         * @param attempts 1 (no retries) to 64; the default is 3
         * @return this
         */
        public Builder maxAttempts(int attempts) {
            if (attempts < 1 || attempts > 64) {
                throw new IllegalArgumentException("maxAttempts must be from 1 to 64: " + attempts);
            }
            maxAttempts = attempts;
            return this;
        }

        /**
         * How long one request waits in all while nothing is available.
         *
         * @param wait 0 or more; the default is 30 s
         * @return this
         */
        public Builder maxWait(Duration wait) {
            maxWait = Objects.requireNonNull(wait, "wait");
            return this;
        }

        /**
         * After what time a body that is neither read to its end nor closed is given up: its lease is settled, the body itself
         * stays readable.
         *
         * @param timeout more than 0; the default is 5 minutes
         * @return this
         */
        public Builder bodyTimeout(Duration timeout) {
            bodyTimeout = Objects.requireNonNull(timeout, "timeout");
            return this;
        }

        /**
         * Makes the client.
         *
         * @return the client
         */
        public GrateHttpClient build() {
            return new GrateHttpClient(this);
        }
    }
}
