package io.github.libgrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Engines whose state is in a file: several JVMs, and a restart, have one quota. */
@Timeout(120)
class SharedTest {
    @TempDir
    Path folder;

    private static EngineConfig.Builder at(Path file) {
        return EngineConfig.builder().statePath(file);
    }

    /** Serves "api" by 1000 requests an hour, of which 3 may be in flight. */
    private static Engine sharing(EngineConfig.Builder config) throws GrateException {
        Engine engine = new Engine(config.build());
        engine.upsertProvider(ProviderConfig.builder("a")
                .quota(QuotaConfig.rolling(Dimension.REQUESTS, 1000, Duration.ofHours(1)))
                .quota(QuotaConfig.concurrency(3))
                .build());
        engine.upsertCapability(CapabilityConfig.builder("api").provider("a").build());
        return engine;
    }

    private static int served(Engine engine, int most) throws GrateException {
        for (int count = 0; ; count++) {
            if (count == most) {
                return count;
            }
            try {
                engine.acquire("api").complete(Response.success());
            } catch (NoAvailableProvidersException none) {
                return count;
            }
        }
    }

    @Test
    void processesShareAQuota() throws Exception {
        Path state = folder.resolve("state");
        try (Engine engine = sharing(at(state))) {
            List<Process> workers = new ArrayList<>();
            for (int i = 0; i < 2; i++) {
                workers.add(Fixture.java(folder.resolve("output" + i), List.of(), Worker.class, state.toString()));
            }
            for (int i = 0; i < 2; i++) {
                assertEquals(0, workers.get(i).waitFor());
                assertEquals("300\n", Files.readString(folder.resolve("output" + i)));
            }
            // Each of them ended with a lease in flight, whose slot is free again, and whose unit stays counted.
            while (engine.remainingQuota("a", Dimension.CONCURRENCY).getAsLong() < 3) {
                Thread.sleep(20);
            }
            assertEquals(398, served(engine, Integer.MAX_VALUE));
        }
    }

    @Test
    void aRestartKeepsTheUsage() throws Exception {
        Path state = folder.resolve(EngineConfig.PATHS.newEncoder().canEncode('\u00e4') ? "st\u00e4te" : "state");
        try (Engine engine = sharing(at(state))) {
            assertEquals(400, served(engine, 400));
        }
        try (Engine engine = sharing(at(state))) {
            assertEquals(600, served(engine, Integer.MAX_VALUE));
        }
    }

    @Test
    void aFileThatCannotBeUsed() throws Exception {
        Path state = folder.resolve("state");
        Files.writeString(state, "something else");
        StateFileException refused = assertThrows(StateFileException.class, () -> sharing(at(state)));
        assertEquals(14, refused.code());
        assertEquals("GRATE_ERR_STATE_FILE", refused.name());
        assertTrue(refused.getMessage().contains("'" + state + "' is not a state file"), refused.getMessage());
        try (Engine engine = sharing(at(state).stateSize(1 << 20).replaceUnusableState(true))) {
            assertEquals(1 << 20, Files.size(state));
            assertEquals(1000, served(engine, Integer.MAX_VALUE));
        }
        assertThrows(StateFileException.class, () -> sharing(at(state.resolve("none"))));
        assertThrows(InvalidConfigException.class, () -> sharing(at(folder.resolve("small")).stateSize(1)));
        assertThrows(InvalidArgumentException.class, () -> sharing(at(Path.of(""))));
        assertThrows(IllegalArgumentException.class, () -> EngineConfig.builder().stateSize(-1));
    }

    static final class Worker {
        private Worker() {}

        public static void main(String[] arguments) throws GrateException {
            Engine engine = sharing(at(Path.of(arguments[0])));
            System.out.println(served(engine, 300));
            engine.acquire("api");
            Runtime.getRuntime().halt(0);
        }
    }
}
