package io.github.libgrate;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/** What tests share. Maven runs them in the folder of the binding. */
final class Fixture {
    static final Path ROOT = Path.of("..", "..").toAbsolutePath().normalize();
    /** Midnight UTC. */
    static final long NEW_YEAR_MS = 1767225600000L;

    static final Duration MINUTE = Duration.ofMinutes(1);

    private Fixture() {}

    static Engine engine(MockClock clock) throws GrateException {
        return new Engine(EngineConfig.builder().clock(clock).build());
    }

    /** Serves "api" by a (2 requests and 1000 tokens a minute, priority 10) and b (no quotas, priority 5). */
    static Engine twoProviders(MockClock clock) throws GrateException {
        Engine engine = engine(clock);
        engine.upsertProvider(ProviderConfig.builder("a")
                .priority(10)
                .quota(QuotaConfig.rolling(Dimension.REQUESTS, 2, MINUTE))
                .quota(QuotaConfig.rolling(Dimension.TOKENS, 1000, MINUTE))
                .build());
        engine.upsertProvider(ProviderConfig.builder("b").priority(5).build());
        engine.upsertCapability(CapabilityConfig.builder("api").provider("a").provider("b").build());
        return engine;
    }

    /** Another JVM that runs a class of the tests; its output and errors in one file. */
    static Process java(Path output, List<String> options, Class<?> main, String... arguments) throws IOException {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(options);
        command.add("-cp");
        command.add(classPath());
        command.add(main.getName());
        command.addAll(List.of(arguments));
        return new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(output.toFile())
                .start();
    }

    static String classPath() throws IOException {
        String dependencies = Files.readString(Path.of("target", "classpath")).trim();
        return String.join(File.pathSeparator, "target/classes", "target/test-classes", dependencies);
    }
}
