package io.github.libgrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;

class HeadersTest {
    private static final Instant NOW = Instant.ofEpochMilli(Fixture.NEW_YEAR_MS);

    @Test
    void nothing() throws GrateException {
        for (Map<String, List<String>> fields : List.of(
                Map.<String, List<String>>of(), Map.of("Content-Type", List.of("text/plain")), Map.of("", List.of("")))) {
            HeaderReport report = Grate.parseHeaders(fields, NOW);
            assertFalse(report.cached());
            assertEquals(Optional.empty(), report.retryAfter());
            assertEquals(List.of(), report.quotas());
        }
    }

    @Test
    void retryAfterAndAge() throws GrateException {
        HeaderReport report = Grate.parseHeaders(
                Map.of("retry-after", List.of("Thu, 01 Jan 2026 00:00:45 GMT"), "Age", List.of("7")), NOW);
        assertEquals(Optional.of(Duration.ofSeconds(45)), report.retryAfter());
        assertTrue(report.cached());
    }

    @Test
    void quotas() throws GrateException {
        HeaderReport report = Grate.parseHeaders(
                Map.of(
                        "x-ratelimit-limit-requests", List.of("60"),
                        "x-ratelimit-remaining-requests", List.of("59"),
                        "x-ratelimit-reset-requests", List.of("1s"),
                        "RateLimit-Policy", List.of("\"burst\";q=100;w=60"),
                        "RateLimit", List.of("\"burst\";r=50;t=30")),
                NOW);
        assertEquals(1, report.quotas().stream()
                .filter(quota -> quota.dimension() == Dimension.REQUESTS
                        && quota.limit().equals(OptionalLong.of(60))
                        && quota.remaining().equals(OptionalLong.of(59))
                        && quota.resetIn().equals(Optional.of(Duration.ofSeconds(1)))
                        && quota.window().isEmpty())
                .count(), report.toString());
        assertEquals(1, report.quotas().stream()
                .filter(quota -> quota.limit().equals(OptionalLong.of(100))
                        && quota.remaining().equals(OptionalLong.of(50))
                        && quota.window().equals(Optional.of(Duration.ofSeconds(60))))
                .count(), report.toString());
    }

    @Test
    void beforeTheEpoch() {
        assertThrows(IllegalArgumentException.class, () -> Grate.parseHeaders(Map.of(), Instant.ofEpochMilli(-1)));
    }
}
