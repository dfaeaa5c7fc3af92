package io.github.libgrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

/** Sixteen threads on one engine. */
class ThreadsTest {
    private static final int THREADS = 16;
    private static final int ROUNDS = 2000;

    private final MockClock clock = new MockClock(0);

    private interface Work {
        void run(int thread) throws Exception;
    }

    private static void together(Work work) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(THREADS);
        try {
            CyclicBarrier start = new CyclicBarrier(THREADS);
            List<Future<Void>> results = new ArrayList<>();
            for (int i = 0; i < THREADS; i++) {
                int thread = i;
                results.add(threads.submit(() -> {
                    start.await();
                    work.run(thread);
                    return null;
                }));
            }
            for (Future<Void> result : results) {
                result.get();
            }
        } finally {
            threads.shutdownNow();
        }
    }

    private static String headerName(int thread) {
        return "x-thread-" + thread;
    }

    @Test
    void slotsAndUsageAddUp() throws Exception {
        try (Engine engine = Fixture.engine(clock)) {
            engine.upsertProvider(ProviderConfig.builder("a")
                    .quota(QuotaConfig.concurrency(3))
                    .quota(QuotaConfig.rolling(Dimension.REQUESTS, 1_000_000, Fixture.MINUTE))
                    .quota(QuotaConfig.rolling(Dimension.TOKENS, 1_000_000_000, Fixture.MINUTE))
                    .build());
            engine.upsertCapability(CapabilityConfig.builder("api").provider("a").build());
            AtomicInteger inFlight = new AtomicInteger();
            AtomicInteger most = new AtomicInteger();
            together(thread -> {
                for (int done = 0; done < ROUNDS; ) {
                    try {
                        Lease lease = engine.acquire("api", Request.tokens(thread + 1));
                        most.accumulateAndGet(inFlight.incrementAndGet(), Math::max);
                        inFlight.decrementAndGet();
                        lease.complete(Response.http(200)
                                .tokens(10 * (thread + 1))
                                .header(headerName(thread), "1")
                                .build());
                        done++;
                    } catch (NoAvailableProvidersException full) {
                        assertEquals(HeldBy.CONCURRENCY, full.reason());
                    }
                }
            });
            assertTrue(most.get() <= 3);
            long requests = 0;
            long tokens = 0;
            for (QuotaState quota : engine.providerState("a").quotas()) {
                requests += quota.dimension() == Dimension.REQUESTS ? quota.used() : 0;
                tokens += quota.dimension() == Dimension.TOKENS ? quota.used() : 0;
            }
            assertEquals(THREADS * ROUNDS, requests);
            assertEquals(10L * ROUNDS * THREADS * (THREADS + 1) / 2, tokens);
            Metrics metrics = engine.metrics();
            assertEquals(requests, metrics.acquires());
            assertEquals(requests, metrics.completions());
            assertEquals(0, metrics.leasesInFlight());
        }
    }

    @Test
    void decisionsDoNotMix() throws Exception {
        try (Engine engine = Fixture.engine(clock)) {
            for (int i = 0; i < THREADS; i++) {
                engine.upsertProvider(ProviderConfig.builder("p" + i).build());
                engine.upsertCapability(CapabilityConfig.builder("c" + i).provider("p" + i).build());
            }
            together(thread -> {
                Request request = Request.builder().exclude("nobody" + thread).explain().build();
                for (int i = 0; i < ROUNDS; i++) {
                    Lease lease = engine.acquire("c" + thread, request);
                    assertEquals("p" + thread, lease.provider());
                    assertEquals("p" + thread, lease.decision().candidates().get(0).provider());
                    lease.cancel();
                }
            });
        }
    }

    @Test
    void everythingAtOnce() throws Exception {
        try (Engine engine = Fixture.twoProviders(clock)) {
            together(thread -> {
                for (int i = 0; i < ROUNDS / 10; i++) {
                    String name = "p" + thread + "-" + i % 7;
                    engine.upsertProvider(ProviderConfig.builder(name).build());
                    engine.upsertCapability(CapabilityConfig.builder(name).provider(name).provider("b").build());
                    engine.observe(name, Response.http(200).build());
                    try (Lease lease = engine.acquire(name)) {
                        assertEquals(name, engine.select(name, Request.builder().exclude("b").build()).provider());
                        lease.complete(Response.success());
                    }
                    assertTrue(engine.prometheus().contains("grate_acquires_total"));
                    assertEquals(0, engine.providerState(name).leasesInFlight());
                    engine.removeProvider(name);
                    clock.advanceMs(1);
                }
            });
            assertEquals(0, engine.metrics().leasesInFlight());
        }
    }

    @Test
    void oneLeaseIsSettledOnce() throws Exception {
        try (Engine engine = Fixture.twoProviders(clock)) {
            for (int i = 0; i < 100; i++) {
                Lease lease = engine.acquire("api", Request.builder().exclude("a").build());
                AtomicInteger settled = new AtomicInteger();
                AtomicInteger stale = new AtomicInteger();
                together(thread -> {
                    try {
                        lease.complete(Response.success());
                        settled.incrementAndGet();
                    } catch (StaleLeaseException second) {
                        stale.incrementAndGet();
                    }
                });
                assertEquals(1, settled.get());
                assertEquals(THREADS - 1, stale.get());
            }
        }
    }

    @Test
    void closingUnderLoad() throws Exception {
        for (int round = 0; round < 50; round++) {
            Engine engine = Fixture.twoProviders(clock);
            together(thread -> {
                if (thread == 0) {
                    engine.close();
                    return;
                }
                Request request = thread % 2 == 0
                        ? Request.builder().explain().build()
                        : Request.builder().exclude("a").build();
                assertThrows(IllegalStateException.class, () -> {
                    while (true) {
                        try (Lease lease = engine.acquire("api", request)) {
                            lease.complete(Response.http(200).header(headerName(thread), "1").build());
                            engine.prometheus();
                        }
                    }
                });
            });
        }
    }
}
