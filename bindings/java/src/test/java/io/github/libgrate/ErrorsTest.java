package io.github.libgrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Every error: its class, code and name; and that nothing wraps or is cut silently. */
class ErrorsTest {
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

    private static <T extends GrateException> T refused(Class<T> kind, int code, String name, Executable call) {
        T error = assertThrows(kind, call);
        assertEquals(code, error.code());
        assertEquals(name, error.name());
        return error;
    }

    @Test
    void unknownNames() {
        String unknownProvider = "GRATE_ERR_UNKNOWN_PROVIDER";
        for (Executable call : List.<Executable>of(
                () -> engine.observe("nope", Response.success()),
                () -> engine.providerHealth("nope"),
                () -> engine.providerInCooldown("nope"),
                () -> engine.remainingQuota("nope", Dimension.REQUESTS),
                () -> engine.providerState("nope"),
                () -> engine.removeProvider("nope"),
                () -> engine.upsertCapability(CapabilityConfig.builder("x").provider("nope").build()))) {
            assertTrue(refused(UnknownProviderException.class, 8, unknownProvider, call).getMessage().contains("nope"));
        }
        for (Executable call : List.<Executable>of(
                () -> engine.acquire("nope"), () -> engine.select("nope"), () -> engine.removeCapability("nope"))) {
            refused(UnknownCapabilityException.class, 7, "GRATE_ERR_UNKNOWN_CAPABILITY", call);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "a\nb", "a\0b", "\u00e9\0", "a\ud800", "\udc00"})
    void invalidNames(String name) {
        for (Executable call : List.<Executable>of(
                () -> engine.acquire(name),
                () -> engine.observe(name, Response.success()),
                () -> engine.upsertProvider(ProviderConfig.builder(name).build()))) {
            refused(InvalidNameException.class, 3, "GRATE_ERR_INVALID_NAME", call);
        }
    }

    @Test
    void namesOfAnyLength() throws GrateException {
        for (String letter : List.of("x", "\u00e9", "\u20ac", "\ud83d\ude00")) {
            int bytes = letter.getBytes(StandardCharsets.UTF_8).length;
            String longest = letter.repeat(128 / bytes);
            engine.upsertProvider(ProviderConfig.builder(longest).build());
            engine.upsertCapability(CapabilityConfig.builder(longest).provider(longest).build());
            assertEquals(longest, engine.select(longest).provider());
            for (String tooLong : List.of(longest + letter, letter.repeat(10_000))) {
                assertThrows(InvalidNameException.class, () -> engine.select(tooLong));
                assertThrows(InvalidNameException.class,
                        () -> engine.select("api", Request.builder().exclude(tooLong).build()));
                assertThrows(InvalidNameException.class,
                        () -> engine.upsertProvider(ProviderConfig.builder(tooLong).build()));
            }
        }
    }

    @Test
    void nulls() {
        // What the last call left in the memory that is used again does not stand for what is missing.
        assertThrows(InvalidNameException.class, () -> engine.acquire("api\0x"));
        for (Executable call : List.<Executable>of(
                () -> engine.acquire(null),
                () -> engine.acquire("api", null),
                () -> engine.observe("a", null),
                () -> engine.configureJson(null),
                () -> Request.builder().exclude((String) null),
                () -> Response.http(200).header("x", null),
                () -> ProviderConfig.builder(null))) {
            assertThrows(NullPointerException.class, call);
        }
    }

    @Test
    void numbersThatDoNotFit() throws GrateException {
        for (Executable call : List.<Executable>of(
                () -> Request.tokens(-1),
                () -> Request.builder().bytes(Long.MIN_VALUE),
                () -> Response.http(200).requests(-1),
                () -> Response.http(200).latency(Duration.ofNanos(-1)),
                () -> Response.http(200).retryAfter(Duration.ofSeconds(Long.MAX_VALUE)),
                () -> QuotaConfig.rolling(Dimension.REQUESTS, -1, Fixture.MINUTE),
                () -> ProviderConfig.builder("x").priority(-1),
                () -> CapabilityConfig.builder("x").provider("a", -1),
                () -> EngineConfig.builder().leaseTtl(Duration.ofSeconds(-1)),
                () -> new MockClock(-1),
                () -> clock.advanceMs(-1),
                () -> clock.advanceSecs(-1),
                () -> clock.setNs(-1))) {
            assertThrows(IllegalArgumentException.class, call);
        }
        assertEquals(0, engine.metrics().acquires());
    }

