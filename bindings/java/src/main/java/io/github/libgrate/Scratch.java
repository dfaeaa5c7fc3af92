package io.github.libgrate;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicLongArray;

/**
 * The arguments and results of one call, in memory that is used again. Whoever takes one has it alone until it gives it back.
 * Meanwhile the number of its {@link Handle} stands in it: so the calls under way can be found, and need not be counted.
 *
 * <p>They wait in a pool, not in thread-locals: those would cost memory for each of a million virtual threads.
 */
final class Scratch {
    static final int REQUEST = 0;
    static final int RESPONSE = REQUEST + Structs.Request.SIZE;
    static final int DECISION = RESPONSE + Structs.Response.SIZE;
    static final int ERROR = DECISION + Structs.Decision.SIZE;
    static final int NAME = ERROR + Structs.Err.SIZE;
    /** Where a function writes a single number. */
    static final int OUT = NAME + Text.NAME_SIZE;
    private static final int SIZE = OUT + Long.BYTES;

    /** Bytes of all arenas together that are kept, however many calls are made at one time. */
    private static final int MAX_KEPT_ARENAS = 8 * 1024 * 1024;

    /** The number of those who have no handle. */
    private static final long NO_HANDLE = Long.MAX_VALUE;
    /** Longs per cache line and its neighbour: threads that use their own scratch do not disturb each other. */
    private static final int LINES = 16;

    /** Doubled when more calls are made at one time. */
    private static volatile Scratch[] pool = filled(new Scratch[64], 0);

    final Memory memory = new Memory(SIZE);
    final long address = memory.address;
    /** The name that the memory has, null for none. */
    private String name;
    private Memory arena;
    private int used;
    /** In the middle, the taker's number, which is negative once it is disowned; 0: it can be taken. */
    private final AtomicLongArray user = new AtomicLongArray(2 * LINES);

    private Scratch() {
        memory.putInt(REQUEST, Structs.Request.SIZE);
        memory.putInt(RESPONSE, Structs.Response.SIZE);
        memory.putInt(DECISION, Structs.Decision.SIZE);
        memory.putInt(ERROR, Structs.Err.SIZE);
    }

    static Scratch take() {
        return take(NO_HANDLE);
    }

    static Scratch take(long number) {
        int home = (int) Thread.currentThread().getId();
        Scratch[] scratches = pool;
        Scratch first = scratches[home & scratches.length - 1];
        return first.isTakenBy(number) ? first : takeAnother(home, number);
    }

    private static Scratch takeAnother(int home, long number) {
        while (true) {
            Scratch[] scratches = pool;
            for (int i = 1; i <= scratches.length; i++) {
                Scratch scratch = scratches[home + i & scratches.length - 1];
                // A look first: a step on one in use would take its cache line from the user.
                if (scratch.user.getOpaque(LINES) == 0 && scratch.isTakenBy(number)) {
                    return scratch;
                }
            }
            enlarge(scratches);
        }
    }

    private boolean isTakenBy(long number) {
        return user.compareAndSet(LINES, 0, number);
    }

    private static synchronized void enlarge(Scratch[] full) {
        if (pool == full) {
            pool = filled(Arrays.copyOf(full, 2 * full.length), full.length);
        }
    }

    private static Scratch[] filled(Scratch[] scratches, int from) {
        for (int i = from; i < scratches.length; i++) {
            scratches[i] = new Scratch();
        }
        return scratches;
    }

    void give() {
        give(NO_HANDLE);
    }

    /** Returns whether it was still the taker's. */
    boolean give(long number) {
        if (arena != null && arena.size() > MAX_KEPT_ARENAS / pool.length) {
            arena = null;
        }
        return user.getAndSet(LINES, 0) == number;
    }

    /** Tells the calls under way with this number, by their {@link #give}, that they are counted. Returns how many there are. */
    static int disown(long number) {
        int calls = 0;
        for (Scratch scratch : pool) {
            if (scratch.user.compareAndSet(LINES, number, -number)) {
                calls++;
            }
        }
        return calls;
    }

    /**
     * The address of the NUL-terminated name. One at a time: the next overwrites it. Most calls are about the same one, and the
     * library reads it faster if it was not written a moment ago.
     */
    long name(String name) throws InvalidNameException {
        if (!name.equals(this.name)) {
            this.name = null;
            Text.name(name, memory.bytes, NAME);
            this.name = name;
        }
        return address + NAME;
    }

    long error() {
        return address + ERROR;
    }

    long out() {
        return address + OUT;
    }

    /** Memory for what has no fixed size, at least {@code size} bytes, not zeroed. Its {@link #claim}s start anew. */
    Memory arena(int size) {
        if (arena == null || arena.size() < size) {
            arena = new Memory(Math.max(size, 4096));
        }
        used = 0;
        return arena;
    }

    /** The offset of {@code size} more bytes of the arena, which was made large enough for them. */
    int claim(int size) {
        int at = used;
        used = at + size + 7 & -8;
        return at;
    }

    /** The offset of an array of structs in the arena: zeroes, and their sizes. */
    int array(int length, int size) {
        int at = claim(length * size);
        arena.clear(at, at + length * size);
        for (int i = 0; i < length; i++) {
            arena.putInt(at + i * size, size);
        }
        return at;
    }

    /** The offset of a struct in the arena: zeroes, and its size. */
    int struct(int size) {
        return array(1, size);
    }

    /** The address of a name in the arena; needs {@link Text#NAME_SIZE} bytes there. */
    long arenaName(String name) throws InvalidNameException {
        int at = claim(Text.NAME_SIZE);
        Text.name(name, arena.bytes, at);
        return arena.address + at;
    }

    /** Throws what a status other than GRATE_OK stands for, with the message of the call. */
    void check(int code) throws GrateException {
        if (code != LibGrate.OK) {
            throw GrateException.of(code, message());
        }
    }

    String message() {
        byte[] text = new byte[Structs.Err.SIZE - Structs.Err.MESSAGE];
        int length = 0;
        for (byte b; (b = memory.bytes.get(ERROR + Structs.Err.MESSAGE + length)) != 0; length++) {
            text[length] = b;
        }
        return new String(text, 0, length, StandardCharsets.UTF_8);
    }
}
