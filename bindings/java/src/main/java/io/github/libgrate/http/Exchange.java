package io.github.libgrate.http;

import static java.util.concurrent.TimeUnit.NANOSECONDS;

import io.github.libgrate.ClosedException;
import io.github.libgrate.GrateException;
import io.github.libgrate.InvalidArgumentException;
import io.github.libgrate.Lease;
import io.github.libgrate.Outcome;
import io.github.libgrate.Response;
import io.github.libgrate.StaleLeaseException;
import java.io.IOException;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpConnectTimeoutException;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandler;
import java.net.http.HttpResponse.BodySubscriber;
import java.net.http.HttpResponse.ResponseInfo;
import java.net.http.HttpTimeoutException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import javax.net.ssl.SSLHandshakeException;

/** One attempt: its lease, which is settled exactly once, and its body, whose end is watched. */
final class Exchange<T> implements BodyHandler<T> {
    private static final Logger LOG = System.getLogger("io.github.libgrate");

    /** What says that another provider may do better. */
    private static final Set<Integer> REFUSALS = Set.of(429, 503, 529);

    private final Lease lease;
    private final URI base;
    private final BodyHandler<T> handler;
    private final AtomicBoolean settled = new AtomicBoolean();
    private final CompletableFuture<Void> bodyEnd = new CompletableFuture<>();
    /** Set before the caller's subscriber hears of the end, so that it is seen by whoever sees a body that is complete. */
    private volatile boolean arrived;

    /** Null until the caller has made it. */
    private Upload request;
    private boolean redirectable;
    private volatile ResponseInfo info;
    private volatile Flow.Subscription upstream;

    Exchange(Lease lease, URI base, BodyHandler<T> handler) {
        this.lease = lease;
        this.base = base;
        this.handler = handler;
    }

    @Override
    public BodySubscriber<T> apply(ResponseInfo response) {
        info = response;
        return new Watched(handler.apply(response));
    }

    /** Sends the request. When this throws, the lease is settled. */
    HttpResponse<T> send(HttpClient http, RequestFactory requests) throws GrateException, IOException, InterruptedException {
        try {
            if (base == null) {
                throw new IllegalStateException("the client does not know where provider " + lease.provider() + " is");
            }
            request = new Upload(Objects.requireNonNull(requests.create(lease.provider(), base), "request"));
            redirectable = http.followRedirects() != HttpClient.Redirect.NEVER;
            return http.send(request, this);
        } catch (IOException error) {
            if (request == null) {
                giveBack();
            } else if (request.failed()) {
                failed(Outcome.CANCELLED);
            } else if (unsent(error)) {
                settle(unused(Outcome.SERVER_ERROR)); // health suffers nevertheless
            } else if (error instanceof HttpTimeoutException) {
                failed(Outcome.TIMEOUT);
            } else if (info == null || bodyEnd.isCompletedExceptionally()) {
                failed(Outcome.SERVER_ERROR);
            } else {
                handlerFailed();
            }
            throw error;
        } catch (InterruptedException error) {
            failed(Outcome.CANCELLED);
            throw error;
        } catch (Throwable error) { // checked, too: other languages of the JVM do not declare what they throw
            if (info != null) {
                handlerFailed();
            } else {
                giveBack();
            }
            throw error;
        }
    }

    /** Nothing was sent, through no fault of the provider. */
    private void giveBack() throws GrateException {
        if (settled.compareAndSet(false, true)) {
            lease.close();
        }
    }

    /** Whether this says that nothing was sent. It may be of the target of a redirect, from a provider that has done its part. */
    boolean unsent(IOException error) {
        return request != null
                && info == null
                && (!redirectable || changesNothing())
                && (error instanceof ConnectException
                        || error instanceof HttpConnectTimeoutException
                        || error instanceof SSLHandshakeException);
    }

    /** Whether another provider may be asked instead. A redirect to a GET says that what was asked is done. */
    boolean refused(HttpResponse<T> response) {
        return REFUSALS.contains(response.statusCode())
                && (changesNothing() || request.method().equals(response.request().method()));
    }

    /** Whether the request may be sent twice. */
    private boolean changesNothing() {
        return Set.of("GET", "HEAD").contains(request.method());
    }

    /** The report of a request that was not sent: there is nothing that the provider could count. */
    private static Response.Builder unused(Outcome outcome) {
        return Response.of(outcome).requests(0).tokens(0).inputTokens(0).outputTokens(0).bytes(0).costMicroUsd(0);
    }

    /** No response came, or its body broke off. */
    private void failed(Outcome outcome) {
        Response.Builder report = Response.of(outcome);
        if (info != null) {
            report.headers(info.headers().map());
        }
        settle(report);
    }