    @Test
    void argumentsThatTheLibraryRefuses() {
        String name = "GRATE_ERR_INVALID_ARGUMENT";
        for (Executable call : List.<Executable>of(
                () -> engine.select("api", Request.builder().headroom(1).build()),
                () -> engine.select("api", Request.builder().headroom(Double.NaN).build()),
                () -> engine.select("api", Request.builder().exclude(Collections.nCopies(65, "a")).build()),
                () -> engine.observe("a", Response.http(99).build()),
                () -> engine.observe("a", Response.builder().build()))) {
            refused(InvalidArgumentException.class, 4, name, call);
        }
    }

    @Test
    void configurations() {
        for (String json : List.of("{", "{\"nope\": 1}", "", "\0", "\"\ud800\"")) {
            refused(InvalidJsonException.class, 6, "GRATE_ERR_INVALID_JSON", () -> engine.configureJson(json));
        }
        String noWindow = "{\"providers\": [{\"name\": \"c\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 1}]}]}";
        InvalidConfigException error = refused(
                InvalidConfigException.class, 5, "GRATE_ERR_INVALID_CONFIG", () -> engine.configureJson(noWindow));
        assertTrue(error.getMessage().contains("window"));
        refused(InvalidConfigException.class, 5, "GRATE_ERR_INVALID_CONFIG",
                () -> engine.upsertProvider(ProviderConfig.builder("c").priority(1_000_001).build()));
        refused(InvalidConfigException.class, 5, "GRATE_ERR_INVALID_CONFIG",
                () -> new Engine(EngineConfig.builder().ewmaAlpha(7).build()));
        assertInstanceOf(InvalidConfigException.class,
                assertThrows(InvalidJsonException.class, () -> engine.configureJson("[")));
    }

    @Test
    void staleLeases() throws GrateException {
        Lease lease = engine.acquire("api");
        lease.complete(Response.success());
        for (Executable call : List.<Executable>of(
                () -> lease.complete(Response.success()),
                lease::cancel,
                () -> engine.complete(lease.number(), Response.success()),
                () -> engine.cancel(12345),
                () -> engine.cancel(0),
                () -> engine.cancel(-1))) {
            refused(StaleLeaseException.class, 10, "GRATE_ERR_STALE_LEASE", call);
        }
        lease.close();
    }

    @Test
    void noneAvailable() throws GrateException {
        Request notB = Request.builder().exclude("b").explain().build();
        engine.acquire("api", notB).complete(Response.success());
        clock.advanceSecs(12);
        engine.acquire("api", notB).complete(Response.success());
        NoAvailableProvidersException error = refused(
                NoAvailableProvidersException.class, 9, "GRATE_ERR_NO_PROVIDER_AVAILABLE", () -> engine.acquire("api", notB));
        assertEquals(Optional.of("a"), error.provider());
        assertEquals(HeldBy.QUOTA, error.reason());
        Duration wait = error.retryAfter().orElseThrow();
        assertTrue(wait.compareTo(Duration.ofMillis(48_000)) >= 0 && wait.compareTo(Duration.ofMillis(48_100)) <= 0);
        assertEquals(Optional.of(Dimension.REQUESTS), error.decision().heldDimension());
        assertEquals(Optional.of(Fixture.MINUTE), error.decision().heldWindow());
        assertEquals(HeldBy.EXCLUSION, error.decision().candidates().get(1).heldBy());
        assertTrue(error.getMessage().matches(
                "no provider available: 'a' frees first, in 480\\d\\d ms \\(quota of requests per 60 s\\)"), error.getMessage());
    }

