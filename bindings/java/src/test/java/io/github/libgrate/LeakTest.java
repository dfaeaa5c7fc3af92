package io.github.libgrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A million requests leave nothing behind, in a JVM whose own memory is touched from the start. */
class LeakTest {
    private static final long MOST_KIB = 4096;

    @Test
    void aMillionRequests(@TempDir Path folder) throws Exception {
        Path output = folder.resolve("output");
        Process process = Fixture.java(
                output,
                List.of("-Xms48m", "-Xmx48m", "-XX:+AlwaysPreTouch", "-XX:+UseSerialGC", "-XX:ReservedCodeCacheSize=32m"),
                Requests.class);
        assertEquals(0, process.waitFor(), () -> read(output));
        String[] kib = Files.readString(output).trim().split(" ");
        long grown = Long.parseLong(kib[1]) - Long.parseLong(kib[0]);
        System.out.println("a million requests: " + grown + " KiB more");
        assertTrue(grown < MOST_KIB, grown + " KiB");
    }

    private static String read(Path output) {
        try {
            return Files.readString(output);
        } catch (IOException error) {
            return error.toString();
        }
    }

    static final class Requests {
        private static final int WARM_UP = 100_000;
        private static final int PAIRS = 1_000_000;

        private Requests() {}

        public static void main(String[] arguments) throws Exception {
            try (Engine engine = new Engine()) {
                engine.upsertProvider(ProviderConfig.builder("a")
                        .quota(QuotaConfig.rolling(Dimension.REQUESTS, 1_000_000_000, Fixture.MINUTE))
                        .build());
                engine.upsertCapability(CapabilityConfig.builder("api").provider("a").build());
                long before = 0;
                for (int i = 0; i < PAIRS; i++) {
                    if (i == WARM_UP) {
                        before = residentKib();
                    }
                    Lease lease = engine.acquire("api", Request.builder().tokens(i).exclude("b").build());
                    Response.Builder response = Response.http(200).tokens(i);
                    if (i % 4 == 0) {
                        response.header("x-ratelimit-remaining-requests", "500000000").header("Content-Type", "text/plain");
                    }
                    lease.complete(response.build());
                }
                System.out.println(before + " " + residentKib());
            }
        }

        private static long residentKib() throws Exception {
            for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
                if (line.startsWith("VmRSS:")) {
                    return Long.parseLong(line.replaceAll("\\D", ""));
                }
            }
            throw new IllegalStateException("no VmRSS");
        }
    }
}
