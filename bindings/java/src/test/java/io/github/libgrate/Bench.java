package io.github.libgrate;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** Prints what the binding costs: an empty call of the library, and a pair of acquire and complete, in nanoseconds. */
final class Bench {
    private static final int WARM_UP = 300;
    private static final int BATCHES = 2001;
    private static final int CALLS = 500; // as few as in bench.c

    /** Takes the results, so that no call is optimised away. */
    private static volatile long sink;

    private Bench() {}

    public static void main(String[] arguments) throws Exception {
        try (Engine engine = new Engine()) {
            engine.configureJson(Files.readString(Path.of(arguments[0])));
            double[] empty = new double[BATCHES];
            double[] cycle = new double[BATCHES];
            for (int i = -WARM_UP; i < BATCHES; i++) {
                double emptyNs = empty();
                double cycleNs = cycle(engine);
                if (i >= 0) {
                    empty[i] = emptyNs;
                    cycle[i] = cycleNs;
                }
            }
            System.out.printf("bench\tJava\t%.1f\t%.1f%n", median(empty), median(cycle));
        }
    }

    private static double empty() {
        long sum = 0;
        long start = System.nanoTime();
        for (int i = 0; i < CALLS; i++) {
            sum += LibGrate.grate_version();
        }
        double ns = (System.nanoTime() - start) / (double) CALLS;
        sink = sum;
        return ns;
    }

    private static double cycle(Engine engine) throws GrateException {
        long sum = 0;
        long start = System.nanoTime();
        for (int i = 0; i < CALLS; i++) {
            Lease lease = engine.acquire("chat", Request.tokens(100));
            lease.complete(Response.http(200).tokens(100).build());
            sum += lease.number();
        }
        double ns = (System.nanoTime() - start) / (double) CALLS;
        sink = sum;
        return ns;
    }

    private static double median(double[] values) {
        Arrays.sort(values);
        return values[values.length / 2];
    }
}
