package io.github.libgrate.http;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.libgrate.CapabilityConfig;
import io.github.libgrate.Dimension;
import io.github.libgrate.Engine;
import io.github.libgrate.GrateException;
import io.github.libgrate.Metrics;
import io.github.libgrate.NoAvailableProvidersException;
import io.github.libgrate.ProviderConfig;
import io.github.libgrate.QuotaConfig;
import io.github.libgrate.Request;
import java.net.URI;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Real load on three real metered upstreams: {@code scripts/with-upstreams.sh} runs these. */
class UpstreamsTest {
    private static final int PER_SECOND = 28; // gold alone takes 20, and bronze not a third of it
    private static final int REFUSED = 0;
    private static final String[] NAMES = {"gold", "silver", "bronze"};
    private static final int[] RATES = {20, 12, 6};
    private static final int[] BURSTS = {10, 6, 3};

    private String[] upstreams;

    @BeforeEach
    void full() throws InterruptedException {
        String given = System.getenv("GRATE_UPSTREAMS");
        assumeTrue(given != null, "run it with ../../scripts/with-upstreams.sh mvn test");
        upstreams = given.split(" ");
        TimeUnit.SECONDS.sleep(2); // the upstreams forget what came before
    }

    private static Engine engine(boolean quotas) throws GrateException {
        Engine engine = new Engine();
        CapabilityConfig.Builder capability = CapabilityConfig.builder("answer");
        for (int i = 0; i < NAMES.length; i++) {
            ProviderConfig.Builder provider = ProviderConfig.builder(NAMES[i]).priority(3 - i);
            if (quotas) {
                provider.quota(QuotaConfig.tokenBucket(Dimension.REQUESTS, RATES[i], Duration.ofSeconds(1), BURSTS[i] + 1));
            }
            engine.upsertProvider(provider.build());
            capability.provider(NAMES[i]);
        }
        engine.upsertCapability(capability.build());
        return engine;
    }

    /** Sends at a steady rate and returns the statuses, {@link #REFUSED} where nothing was available in time. */
    private List<Integer> load(Engine engine, int seconds) throws Exception {
        GrateHttpClient.Builder builder = GrateHttpClient.builder(engine).maxWait(Duration.ofSeconds(5));
        for (int i = 0; i < NAMES.length; i++) {
            builder.provider(NAMES[i], URI.create(upstreams[i]));
        }
        GrateHttpClient client = builder.build();
        ExecutorService threads = Executors.newCachedThreadPool();
        try {
            List<Future<Integer>> answers = new ArrayList<>();
            long start = System.nanoTime();
            for (int i = 0; i < seconds * PER_SECOND; i++) {
                long due = start + TimeUnit.SECONDS.toNanos(i) / PER_SECOND;
                TimeUnit.NANOSECONDS.sleep(due - System.nanoTime());
                answers.add(threads.submit(() -> answer(client)));
            }
            List<Integer> statuses = new ArrayList<>();
            for (Future<Integer> answer : answers) {
                statuses.add(answer.get());
            }
            return statuses;
        } finally {
            threads.shutdownNow();
        }
    }

    private static int answer(GrateHttpClient client) throws Exception {
        try {
            return client.send(
                            "answer",
                            Request.UNKNOWN,
                            (provider, base) -> HttpRequest.newBuilder(base.resolve("/v1/answer")).build(),
                            BodyHandlers.ofString())
                    .statusCode();
        } catch (NoAvailableProvidersException none) {
            return REFUSED;
        }
    }

    @Test
    void withQuotasThereAreNearlyNo429s() throws Exception {
        try (Engine engine = engine(true)) {
            List<Integer> statuses = load(engine, 6);
            Metrics metrics = engine.metrics();
            System.out.println("with quotas: " + statuses.size() + " requests, " + metrics);
            assertEquals(List.of(), statuses.stream().filter(status -> status != 200).collect(Collectors.toList()));
            assertTrue(metrics.rateLimitedResponses() * 100 < metrics.completions(), metrics.toString());
            assertEquals(metrics.acquires(), metrics.completions());
            assertEquals(0, metrics.leasesInFlight());
        }
    }

    @Test
    void withoutQuotas429sAreRetriedElsewhere() throws Exception {
        try (Engine engine = engine(false)) {
            List<Integer> statuses = load(engine, 3);
            Metrics metrics = engine.metrics();
            System.out.println("without quotas: " + statuses.size() + " requests, " + metrics);
            long served = statuses.stream().filter(status -> status == 200).count();
            long answered = statuses.stream().filter(status -> status != REFUSED).count();
            assertTrue(metrics.rateLimitedResponses() > 0, metrics.toString());
            assertEquals(served, metrics.completions() - metrics.rateLimitedResponses(), metrics.toString());
            assertTrue(metrics.completions() > answered, "some were served by the next provider: " + metrics);
            assertEquals(0, metrics.leasesInFlight());
            assertTrue(metrics.cooldownsTriggered() > 0, "Retry-After arrives");
        }
    }
}
