package io.github.libgrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.StringWriter;
import java.lang.reflect.Method;
import java.net.URI;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.tools.JavaCompiler;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The examples of the README compile, and the first two run as well; the package that it speaks of has what it must have. */
class ReadmeTest {
    private static final String AROUND = "import io.github.libgrate.*;\n"
            + "import io.github.libgrate.http.*;\n"
            + "import java.io.IOException;\n"
            + "import java.net.URI;\n"
            + "import java.net.http.*;\n"
            + "import java.net.http.HttpRequest.BodyPublishers;\n"
            + "import java.net.http.HttpResponse.BodyHandlers;\n"
            + "import java.nio.file.*;\n"
            + "import java.time.Duration;\n"
            + "import java.util.*;\n"
            + "public class Readme {\n"
            + "    interface Answer { int status(); long tokens(); Map<String, List<String>> headers(); }\n"
            + "    static String sentTo = \"\";\n"
            + "    static Answer sendItTo(String provider) throws IOException, InterruptedException {\n"
            + "        sentTo += provider + \" \";\n"
            + "        return new Answer() {\n"
            + "            public int status() { return 200; }\n"
            + "            public long tokens() { return 1043; }\n"
            + "            public Map<String, List<String>> headers() { return Map.of(\"Server\", List.of(\"x\")); }\n"
            + "        };\n"
            + "    }\n"
            + "    static long tokensIn(String body) { return 1043; }\n"
            + "    public static String run(Engine given) throws Exception {\n"
            + "        %s\n"
            + "        Engine engine = given;\n"
            + "        %s\n"
            + "        return sentTo;\n"
            + "    }\n"
            + "    static void http(Engine engine, Map<String, String> keys, String prompt) throws Exception {\n"
            + "        %s\n"
            + "    }\n"
            + "    static Engine shared() throws Exception {\n"
            + "        %s\n"
            + "        return engine;\n"
            + "    }\n"
            + "}\n";

    @Test
    void examples(@TempDir Path folder) throws Exception {
        List<String> examples = Pattern.compile("(?s)```java\n(.*?)```")
                .matcher(Files.readString(Path.of("README.md")))
                .results()
                .map(MatchResult::group)
                .map(block -> block.replaceAll("```(java)?", ""))
                .collect(Collectors.toList());
        assertEquals(4, examples.size());
        compile(folder, String.format(AROUND, examples.toArray()));
        try (Engine engine = Fixture.twoProviders(new MockClock(0));
                URLClassLoader loader = new URLClassLoader(new URL[] {folder.toUri().toURL()})) {
            engine.upsertCapability(CapabilityConfig.builder("chat").provider("b").build());
            Method run = loader.loadClass("Readme").getMethod("run", Engine.class);
            assertEquals("primary b ", run.invoke(null, engine));
            assertEquals(1, engine.metrics().completions());
        }
    }

    @Test
    void theLicenceComesAlong() throws Exception {
        assertEquals(Files.readString(Fixture.ROOT.resolve("LICENSE")),
                Files.readString(Path.of("target", "classes", "META-INF", "LICENSE")));
    }

    private static void compile(Path folder, String source) throws Exception {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        StringWriter output = new StringWriter();
        boolean compiled = compiler.getTask(
                        output,
                        null,
                        null,
                        List.of("-Xlint:all", "-Werror", "-d", folder.toString(), "-cp", Fixture.classPath()),
                        null,
                        List.of(new SimpleJavaFileObject(URI.create("string:///Readme.java"), SimpleJavaFileObject.Kind.SOURCE) {
                            @Override
                            public CharSequence getCharContent(boolean ignoreEncodingErrors) {
                                return source;
                            }
                        }))
                .call();
        assertEquals("", output.toString());
        assertTrue(compiled);
    }
}
