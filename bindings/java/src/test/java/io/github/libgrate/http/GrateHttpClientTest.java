package io.github.libgrate.http;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import io.github.libgrate.CapabilityConfig;
import io.github.libgrate.Dimension;
import io.github.libgrate.Engine;
import io.github.libgrate.GrateException;
import io.github.libgrate.HeldBy;
import io.github.libgrate.Lease;
import io.github.libgrate.NoAvailableProvidersException;
import io.github.libgrate.ProviderConfig;
import io.github.libgrate.ProviderState;
import io.github.libgrate.QuotaConfig;
import io.github.libgrate.Request;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.HttpResponse.BodySubscribers;
import java.net.http.HttpTimeoutException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.time.temporal.ChronoUnit;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Every way in which a request can end, over real sockets: each leaves no lease in flight. */
class GrateHttpClientTest {
    private static final Request ESTIMATE = Request.tokens(100);

    private final ExecutorService serverThreads = Executors.newCachedThreadPool();
    private final CountDownLatch release = new CountDownLatch(1);
    private final AtomicInteger served = new AtomicInteger();
    private Engine engine;
    private HttpServer server;
    private URI good;
    /** Accepts connections and says nothing. */
    private ServerSocket silent;

    @BeforeEach
    void start() throws Exception {
        engine = new Engine();
        engine.upsertProvider(provider("first", 10));
        engine.upsertProvider(provider("second", 1));
        engine.upsertCapability(
                CapabilityConfig.builder("api").provider("first").provider("second").build());
        engine.upsertCapability(CapabilityConfig.builder("one").provider("first").build());
        silent = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.setExecutor(serverThreads);
        server.createContext("/ok", exchange -> answer(exchange, 200, "tokens=42"));
        server.createContext("/limited", exchange -> {
            exchange.getResponseHeaders().add("Retry-After", "7");
            answer(exchange, 429, "no");
        });
        server.createContext("/error", exchange -> answer(exchange, 500, "no"));
        server.createContext("/redirect", exchange -> {
            exchange.getResponseHeaders().add("Location", "/ok");
            answer(exchange, 302, "");
        });
        server.createContext("/done", exchange -> {
            exchange.getResponseHeaders().add("Location", exchange.getRequestURI().getQuery());
            answer(exchange, 303, "");
        });
        server.createContext("/broken", exchange -> {
            exchange.sendResponseHeaders(200, 1000);
            exchange.getResponseBody().write(1);
            exchange.getResponseBody().flush();
            exchange.getHttpContext().getServer().stop(0);
        });
        server.createContext("/stream", exchange -> {
            exchange.sendResponseHeaders(200, 0);
            exchange.getResponseBody().write("first\n".getBytes());
            exchange.getResponseBody().flush();
            try {
                release.await();
            } catch (InterruptedException stopped) {
                Thread.currentThread().interrupt();
            }
            exchange.close();
        });
        server.createContext("/endless", exchange -> {
            exchange.sendResponseHeaders(200, 0);
            while (release.getCount() > 0) {
                exchange.getResponseBody().write(new byte[1000]);
                exchange.getResponseBody().flush();
            }
        });
        server.start();
        good = URI.create("http://127.0.0.1:" + server.getAddress().getPort());
    }

    @AfterEach
    void stop() throws Exception {
        release.countDown();
        server.stop(0);
        serverThreads.shutdownNow();
        silent.close();
        assertEquals(0, engine.metrics().leasesInFlight());
        engine.close();
    }

    private static ProviderConfig provider(String name, int priority) {
        return ProviderConfig.builder(name)
                .priority(priority)
                .quota(QuotaConfig.rolling(Dimension.REQUESTS, 100, Duration.ofHours(1)))
                .quota(QuotaConfig.rolling(Dimension.TOKENS, 10_000, Duration.ofHours(1)))
                .quota(QuotaConfig.concurrency(10))
                .build();
    }