    @Test
    void noneEverAvailable() throws GrateException {
        NoAvailableProvidersException tooLarge = assertThrows(NoAvailableProvidersException.class,
                () -> engine.select("api", Request.builder().tokens(1001).exclude("b").build()));
        assertEquals(Optional.empty(), tooLarge.retryAfter());
        assertEquals(
                "no provider available: 'a' is held by its quota of tokens per 60 s, and waiting does not help",
                tooLarge.getMessage());
        engine.upsertCapability(CapabilityConfig.builder("empty").build());
        NoAvailableProvidersException empty =
                assertThrows(NoAvailableProvidersException.class, () -> engine.select("empty"));
        assertEquals(Optional.empty(), empty.provider());
        assertEquals(Optional.empty(), empty.retryAfter());
        assertEquals(HeldBy.NOTHING, empty.reason());
        assertEquals("no provider available: the capability has none", empty.getMessage());
    }

    @Test
    void errorsAreSerializable() throws Exception {
        Request tooLarge = Request.builder().tokens(1001).exclude("b").explain().build();
        NoAvailableProvidersException error =
                assertThrows(NoAvailableProvidersException.class, () -> engine.select("api", tooLarge));
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
            out.writeObject(error);
        }
        try (ObjectInputStream in = new ObjectInputStream(new ByteArrayInputStream(bytes.toByteArray()))) {
            NoAvailableProvidersException read = (NoAvailableProvidersException) in.readObject();
            assertEquals(error.provider(), read.provider());
            assertEquals(2, read.decision().candidates().size());
        }
    }

    @Test
    void statusNames() {
        assertEquals("GRATE_OK", Grate.statusName(0));
        assertEquals("GRATE_ERR_PANIC", Grate.statusName(13));
        assertEquals("GRATE_ERR_UNKNOWN", Grate.statusName(-7));
        GrateException bug = GrateException.of(13, "");
        assertInstanceOf(InternalErrorException.class, bug);
        assertEquals("GRATE_ERR_PANIC", bug.name());
        assertInstanceOf(CapacityExceededException.class, GrateException.of(12, ""));
    }

    @Test
    void aLibraryThatCannotBeUsed(@TempDir Path folder) throws Exception {
        Path output = folder.resolve("output");
        Fixture.java(output, List.of("-Dgrate.library=/nowhere/libgrate.so"), PrintVersion.class).waitFor();
        String missing = Files.readString(output);
        assertTrue(missing.contains("UnsatisfiedLinkError") && missing.contains("/nowhere/libgrate.so"), missing);
        assertTrue(missing.contains("GRATE_LIBRARY"), missing);

        Fixture.java(output, List.of("-Dgrate.library="), PrintVersion.class).waitFor(); // empty: as if it were not set
        String found = Files.readString(output);
        assertTrue(found.trim().endsWith(Grate.versionString()), found);

        Path other = folder.resolve("libother.so");
        Process compiler = new ProcessBuilder("cc", "-shared", "-x", "c", "-o", other.toString(), "-")
                .redirectErrorStream(true)
                .start();
        try (var source = compiler.getOutputStream()) {
            source.write("unsigned grate_version(void) { return 1000000; }".getBytes());
        }
        assertEquals(0, compiler.waitFor());
        Fixture.java(output, List.of("-Dgrate.library=" + other), PrintVersion.class).waitFor();
        String foreign = Files.readString(output);
        assertTrue(foreign.contains("UnsatisfiedLinkError") && foreign.contains("libother.so"), foreign);
    }

    @Test
    void versions() {
        assertTrue(Grate.versionString().matches("\\d+\\.\\d+\\.\\d+"));
        String[] parts = Grate.versionString().split("\\.");
        assertEquals(
                Integer.parseInt(parts[0]) * 1_000_000 + Integer.parseInt(parts[1]) * 1000 + Integer.parseInt(parts[2]),
                Grate.version());
    }

    static final class PrintVersion {
        private PrintVersion() {}

        public static void main(String[] arguments) {
            System.out.println(Grate.versionString());
        }
    }
}
