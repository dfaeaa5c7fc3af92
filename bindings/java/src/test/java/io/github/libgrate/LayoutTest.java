package io.github.libgrate;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Structs and constants against the header, by the C compiler. */
class LayoutTest {
    private static final Path HEADER = Fixture.ROOT.resolve("include/grate.h");

    @Test
    void structsAndConstants(@TempDir Path folder) throws Exception {
        Map<String, Long> ours = new LinkedHashMap<>();
        for (Layout layout : Structs.all()) {
            ours.put("sizeof(" + layout.name + ")", (long) layout.size());
            layout.offsets().forEach((field, offset) -> ours.put("offsetof(" + layout.name + ", " + field + ")", (long) offset));
        }
        ours.putAll(constants());
        assertEquals(ours, askTheCompiler(folder, ours.keySet()));
    }

    @Test
    void everyStructAndFieldIsThere() throws IOException {
        String header = Files.readString(HEADER).replaceAll("(?s)/\\*.*?\\*/", "");
        Map<String, List<String>> declared = new HashMap<>();
        Matcher struct = Pattern.compile("(?s)typedef struct \\{(.*?)\\}\\s*(grate_\\w+);").matcher(header);
        while (struct.find()) {
            Matcher field = Pattern.compile("(\\w+)(\\[\\w+\\])?;").matcher(struct.group(1));
            declared.put(struct.group(2), field.results().map(found -> found.group(1)).collect(
                    Collectors.toList()));
        }
        Map<String, List<String>> ours = new HashMap<>();
        Structs.all().forEach(layout -> ours.put(layout.name, List.copyOf(layout.offsets().keySet())));
        assertEquals(declared, ours);
    }

    @Test
    void whatDecisionAndCandidateShare() {
        Map<String, Integer> decision = Structs.Decision.LAYOUT.offsets();
        int shift = decision.get("provider") - Structs.Candidate.PROVIDER;
        Structs.Candidate.LAYOUT.offsets().forEach((field, offset) -> assertEquals(
                offset + (offset >= Structs.Candidate.PROVIDER ? shift : 0), decision.get(field), field));
    }

    private static Map<String, Long> constants() {
        Map<String, Long> constants = new LinkedHashMap<>();
        for (Dimension dimension : Dimension.values()) {
            constants.put("GRATE_DIMENSION_" + dimension, (long) dimension.code());
        }
        for (Strategy strategy : Strategy.values()) {
            constants.put("GRATE_STRATEGY_" + strategy, (long) strategy.code());
        }
        for (Outcome outcome : Outcome.values()) {
            constants.put("GRATE_OUTCOME_" + outcome, (long) outcome.code());
        }
        for (HeldBy heldBy : HeldBy.values()) {
            constants.put("GRATE_HELD_BY_" + heldBy, (long) heldBy.ordinal());
        }
        for (Circuit circuit : Circuit.values()) {
            constants.put("GRATE_CIRCUIT_" + circuit, (long) circuit.ordinal());
        }
        for (LimitSource source : LimitSource.values()) {
            constants.put("GRATE_LIMIT_" + source, (long) source.ordinal());
        }
        constants.put("GRATE_OK", (long) LibGrate.OK);
        constants.put("GRATE_ERR_INVALID_NAME", (long) LibGrate.ERR_INVALID_NAME);
        constants.put("GRATE_ERR_INVALID_ARGUMENT", (long) LibGrate.ERR_INVALID_ARGUMENT);
        constants.put("GRATE_ERR_INVALID_CONFIG", (long) LibGrate.ERR_INVALID_CONFIG);
        constants.put("GRATE_ERR_INVALID_JSON", (long) LibGrate.ERR_INVALID_JSON);
        constants.put("GRATE_ERR_UNKNOWN_CAPABILITY", (long) LibGrate.ERR_UNKNOWN_CAPABILITY);
        constants.put("GRATE_ERR_UNKNOWN_PROVIDER", (long) LibGrate.ERR_UNKNOWN_PROVIDER);
        constants.put("GRATE_ERR_NO_PROVIDER_AVAILABLE", (long) LibGrate.ERR_NO_PROVIDER_AVAILABLE);
        constants.put("GRATE_ERR_STALE_LEASE", (long) LibGrate.ERR_STALE_LEASE);
        constants.put("GRATE_ERR_BUFFER_TOO_SMALL", (long) LibGrate.ERR_BUFFER_TOO_SMALL);
        constants.put("GRATE_ERR_CAPACITY", (long) LibGrate.ERR_CAPACITY);
        constants.put("GRATE_ERR_STATE_FILE", (long) LibGrate.ERR_STATE_FILE);
        constants.put("GRATE_STATE_REPLACE_UNUSABLE", LibGrate.STATE_REPLACE_UNUSABLE);
        constants.put("GRATE_ZERO", LibGrate.ZERO);
        constants.put("GRATE_NEVER", LibGrate.NONE);
        constants.put("GRATE_ABSENT", LibGrate.NONE);
        constants.put("(int32_t)GRATE_PRIORITY_ZERO", (long) LibGrate.PRIORITY_ZERO);
        constants.put("GRATE_VERSION", (long) LibGrate.HEADER_VERSION);
        return constants;
    }

    private static Map<String, Long> askTheCompiler(Path folder, Iterable<String> expressions) throws Exception {
        StringBuilder source =
                new StringBuilder("#include <stddef.h>\n#include <stdio.h>\n#include <grate.h>\nint main(void)\n{\n");
        for (String expression : expressions) {
            source.append(String.format("printf(\"%s=%%lld\\n\", (long long)(%s));\n", expression, expression));
        }
        Files.writeString(folder.resolve("layout.c"), source.append("return 0;\n}\n"));
        run(folder, "cc", "-std=c99", "-I" + HEADER.getParent(), "layout.c", "-o", "layout");
        Map<String, Long> answers = new LinkedHashMap<>();
        for (String line : run(folder, folder.resolve("layout").toString()).split("\n")) {
            int equals = line.lastIndexOf('=');
            answers.put(line.substring(0, equals), Long.parseLong(line.substring(equals + 1)));
        }
        return answers;
    }

    private static String run(Path folder, String... command) throws Exception {
        Process process = new ProcessBuilder(command)
                .directory(folder.toFile())
                .redirectErrorStream(true)
                .start();
        String output = new String(process.getInputStream().readAllBytes());
        assertEquals(0, process.waitFor(), output);
        return output;
    }
}
