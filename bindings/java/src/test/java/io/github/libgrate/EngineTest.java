package io.github.libgrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class EngineTest {
    private final MockClock clock = new MockClock(Fixture.NEW_YEAR_MS);
    private Engine engine;

    @BeforeEach
    void open() throws GrateException {
        engine = Fixture.twoProviders(clock);
    }

    @AfterEach
    void close() {
        engine.close();
        clock.close();
    }

    @Test
    void theExampleOfTheDesign() throws GrateException {
        try (Engine engine = Fixture.engine(clock)) {
            engine.upsertProvider(ProviderConfig.builder("primary")
                    .priority(10)
                    .cooldown(Duration.ofSeconds(30))
                    .quota(QuotaConfig.rolling(Dimension.REQUESTS, 2, Fixture.MINUTE))
                    .build());
            engine.upsertProvider(ProviderConfig.builder("backup")
                    .priority(5)
                    .cooldown(Duration.ofSeconds(30))
                    .quota(QuotaConfig.rolling(Dimension.REQUESTS, 100, Fixture.MINUTE))
                    .build());
            engine.upsertCapability(
                    CapabilityConfig.builder("api").provider("primary").provider("backup").build());
            for (int i = 0; i < 3; i++) {
                clock.advanceSecs(1);
                engine.observe(
                        "primary",
                        Response.of(Outcome.RATE_LIMITED).latency(Duration.ofMillis(50)).requests(1).build());
            }
            assertEquals("backup", engine.select("api").provider());
            assertTrue(engine.providerInCooldown("primary"));
            clock.advanceSecs(60);
            assertEquals("primary", engine.select("api").provider());
            assertFalse(engine.providerInCooldown("primary"));
        }
    }

    @Test
    void acquireAndComplete() throws GrateException {
        Lease lease = engine.acquire("api", Request.tokens(300));
        assertEquals("a", lease.provider());
        assertNotEquals(0, lease.number());
        assertEquals(HeldBy.NOTHING, lease.decision().heldBy());
        assertEquals(Optional.of(Duration.ZERO), lease.decision().retryAfter());
        assertEquals(Optional.empty(), lease.decision().heldDimension());
        assertEquals(Optional.empty(), lease.decision().heldWindow());
        assertEquals(0, lease.decision().index());
        assertEquals(OptionalLong.of(1), engine.remainingQuota("a", Dimension.REQUESTS));
        assertEquals(OptionalLong.of(700), engine.remainingQuota("a", Dimension.TOKENS));
        assertEquals(OptionalLong.empty(), engine.remainingQuota("b", Dimension.TOKENS));
        lease.complete(Response.http(200).tokens(280).latency(Duration.ofNanos(120_500_000)).build());
        assertEquals(OptionalLong.of(720), engine.remainingQuota("a", Dimension.TOKENS));
        assertEquals(Optional.of(Duration.ofNanos(120_500_000)), engine.providerState("a").latency());
    }

    @Test
    void settlingByNumber() throws GrateException {
        engine.complete(engine.acquire("api").number(), Response.success());
        engine.cancel(engine.acquire("api").number());
        engine.acquire("api").cancel();
        Metrics metrics = engine.metrics();
        assertEquals(List.of(3L, 1L, 2L, 0L), List.of(
                metrics.acquires(), metrics.completions(), metrics.cancellations(), metrics.leasesInFlight()));
    }

    @Test
    void selectReservesNothing() throws GrateException {
        for (int i = 0; i < 5; i++) {
            assertEquals("a", engine.select("api", Request.tokens(10)).provider());
        }
        assertEquals(5, engine.metrics().selects());
        assertEquals(OptionalLong.of(2), engine.remainingQuota("a", Dimension.REQUESTS));
    }

    @Test
    void closingAnUnsettledLeaseGivesItBack() throws GrateException {
        try (Lease lease = engine.acquire("api", Request.tokens(300))) {
            assertEquals("a", lease.provider());
            assertEquals(OptionalLong.of(700), engine.remainingQuota("a", Dimension.TOKENS));
        }
        assertThrows(ArithmeticException.class, () -> {
            try (Lease lease = engine.acquire("api", Request.tokens(300))) {
                throw new ArithmeticException(lease.provider());
            }
        });
        assertEquals(2, engine.metrics().cancellations());
        assertEquals(OptionalLong.of(1000), engine.remainingQuota("a", Dimension.TOKENS));
    }

    @Test
    void closingASettledLeaseDoesNothing() throws GrateException {
        try (Lease lease = engine.acquire("api")) {
            lease.complete(Response.success());
        }
        try (Lease lease = engine.acquire("api")) {
            engine.complete(lease.number(), Response.success());
        }
        try (Lease lease = engine.acquire("api")) {
            clock.advanceSecs(3600); // it expires
            assertEquals("b", lease.provider());
        }
        Metrics metrics = engine.metrics();
        assertEquals(List.of(2L, 0L, 1L), List.of(
                metrics.completions(), metrics.cancellations(), metrics.expiredLeases()));
    }

    @Test
    void aRefusedCompleteLeavesTheLeaseOpen() throws GrateException {
        try (Lease lease = engine.acquire("api")) {
            assertThrows(InvalidArgumentException.class, () -> lease.complete(Response.builder().build()));
        }
        assertEquals(1, engine.metrics().cancellations());
    }

    @Test
    void notGivenAndTrueZero() throws GrateException {
        engine.acquire("api", Request.tokens(300)).complete(Response.success());
        assertEquals(OptionalLong.of(700), engine.remainingQuota("a", Dimension.TOKENS));
        engine.acquire("api", Request.tokens(300)).complete(Response.http(200).tokens(0).requests(0).build());
        assertEquals(OptionalLong.of(700), engine.remainingQuota("a", Dimension.TOKENS));
        assertEquals(OptionalLong.of(1), engine.remainingQuota("a", Dimension.REQUESTS));
        Request none = Request.builder().tokens(0).inputTokens(0).outputTokens(0).bytes(0).costMicroUsd(0).build();
        engine.acquire("api", none).cancel();
        assertEquals(OptionalLong.of(700), engine.remainingQuota("a", Dimension.TOKENS));
    }

    @ParameterizedTest
    @EnumSource
    void everyOutcome(Outcome outcome) throws GrateException {
        engine.acquire("api").complete(Response.of(outcome).build());
        boolean works = outcome == Outcome.SUCCESS || outcome == Outcome.CLIENT_ERROR || outcome == Outcome.CANCELLED;
        assertEquals(works ? 0 : 1, engine.providerState("a").consecutiveFailures());
        boolean limited = outcome == Outcome.RATE_LIMITED || outcome == Outcome.QUOTA_EXHAUSTED;
        assertEquals(limited ? 1 : 0, engine.metrics().rateLimitedResponses());
    }

    @Test
    void outcomeBeforeHttpStatus() throws GrateException {
        engine.observe("a", Response.http(429).build());
        assertEquals(1, engine.metrics().rateLimitedResponses());
        engine.observe("a", Response.http(429).outcome(Outcome.SUCCESS).build());
        assertEquals(1, engine.metrics().rateLimitedResponses());
    }

    @Test
    void retryAfter() throws GrateException {
        engine.observe("a", Response.of(Outcome.RATE_LIMITED).retryAfter(Duration.ofSeconds(45)).build());
        ProviderState state = engine.providerState("a");
        assertEquals(Circuit.OPEN, state.circuit());
        assertEquals(Duration.ofSeconds(45), state.cooldownRemaining());
        engine.observe("b", Response.of(Outcome.RATE_LIMITED).retryAfter(Duration.ZERO).build());
        assertEquals(Circuit.CLOSED, engine.providerState("b").circuit());
    }

    @Test
    void scores() throws GrateException {
        engine.observe("a", Response.success());
        engine.observe("a", Response.http(200).latency(Duration.ofMillis(100)).requests(0).build());
        engine.observe("b", Response.http(200).latency(Duration.ofMillis(50)).requests(0).build());
        Decision decision = engine.select("api", Request.builder().exclude("b").build());
        assertEquals(
                0.40 * decision.quotaScore()
                        + 0.35 * decision.healthScore()
                        + 0.20 * decision.priorityScore()
                        + 0.05 * decision.latencyScore(),
                decision.score(),
                1e-12);
        assertEquals(List.of(1.0, 1.0, 0.5), List.of(
                decision.healthScore(), decision.priorityScore(), decision.latencyScore()));
        assertTrue(decision.secondsToExhaustion() > 0);
    }

    @Test
    void explained() throws GrateException {
        engine.observe("b", Response.of(Outcome.RATE_LIMITED).retryAfter(Duration.ofSeconds(5)).build());
        engine.upsertProvider(ProviderConfig.builder("c").build());
        engine.upsertCapability(
                CapabilityConfig.builder("api").provider("b").provider("c").provider("a").build());
        Decision decision = engine.select("api", Request.builder().exclude("nobody").explain().build());
        assertEquals(List.of("a", "c", "b"), providers(decision));
        assertEquals(List.of(2, 1, 0), decision.candidates().stream().map(Candidate::index).collect(Collectors.toList()));
        Candidate held = decision.candidates().get(2);
        assertEquals(HeldBy.COOLDOWN, held.heldBy());
        assertEquals(Optional.of(Duration.ofSeconds(5)), held.retryAfter());
        assertEquals(decision.score(), decision.candidates().get(0).score());
        assertEquals(Double.POSITIVE_INFINITY, decision.candidates().get(1).secondsToExhaustion());
        assertThrows(UnsupportedOperationException.class, () -> decision.candidates().clear());
        assertThrows(IllegalStateException.class, () -> engine.select("api").candidates());
        try (Lease lease = engine.acquire("api", Request.builder().explain().build())) {
            assertEquals(List.of("a", "c", "b"), providers(lease.decision()));
        }
    }

    private static List<String> providers(Decision decision) {
        return decision.candidates().stream().map(Candidate::provider).collect(Collectors.toList());
    }

    @Test
    void estimatesExclusionAndHeadroom() throws GrateException {
        assertEquals("b", chosen(Request.builder().exclude("a").exclude("unknown")));
        assertEquals("b", chosen(Request.builder().exclude(List.of("a"))));
        assertEquals("b", chosen(Request.builder().exclude("a").build().toBuilder()));
        assertEquals("a", chosen(Request.builder().tokens(900)));
        assertEquals("b", chosen(Request.builder().tokens(900).headroom(0.3)));
        assertEquals("b", chosen(Request.builder().tokens(900).headroom(0.3).build().toBuilder()));
        assertEquals("b", chosen(Request.builder().inputTokens(600).outputTokens(600)));
        assertEquals("a", chosen(Request.builder())); // nothing of the last request is left
    }

    private String chosen(Request.Builder request) throws GrateException {
        return engine.select("api", request.build()).provider();
    }

    @Test
    void everyDimension() throws GrateException {
        engine.upsertProvider(ProviderConfig.builder("all")
                .quota(QuotaConfig.rolling(Dimension.TOKENS, 10, Fixture.MINUTE))
                .quota(QuotaConfig.rolling(Dimension.INPUT_TOKENS, 20, Fixture.MINUTE))
                .quota(QuotaConfig.rolling(Dimension.OUTPUT_TOKENS, 30, Fixture.MINUTE))
                .quota(QuotaConfig.rolling(Dimension.BYTES, 40, Fixture.MINUTE))
                .quota(QuotaConfig.rolling(Dimension.COST_MICRO_USD, 50, Fixture.MINUTE))
                .quota(QuotaConfig.rolling(Dimension.REQUESTS, 3, Fixture.MINUTE))
                .quota(QuotaConfig.concurrency(2))
                .build());
        engine.upsertCapability(CapabilityConfig.builder("all").provider("all").build());
        Lease lease = engine.acquire("all", Request.builder()
                .tokens(1).inputTokens(2).outputTokens(3).bytes(4).costMicroUsd(5).build());
        assertEquals(List.of(2L, 9L, 18L, 27L, 1L, 36L, 45L), remaining("all"));
        lease.complete(Response.http(200)
                .tokens(2).inputTokens(4).outputTokens(6).bytes(8).costMicroUsd(10).requests(2).build());
        assertEquals(List.of(1L, 8L, 16L, 24L, 2L, 32L, 40L), remaining("all"));
    }

    private List<Long> remaining(String provider) throws GrateException {
        List<Long> remaining = new ArrayList<>();
        for (Dimension dimension : Dimension.values()) {
            remaining.add(engine.remainingQuota(provider, dimension).orElse(-1));
        }
        return remaining;
    }

    @Test
    void configurations() throws GrateException {
        engine.configureJson("{\"providers\": [{\"name\": \"ä€😀\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 1, "
                + "\"window\": \"hour\"}]}], \"capabilities\": [{\"name\": \"ü\", \"providers\": [{\"provider\": \"ä€😀\"}]}]}");
        assertEquals(OptionalLong.of(1), engine.remainingQuota("ä€😀", Dimension.REQUESTS));
        assertEquals("ä€😀", engine.select("ü").provider());
        engine.observe("a", Response.success());
        engine.upsertProvider(ProviderConfig.builder("a")
                .quota(QuotaConfig.rolling(Dimension.REQUESTS, 9, Fixture.MINUTE))
                .build());
        assertEquals(OptionalLong.of(8), engine.remainingQuota("a", Dimension.REQUESTS));
        engine.removeProvider("a");
        assertEquals("b", engine.select("api").provider());
        engine.removeCapability("api");
        assertThrows(UnknownCapabilityException.class, () -> engine.select("api"));
    }

    @Test
    void prioritiesAndWeights() throws GrateException {
        engine.upsertCapability(CapabilityConfig.builder("p").provider("a", 0).provider("b", 7).build());
        assertEquals("b", engine.select("p").provider());
        assertEquals(0.0, engine.select("p", Request.builder().exclude("b").build()).priorityScore());
        engine.upsertProvider(ProviderConfig.builder("b").priority(10).weight(0.5).build());
        engine.upsertCapability(CapabilityConfig.builder("p").provider("a", 10).provider("b").build());
        assertEquals(0.5, engine.select("p", Request.builder().exclude("a").build()).priorityScore());
    }

    @Test
    void everySettingOfAnEngine() throws GrateException {
        EngineConfig config = EngineConfig.builder()
                .clock(clock)
                .cooldownTriggerCount(2)
                .weights(0, 1, 0, 0)
                .minHealthForSelection(0.3)
                .ewmaAlpha(0.5)
                .recoveryHalfLife(Duration.ofSeconds(10))
                .cooldownThreshold(0.1)
                .cooldownMultiplier(3)
                .maxCooldown(Duration.ofSeconds(20))
                .leaseTtl(Duration.ofSeconds(5))
                .skew(Duration.ZERO)
                .estimateQuantile(0.9)
                .maxRetryAfter(Duration.ofSeconds(40))
                .build();
        try (Engine engine = new Engine(config)) {
            engine.upsertProvider(ProviderConfig.builder("a")
                    .quota(QuotaConfig.rolling(Dimension.REQUESTS, 5, Duration.ofSeconds(1)))
                    .build());
            engine.upsertCapability(CapabilityConfig.builder("api").provider("a").build());
            engine.acquire("api").complete(Response.success());
            clock.advanceMs(1000);
            assertEquals(OptionalLong.of(5), engine.remainingQuota("a", Dimension.REQUESTS), "no skew");
            engine.acquire("api");
            clock.advanceSecs(5);
            assertEquals(1, engine.metrics().expiredLeases(), "lease ttl");
            engine.observe("a", Response.of(Outcome.TIMEOUT).build());
            assertEquals(0.6, engine.providerHealth("a"), 1e-12, "alpha");
            assertEquals(0.6, engine.select("api").score(), 1e-12, "weights");
            clock.advanceSecs(10);
            assertEquals(0.8, engine.providerHealth("a"), 1e-12, "half-life");
            engine.observe("a", Response.of(Outcome.TIMEOUT).build());
            assertEquals(Duration.ofSeconds(20), engine.providerState("a").cooldownRemaining(), "trigger, longest");
            clock.advanceSecs(60);
            engine.observe("a", Response.of(Outcome.RATE_LIMITED).retryAfter(Duration.ofSeconds(50)).build());
            assertEquals(Duration.ofSeconds(40), engine.providerState("a").cooldownRemaining(), "longest retry-after");
            assertEquals(1, engine.metrics().cappedWaits());
        }
    }

    @Test
    void everyStrategy() throws GrateException {
        engine.upsertProvider(ProviderConfig.builder("s")
                .quota(QuotaConfig.tokenBucket(Dimension.REQUESTS, 10, Duration.ofSeconds(1), 20))
                .quota(QuotaConfig.fixedWindow(Dimension.TOKENS, 100, Duration.ofDays(1), Duration.ofHours(8)))
                .quota(QuotaConfig.fixedWindow(Dimension.BYTES, 100, Duration.ofDays(1), Duration.ofHours(-8)))
                .quota(QuotaConfig.rolling(Dimension.TOKENS, 50, Fixture.MINUTE).inPool("account"))
                .quota(QuotaConfig.concurrency(4).inPool("slots"))
                .build());
        Map<Strategy, QuotaState> byStrategy = new HashMap<>();
        for (QuotaState quota : engine.providerState("s").quotas()) {
            byStrategy.put(quota.strategy(), quota);
        }
        assertEquals(20, byStrategy.get(Strategy.TOKEN_BUCKET).remaining());
        assertEquals(OptionalLong.of(10), byStrategy.get(Strategy.TOKEN_BUCKET).limit());
        assertEquals(Optional.of(Duration.ofDays(1)), byStrategy.get(Strategy.FIXED_WINDOW).window());
        assertEquals(Optional.empty(), byStrategy.get(Strategy.FIXED_WINDOW).pool());
        assertEquals(Optional.of("account"), byStrategy.get(Strategy.ROLLING).pool());
        assertEquals(Optional.empty(), byStrategy.get(Strategy.CONCURRENCY).window());
        assertEquals(Optional.of("slots"), byStrategy.get(Strategy.CONCURRENCY).pool());
    }

    @Test
    void providerState() throws GrateException {
        engine.observe("a", Response.of(Outcome.TIMEOUT).latency(Duration.ofMillis(700)).tokens(30).build());
        ProviderState state = engine.providerState("a");
        assertEquals(Circuit.CLOSED, state.circuit());
        assertEquals(engine.providerHealth("a"), state.health());
        assertEquals(0.8, state.health(), 1e-9);
        assertEquals(List.of(1L, 1L, 0L), List.of(
                state.consecutiveFailures(), state.observations(), state.leasesInFlight()));
        QuotaState tokens = state.quotas().get(1);
        assertEquals(Dimension.TOKENS, tokens.dimension());
        assertEquals(List.of(30L, 970L, 0L), List.of(tokens.used(), tokens.remaining(), tokens.margin()));
        assertEquals(OptionalLong.of(1000), tokens.effectiveLimit());
        assertEquals(LimitSource.CONFIGURED, tokens.limitSource());
        assertTrue(tokens.predictedShare() > 0.9 && tokens.predictedShare() <= 1);
        assertTrue(tokens.burnPerSec() > 0 && tokens.secondsToExhaustion() > 0);
    }

    @Test
    void prometheus() throws GrateException {
        for (int i = 100; i < 200; i++) {
            engine.upsertProvider(ProviderConfig.builder("provider-" + i).build());
        }
        engine.acquire("api");
        String text = engine.prometheus();
        assertTrue(text.length() > 8192); // more than the first buffer
        assertTrue(text.contains("\ngrate_acquires_total 1\n"));
        assertTrue(text.contains("provider-199") && text.endsWith("\n"));
    }

    @Test
    void headersTakeEffect() throws GrateException {
        engine.observe("b", Response.http(429).header("Retry-After", "45").build());
        assertEquals(Duration.ofSeconds(45), engine.providerState("b").cooldownRemaining());
        Map<String, List<String>> fields = new HashMap<>();
        fields.put(null, List.of("HTTP/1.1 200 OK")); // as URLConnection has it
        fields.put("X-RateLimit-Limit-Tokens", List.of("1000"));
        fields.put("X-RateLimit-Remaining-Tokens", List.of("250"));
        fields.put("X-RateLimit-Reset-Tokens", List.of("30s"));
        fields.put("X-Odd", List.of("", "\u20ac", "caf\u00e9"));
        engine.acquire("api", Request.tokens(100)).complete(Response.http(200).headers(fields).build());
        assertEquals(OptionalLong.of(250), engine.remainingQuota("a", Dimension.TOKENS));
    }

    @Test
    void theSystemsClock() throws GrateException {
        try (Engine engine = new Engine()) {
            engine.upsertProvider(ProviderConfig.builder("a")
                    .quota(QuotaConfig.rolling(Dimension.REQUESTS, 5, Fixture.MINUTE))
                    .build());
            engine.upsertCapability(CapabilityConfig.builder("api").provider("a").build());
            engine.acquire("api").complete(Response.success());
            assertEquals(OptionalLong.of(4), engine.remainingQuota("a", Dimension.REQUESTS));
        }
    }

    @Test
    void mockClock() throws GrateException {
        assertEquals(0, clock.nowNs());
        clock.advanceMs(5);
        clock.advanceSecs(2);
        assertEquals(2_005_000_000, clock.nowNs());
        clock.setNs(7);
        assertEquals(7, clock.nowNs());
        clock.close();
        assertEquals("a", engine.select("api").provider()); // the engine keeps what it needs
    }

    @Test
    void texts() throws GrateException {
        assertTrue(engine.metrics().toString().startsWith("Metrics[selects=0, acquires=0"));
        assertTrue(engine.select("api").toString().startsWith("Decision[a, score "));
        assertTrue(engine.acquire("api").toString().contains("Decision[a, score "));
        assertTrue(engine.providerState("a").toString().contains("REQUESTS"));
    }
}
