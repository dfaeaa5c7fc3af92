package io.github.libgrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.ref.WeakReference;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

/** Closing, forgetting and exiting. */
class LifecycleTest {
    private final MockClock clock = new MockClock(0);

    @Test
    void useAfterClose() throws GrateException {
        Engine engine = Fixture.twoProviders(clock);
        Lease lease = engine.acquire("api");
        engine.close();
        engine.close();
        assertTrue(engine.isClosed());
        for (Executable call : List.<Executable>of(
                () -> engine.acquire("api"),
                () -> engine.select("api"),
                () -> lease.complete(Response.success()),
                lease::cancel,
                () -> engine.observe("a", Response.success()),
                () -> engine.configureJson("{}"),
                () -> engine.upsertProvider(ProviderConfig.builder("x").build()),
                () -> engine.upsertCapability(CapabilityConfig.builder("x").build()),
                () -> engine.removeProvider("a"),
                () -> engine.removeCapability("api"),
                () -> engine.providerHealth("a"),
                () -> engine.providerInCooldown("a"),
                () -> engine.remainingQuota("a", Dimension.REQUESTS),
                () -> engine.providerState("a"),
                engine::metrics,
                engine::prometheus)) {
            IllegalStateException error = assertThrows(IllegalStateException.class, call);
            assertEquals("this engine is closed", error.getMessage());
        }
        lease.close(); // gone with its engine
        assertEquals("a", lease.provider());
        clock.close();
        clock.close();
        assertThrows(IllegalStateException.class, clock::nowNs);
        assertThrows(IllegalStateException.class, () -> Fixture.engine(clock));
    }

    @Test
    void aCallUnderWayIsFinishedFirst() {
        AtomicInteger freed = new AtomicInteger();
        Handle handle = new Handle(new Object(), "thing", 7, address -> freed.addAndGet((int) address));
        List<Scratch> calls = new ArrayList<>();
        for (int i = 0; i < 1000; i++) {
            calls.add(handle.enter());
        }
        handle.leave(calls.remove(0));
        handle.close();
        handle.close();
        assertThrows(IllegalStateException.class, handle::enter);
        Scratch last = calls.remove(0);
        calls.forEach(handle::leave);
        assertEquals(0, freed.get());
        handle.leave(last);
        assertEquals(7, freed.get());
        assertThrows(IllegalStateException.class, handle::enter);
        assertEquals(7, freed.get());
    }

    @Test
    void whatIsForgottenIsFreedOnce() throws Exception {
        AtomicInteger freed = new AtomicInteger();
        Handle handle = new Handle(new Object(), "thing", 7, address -> freed.addAndGet((int) address));
        for (int i = 0; i < 100 && freed.get() == 0; i++) {
            System.gc();
            Thread.sleep(20);
        }
        assertEquals(7, freed.get());
        handle.close();
        assertEquals(7, freed.get());
    }

    @Test
    void aForgottenEngineGoesWithItsLeases() throws Exception {
        Engine engine = Fixture.twoProviders(clock);
        Lease lease = engine.acquire("api");
        WeakReference<Engine> reference = new WeakReference<>(engine);
        engine = null;
        System.gc();
        assertNotNull(reference.get(), "the lease needs its engine");
        lease.complete(Response.success());
        lease = null;
        for (int i = 0; i < 100 && reference.get() != null; i++) {
            System.gc();
            Thread.sleep(20);
        }
        assertNull(reference.get());
    }

    @Test
    void theExitOfTheProcessIsQuiet(@TempDir Path folder) throws Exception {
        Path output = folder.resolve("output");
        boolean asks = Runtime.version().feature() >= 22; // these warn of native code that nobody allowed
        List<String> options = asks ? List.of("--enable-native-access=ALL-UNNAMED") : List.of();
        Process process = Fixture.java(output, options, ExitUnderLoad.class);
        assertTrue(process.waitFor(60, TimeUnit.SECONDS));
        assertEquals("", Files.readString(output));
        assertEquals(0, process.exitValue());
    }

    /** Exits while daemon threads are in calls, leases are open and nothing is closed. */
    static final class ExitUnderLoad {
        private ExitUnderLoad() {}

        public static void main(String[] arguments) throws Exception {
            Engine engine = Fixture.twoProviders(new MockClock(0));
            engine.acquire("api");
            for (int i = 0; i < 4; i++) {
                Thread thread = new Thread(() -> {
                    while (true) {
                        try {
                            engine.acquire("api").complete(Response.success());
                        } catch (GrateException error) {
                            throw new IllegalStateException(error);
                        }
                    }
                });
                thread.setDaemon(true);
                thread.start();
            }
            Thread.sleep(200);
        }
    }
}
