package io.github.libgrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** Replays the scenarios of {@code conformance/}; its README has the format and the rules. */
class ConformanceTest {
    @TestFactory
    List<DynamicTest> scenarios() throws IOException {
        List<Path> files;
        try (Stream<Path> all = Files.list(Fixture.ROOT.resolve("conformance"))) {
            files = all.filter(file -> file.toString().endsWith(".json")).sorted().collect(Collectors.toList());
        }
        List<DynamicTest> tests = new ArrayList<>();
        Set<String> names = new HashSet<>();
        for (Path file : files) {
            for (JsonElement scenario : JsonParser.parseString(Files.readString(file)).getAsJsonArray()) {
                String name = scenario.getAsJsonObject().get("name").getAsString();
                assertTrue(names.add(name), name);
                tests.add(DynamicTest.dynamicTest(name, () -> {
                    List<Object> once = new Replay(scenario.getAsJsonObject()).run();
                    assertEquals(once, new Replay(scenario.getAsJsonObject()).run(), "a second replay decides otherwise");
                }));
            }
        }
        assertFalse(tests.isEmpty());
        System.out.println("conformance: " + tests.size() + " scenarios");
        return tests;
    }
}