    /** A response came, and the caller's handler of its body threw something. */
    private void handlerFailed() {
        settle(Response.http(info.statusCode()).headers(info.headers().map()));
    }

    /** Settles the lease of a refusal, whose body does not matter. */
    void settle(HttpResponse<T> response) {
        settle(report(response));
    }

    /** A response to be handed to the caller: settles the lease at once, or when the rest of the body has arrived. */
    void responded(HttpResponse<T> response, UsageReader<? super T> usage, Duration bodyTimeout) {
        if (arrived) {
            served(response, usage);
            return;
        }
        bodyEnd.orTimeout(NANOSECONDS.convert(bodyTimeout), NANOSECONDS).whenComplete((nothing, error) -> {
            if (arrived && error == null) {
                served(response, usage);
            } else if (error == null || error instanceof TimeoutException) {
                settle(report(response)); // given up
            } else {
                failed(Outcome.SERVER_ERROR);
            }
        });
    }

    /** Gives up what is left of the body of a refusal. */
    void discard() {
        Flow.Subscription subscription = upstream;
        if (subscription != null && !arrived) {
            subscription.cancel();
        }
    }

    private void served(HttpResponse<T> response, UsageReader<? super T> usage) {
        Response.Builder report = report(response);
        try {
            usage.read(response, report);
        } catch (Exception error) { // checked, too: see send
            LOG.log(Level.WARNING, "the usage of a response cannot be told: it counts as estimated", error);
            report = report(response);
        } finally {
            settle(report);
        }
    }

    private Response.Builder report(HttpResponse<T> response) {
        Response.Builder report = Response.http(response.statusCode());
        long requests = 0;
        for (HttpResponse<T> hop = response; hop != null; hop = hop.previousResponse().orElse(null)) {
            if (sameServer(hop.uri())) {
                requests++; // the provider counted each redirect of its own
            }
        }
        if (requests > 1) {
            report.requests(requests);
        }
        if (response.previousResponse().isEmpty() || sameServer(response.uri())) {
            report.headers(response.headers().map()); // of another server they would say nothing of this one
        }
        return report;
    }

    private boolean sameServer(URI uri) {
        return uri.getHost().equalsIgnoreCase(base.getHost()) && port(uri) == port(base);
    }

    private static int port(URI uri) {
        return uri.getPort() != -1 ? uri.getPort() : "https".equalsIgnoreCase(uri.getScheme()) ? 443 : 80;
    }

    private void settle(Response.Builder report) {
        if (!settled.compareAndSet(false, true)) {
            return;
        }
        try {
            try {
                lease.complete(report.build());
            } catch (InvalidArgumentException invalid) { // by what the usage reader set, or a status below 100
                LOG.log(Level.WARNING, "what a response reports is invalid: it counts as estimated", invalid);
                lease.complete(Response.of(Outcome.CANCELLED).build());
            }
        } catch (StaleLeaseException | ClosedException gone) {
            // It expired under a long answer, or the engine was closed: there is nothing left to settle.
        } catch (GrateException bug) {
            throw new IllegalStateException(bug);
        }
    }

    /** The caller's subscriber, and where the body ends. */
    private final class Watched implements BodySubscriber<T> {
        private final BodySubscriber<T> subscriber;

        Watched(BodySubscriber<T> subscriber) {
            this.subscriber = subscriber;
        }

        @Override
        public CompletionStage<T> getBody() {
            return subscriber.getBody();
        }

        @Override
        public void onSubscribe(Flow.Subscription subscription) {
            upstream = subscription;
            call(() -> subscriber.onSubscribe(new Flow.Subscription() {
                @Override
                public void request(long n) {
                    subscription.request(n);
                }

                @Override
                public void cancel() {
                    bodyEnd.complete(null); // before the HTTP client may tell of this as an error
                    subscription.cancel();
                }
            }));
        }

        @Override
        public void onNext(List<ByteBuffer> item) {
            call(() -> subscriber.onNext(item));
        }

        private void call(Runnable callers) {
            try {
                callers.run();
            } catch (RuntimeException | Error error) {
                bodyEnd.complete(null); // the caller's fault: what follows is not the end of the body
                throw error;
            }
        }

        @Override
        public void onError(Throwable error) {
            bodyEnd.completeExceptionally(error);
            subscriber.onError(error);
        }

        @Override
        public void onComplete() {
            arrived = true;
            try {
                subscriber.onComplete();
            } finally {
                bodyEnd.complete(null);
            }
        }
    }
}