    private void answer(HttpExchange exchange, int status, String body) throws IOException {
        served.incrementAndGet();
        exchange.sendResponseHeaders(status, body.isEmpty() ? -1 : body.length());
        exchange.getResponseBody().write(body.getBytes());
        exchange.close();
    }

    private URI unreachable() throws IOException {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return URI.create("http://127.0.0.1:" + socket.getLocalPort());
        }
    }

    private GrateHttpClient.Builder client(URI first, URI second) {
        return GrateHttpClient.builder(engine).provider("first", first).provider("second", second);
    }

    private static class Discarding implements Flow.Subscriber<List<ByteBuffer>> {
        @Override
        public void onSubscribe(Flow.Subscription subscription) {
            subscription.request(Long.MAX_VALUE);
        }

        @Override
        public void onNext(List<ByteBuffer> item) {}

        @Override
        public void onError(Throwable error) {}

        @Override
        public void onComplete() {}
    }

    private static RequestFactory get(String path) {
        return (provider, base) -> HttpRequest.newBuilder(base.resolve(path)).build();
    }

    private static RequestFactory post(String path) {
        return (provider, base) -> HttpRequest.newBuilder(base.resolve(path)).POST(BodyPublishers.noBody()).build();
    }

    private static HttpClient following() {
        return HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL).build();
    }

    private long used(String provider, Dimension dimension) throws GrateException {
        long used = 0;
        for (var quota : engine.providerState(provider).quotas()) {
            used += quota.dimension() == dimension ? quota.used() : 0;
        }
        return used;
    }

    /** Settling may happen on a thread of the HTTP client. */
    private void settled(long completions) throws Exception {
        for (int i = 0; i < 500 && engine.metrics().completions() < completions; i++) {
            Thread.sleep(10);
        }
        assertEquals(completions, engine.metrics().completions());
        assertEquals(0, engine.metrics().leasesInFlight());
    }

    @Test
    void usageFromTheBody() throws Exception {
        HttpResponse<String> response = client(good, good).build().send(
                "api",
                ESTIMATE,
                get("/ok"),
                BodyHandlers.ofString(),
                (answer, report) -> report.tokens(Long.parseLong(answer.body().substring("tokens=".length()))));
        assertEquals(200, response.statusCode());
        assertEquals(42, used("first", Dimension.TOKENS));
        assertEquals(1, engine.metrics().completions());
    }

    @Test
    void aUsageReaderThatFails() throws Exception {
        GrateHttpClient client = client(good, good).build();
        for (UsageReader<String> usage : List.<UsageReader<String>>of(
                (answer, report) -> report.tokens(7).bytes(-1),
                (answer, report) -> report.tokens(7).httpStatus(0),
                (answer, report) -> thrown(new IOException("not declared: this is Kotlin, and that no JSON")))) {
            HttpResponse<String> response = client.send("api", ESTIMATE, get("/ok"), BodyHandlers.ofString(), usage);
            assertEquals("tokens=42", response.body());
        }
        assertEquals(3, engine.metrics().completions());
        assertEquals(300, used("first", Dimension.TOKENS));
    }

    @Test
    void connectionRefused() throws Exception {
        HttpResponse<String> response =
                client(unreachable(), good).build().send("api", ESTIMATE, get("/ok"), BodyHandlers.ofString());
        assertEquals("tokens=42", response.body());
        assertEquals(1, engine.providerState("first").consecutiveFailures());
        assertTrue(engine.providerHealth("first") < 1);
        assertEquals(0, used("first", Dimension.REQUESTS));
        assertEquals(0, used("first", Dimension.TOKENS));
        assertEquals(1, used("second", Dimension.REQUESTS));
        assertEquals(2, engine.metrics().completions());
    }

    @Test
    void nobodyCanBeReached() throws Exception {
        GrateHttpClient client = client(unreachable(), unreachable()).build();
        assertThrows(ConnectException.class, () -> client.send("api", ESTIMATE, get("/"), BodyHandlers.ofString()));
        assertEquals(2, engine.metrics().completions());
    }

    @Test
    void aRefusalIsRetriedElsewhere() throws Exception {
        HttpResponse<String> response = client(good, good).build().send(
                "api",
                ESTIMATE,
                (provider, base) -> HttpRequest.newBuilder(
                                base.resolve(provider.equals("first") ? "/limited" : "/ok"))
                        .build(),
                BodyHandlers.ofString());
        assertEquals("tokens=42", response.body());
        ProviderState first = engine.providerState("first");
        assertEquals(1, first.rateLimitedResponses());
        assertTrue(first.cooldownRemaining().compareTo(Duration.ofSeconds(5)) > 0, "Retry-After arrived");
        assertTrue(first.cooldownRemaining().compareTo(Duration.ofSeconds(7)) <= 0);
    }

    @Test
    void theLastRefusalIsTheAnswer() throws Exception {
        HttpResponse<InputStream> response = client(good, good).maxWait(Duration.ZERO).build()
                .send("api", ESTIMATE, get("/limited"), BodyHandlers.ofInputStream());
        assertEquals(429, response.statusCode());
        assertEquals("no", new String(response.body().readAllBytes()));
        assertEquals(2, served.get());
        assertEquals(2, engine.metrics().rateLimitedResponses());
    }

    @Test
    void noMoreAttemptsThanAllowed() throws Exception {
        assertEquals(429, client(good, good).maxAttempts(1).build()
                .send("api", ESTIMATE, get("/limited"), BodyHandlers.discarding()).statusCode());
        assertEquals(1, served.get());
        assertThrows(IllegalArgumentException.class, () -> GrateHttpClient.builder(engine).maxAttempts(0));
    }

    @Test
    void otherFailuresAreTheCallers() throws Exception {
        assertEquals(500, client(good, good).build()
                .send("api", ESTIMATE, get("/error"), BodyHandlers.ofString()).statusCode());
        assertEquals(1, served.get());
        assertEquals(1, engine.providerState("first").consecutiveFailures());
    }

    @Test
    void nothingAvailable() throws Exception {
        engine.upsertProvider(ProviderConfig.builder("first").quota(QuotaConfig.concurrency(0)).build());
        NoAvailableProvidersException none = assertThrows(NoAvailableProvidersException.class,
                () -> client(good, good).build().send("one", ESTIMATE, get("/ok"), BodyHandlers.ofString()));
        assertEquals(HeldBy.CONCURRENCY, none.reason());
        assertEquals(0, served.get());
    }

    @Test
    void waitingForTheNext() throws Exception {
        engine.upsertProvider(ProviderConfig.builder("first")
                .quota(QuotaConfig.tokenBucket(Dimension.REQUESTS, 5, Duration.ofSeconds(1), 1))
                .build());
        GrateHttpClient client = client(good, good).build();
        for (int i = 0; i < 3; i++) {
            assertEquals(200, client.send("one", ESTIMATE, get("/ok"), BodyHandlers.ofString()).statusCode());
        }
        assertTrue(engine.metrics().noneAvailable() > 0);
    }

    /** When a lease of others ends is not known: the first one may last as long as it takes to expire. */
    @Test
    void waitingForASlot() throws Exception {
        engine.upsertProvider(ProviderConfig.builder("first").quota(QuotaConfig.concurrency(1)).build());
        GrateHttpClient client = client(good, good).build();
        HttpResponse<InputStream> stream = client.send("one", ESTIMATE, get("/stream"), BodyHandlers.ofInputStream());
        assertThrows(NoAvailableProvidersException.class, () -> client(good, good).maxWait(Duration.ofMillis(20)).build()
                .send("one", ESTIMATE, get("/ok"), BodyHandlers.ofString()));
        CompletableFuture.runAsync(release::countDown, CompletableFuture.delayedExecutor(50, TimeUnit.MILLISECONDS));
        CompletableFuture.runAsync(() -> assertDoesNotThrow(() -> stream.body().readAllBytes()));
        assertEquals(200, client.send("one", ESTIMATE, get("/ok"), BodyHandlers.ofString()).statusCode());
    }

    /** Of an hour, which a lease may give back at any time. */
    @Test
    void waitingForAQuotaSeesLeasesEnd() throws Exception {
        engine.upsertProvider(ProviderConfig.builder("first")
                .quota(QuotaConfig.rolling(Dimension.REQUESTS, 1, Duration.ofHours(1)))
                .build());
        Lease lease = engine.acquire("one", ESTIMATE);
        CompletableFuture.runAsync(() -> assertDoesNotThrow(lease::cancel),
                CompletableFuture.delayedExecutor(20, TimeUnit.MILLISECONDS));
        assertTimeoutPreemptively(Duration.ofSeconds(10), () -> assertEquals(200, client(good, good)
                .maxWait(Duration.ofHours(2)).build().send("one", ESTIMATE, get("/ok"), BodyHandlers.ofString()).statusCode()));
    }

    @Test
    void timeout() throws Exception {
        URI quiet = URI.create("http://127.0.0.1:" + silent.getLocalPort());
        assertThrows(HttpTimeoutException.class, () -> client(quiet, good).build().send(
                "api",
                ESTIMATE,
                (provider, base) -> HttpRequest.newBuilder(base).timeout(Duration.ofMillis(200)).build(),
                BodyHandlers.ofString()));
        assertEquals(1, engine.providerState("first").consecutiveFailures());
        assertEquals(1, used("first", Dimension.REQUESTS));
    }

    @Test
    void interrupted() throws Exception {
        URI quiet = URI.create("http://127.0.0.1:" + silent.getLocalPort());
        CompletableFuture<Throwable> end = new CompletableFuture<>();
        Thread thread = new Thread(() -> end.complete(assertThrows(Exception.class,
                () -> client(quiet, good).build().send("api", ESTIMATE, get("/"), BodyHandlers.ofString()))));
        thread.start();
        while (engine.metrics().leasesInFlight() == 0) {
            Thread.sleep(10);
        }
        Thread.sleep(100);
        thread.interrupt();
        assertEquals(InterruptedException.class, end.get(10, TimeUnit.SECONDS).getClass());
        assertEquals(0, engine.providerState("first").consecutiveFailures());
        assertEquals(1, used("first", Dimension.REQUESTS));
    }

    @Test
    void theConnectionBreaks() throws Exception {
        GrateHttpClient client = client(good, good).build();
        assertThrows(IOException.class, () -> client.send("api", ESTIMATE, get("/broken"), BodyHandlers.ofString()));
        assertEquals(1, engine.providerState("first").consecutiveFailures());
        assertEquals(1, used("first", Dimension.REQUESTS));
    }

    @Test
    void aRequestThatCannotBeMade() throws Exception {
        GrateHttpClient client = client(good, good).build();
        assertThrows(ArithmeticException.class, () -> client.send("api", ESTIMATE, (provider, base) -> {
            throw new ArithmeticException();
        }, BodyHandlers.ofString()));
        GrateHttpClient nowhere = GrateHttpClient.builder(engine).build();
        assertThrows(IllegalStateException.class,
                () -> nowhere.send("api", ESTIMATE, get("/"), BodyHandlers.ofString()));
        assertEquals(2, engine.metrics().cancellations());
        assertEquals(0, used("first", Dimension.REQUESTS));
    }

    /** Kotlin and Scala declare no exceptions: a factory in them may throw any, as of a file or a token that it cannot get. */
    @Test
    void aRequestThatCannotBeMadeForReasonsThatAreNotDeclared() throws Exception {
        GrateHttpClient client = client(good, good).build();
        for (Exception thrown : List.of(new FileNotFoundException(), new ConnectException(), new TimeoutException())) {
            assertEquals(thrown, assertThrows(Exception.class, () -> client.send("api", ESTIMATE,
                    (provider, base) -> thrown(thrown), BodyHandlers.ofString())));
        }
        assertEquals(3, engine.metrics().cancellations());
        assertEquals(0, engine.providerState("first").consecutiveFailures());
    }

    @SuppressWarnings("unchecked")
    private static <E extends Exception> HttpRequest thrown(Exception exception) throws E {
        throw (E) exception;
    }

    /** A file that cannot be read, or what a client of this server sends and breaks off. */
    @Test
    void aBodyOfARequestThatBreaks() throws Exception {
        InputStream broken = new InputStream() {
            @Override
            public int read() throws IOException {
                throw new IOException("disk");
            }
        };
        for (HttpClient http : List.of(HttpClient.newHttpClient(), following())) {
            assertThrows(IOException.class, () -> client(good, good).httpClient(http).build().send("api", ESTIMATE,
                    (provider, base) -> HttpRequest.newBuilder(base.resolve("/ok"))
                            .POST(BodyPublishers.ofInputStream(() -> broken))
                            .build(),
                    BodyHandlers.ofString()));
        }
        assertEquals(2, used("first", Dimension.REQUESTS));
        assertEquals(0, engine.providerState("first").consecutiveFailures());
    }

    @Test
    void aBodyHandlerThatThrows() throws Exception {
        GrateHttpClient client = client(good, good).build();
        for (RuntimeException thrown : List.of(new ArithmeticException(), new IllegalArgumentException())) {
            assertThrows(Exception.class, () -> client.<String>send("api", ESTIMATE, get("/ok"), info -> {
                throw thrown;
            }));
        }
        assertEquals(2, used("first", Dimension.REQUESTS));
        assertEquals(2, engine.metrics().completions());
        assertEquals(0, engine.providerState("first").consecutiveFailures());
    }

    /** Such as a handler that passes the answer on: the provider has done its part. */
    @Test
    void aBodyHandlerThatCannotConnect() throws Exception {
        assertThrows(ConnectException.class, () -> client(good, good).build().<String>send("api", ESTIMATE, post("/ok"),
                info -> BodySubscribers.fromSubscriber(new Discarding(), nothing -> {
                    throw new CompletionException(new ConnectException());
                })));
        assertEquals(1, served.get());
        assertEquals(1, used("first", Dimension.REQUESTS));
        assertEquals(0, engine.providerState("first").consecutiveFailures());
    }

    @Test
    void aSubscriberThatThrowsAtOnce() throws Exception {
        assertThrows(IOException.class, () -> client(good, good).build().send("api", ESTIMATE, get("/ok"),
                info -> BodySubscribers.fromSubscriber(new Discarding() {
                    @Override
                    public void onSubscribe(Flow.Subscription subscription) {
                        throw new ArithmeticException();
                    }
                })));
        assertEquals(1, used("first", Dimension.REQUESTS));
        assertEquals(0, engine.providerState("first").consecutiveFailures());
    }

    @Test
    void redirects() throws Exception {
        assertEquals(200, client(good, good).httpClient(following()).build()
                .send("api", ESTIMATE, get("/redirect"), BodyHandlers.ofString()).statusCode());
        assertEquals(2, used("first", Dimension.REQUESTS));
        assertEquals(302, client(good, good).build()
                .send("api", ESTIMATE, get("/redirect"), BodyHandlers.ofString()).statusCode());
        assertEquals(3, used("first", Dimension.REQUESTS));
    }

    @Test
    void aRedirectThatWritesTheHostInAnotherWay() throws Exception {
        URI base = URI.create("http://localhost:" + server.getAddress().getPort());
        String location = base.toString().replace("localhost", "LOCALHOST") + "/ok";
        assertEquals(200, client(base, base).httpClient(following()).build()
                .send("api", ESTIMATE, get("/done?" + location), BodyHandlers.ofString()).statusCode());
        assertEquals(2, used("first", Dimension.REQUESTS));
    }

    /** What a redirect leads to says nothing of the request that was redirected, which is done, and not to be done twice. */
    @Test
    void failuresBehindARedirect() throws Exception {
        GrateHttpClient client = client(good, good).httpClient(following()).maxWait(Duration.ZERO).build();
        String nowhere = "/done?" + unreachable();
        assertThrows(IOException.class, () -> client.send("api", ESTIMATE, post(nowhere), BodyHandlers.ofString()));
        assertEquals(1, served.get());
        assertEquals(1, used("first", Dimension.REQUESTS));
        assertEquals(100, used("first", Dimension.TOKENS));
        assertEquals(429, client.send("api", ESTIMATE, post("/done?/limited"), BodyHandlers.ofString()).statusCode());
        assertEquals(3, used("first", Dimension.REQUESTS));
        assertEquals(2, engine.metrics().completions());
    }

    @Test
    void whatChangesNothingMayBeRedirectedAndSentAgain() throws Exception {
        GrateHttpClient client = client(good, good).httpClient(following()).maxWait(Duration.ZERO).build();
        assertEquals(429, client.send("api", ESTIMATE, get("/done?/limited"), BodyHandlers.ofString()).statusCode());
        assertEquals(4, served.get());
        assertEquals(2, engine.metrics().completions());
    }

    @Test
    void aStreamIsHeldUntilItsEnd() throws Exception {
        HttpResponse<InputStream> response = client(good, good).build().send(
                "api", ESTIMATE, get("/stream"), BodyHandlers.ofInputStream(), (answer, report) -> report.tokens(7));
        assertEquals(1, engine.metrics().leasesInFlight());
        release.countDown();
        assertEquals("first\n", new String(response.body().readAllBytes()));
        settled(1);
        assertEquals(7, used("first", Dimension.TOKENS));
    }

    @Test
    void aStreamThatIsClosedEarly() throws Exception {
        HttpResponse<InputStream> response =
                client(good, good).build().send("api", ESTIMATE, get("/stream"), BodyHandlers.ofInputStream());
        assertEquals(1, engine.metrics().leasesInFlight());
        response.body().close();
        settled(1);
        assertEquals(100, used("first", Dimension.TOKENS));
    }

    /** The HTTP client tells of an error then, at the same time. */
    @Test
    void aStreamThatIsClosedWhileItArrives() throws Exception {
        for (int i = 1; i <= 50; i++) {
            HttpResponse<InputStream> response =
                    client(good, good).build().send("one", ESTIMATE, get("/endless"), BodyHandlers.ofInputStream());
            response.body().read();
            response.body().close();
            settled(i);
            assertEquals(0, engine.providerState("first").consecutiveFailures());
        }
    }

    @Test
    void aStreamThatIsForgotten() throws Exception {
        client(good, good).bodyTimeout(Duration.ofMillis(100)).build()
                .send("api", ESTIMATE, get("/stream"), BodyHandlers.ofInputStream());
        settled(1);
        assertEquals(0, engine.providerState("first").consecutiveFailures());
    }

    @Test
    void aStreamThatMayLastForEver() throws Exception {
        HttpResponse<InputStream> response = client(good, good).bodyTimeout(ChronoUnit.FOREVER.getDuration()).build()
                .send("api", ESTIMATE, get("/stream"), BodyHandlers.ofInputStream());
        assertEquals(1, engine.metrics().leasesInFlight());
        response.body().close();
        settled(1);
    }

    @Test
    void anEngineThatIsClosedMeanwhile() throws Exception {
        Engine other = new Engine();
        other.upsertProvider(provider("first", 1));
        other.upsertCapability(CapabilityConfig.builder("api").provider("first").build());
        HttpResponse<String> response = GrateHttpClient.builder(other).provider("first", good).build().send(
                "api", ESTIMATE, (provider, base) -> {
                    other.close();
                    return HttpRequest.newBuilder(base.resolve("/ok")).build();
                }, BodyHandlers.ofString());
        assertEquals("tokens=42", response.body());
    }
}
