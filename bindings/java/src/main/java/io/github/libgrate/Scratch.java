package io.github.libgrate;

import java.nio.charset.StandardCharsets;
import java.util.concurrent.atomic.AtomicReferenceArray;

/**
 * The arguments and results of one call, in memory that is used again. Whoever takes one has it alone until it gives it back.
 *
 * <p>They wait in a pool, not in thread-locals: those would cost memory for each of a million virtual threads, and would keep
 * the class loader of a web application alive.
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

    private static final int MAX_KEPT_ARENA = 128 * 1024;

    private static final int SLOTS = 64;
    private static final int PROBES = 8;
    /** References per cache line and its neighbour: threads that use their own slot do not disturb each other. */
    private static final int STRIDE = 32;

    private static final AtomicReferenceArray<Scratch> POOL = new AtomicReferenceArray<>(SLOTS * STRIDE);

    final Memory memory = new Memory(SIZE);
    final long address = memory.address;
    /** The name that the memory has, null for none. */
    private String name;
    private Memory arena;
    private int used;
    private int slot; // of the pool, where it came from

    private Scratch(int slot) {
        this.slot = slot;
        memory.putInt(REQUEST, Structs.Request.SIZE);
        memory.putInt(RESPONSE, Structs.Response.SIZE);
        memory.putInt(DECISION, Structs.Decision.SIZE);
        memory.putInt(ERROR, Structs.Err.SIZE);
    }

    static Scratch take() {
        int home = (int) Thread.currentThread().getId();
        for (int i = 0; i < PROBES; i++) {
            int slot = ((home + i) & (SLOTS - 1)) * STRIDE;
            if (POOL.getOpaque(slot) != null) {
                Scratch taken = POOL.getAndSet(slot, null);
                if (taken != null) {
                    taken.slot = slot;
                    return taken;
                }
            }
        }
        return new Scratch((home & (SLOTS - 1)) * STRIDE);
    }

    /** If others do the same at the same time, one of them may be lost: then the garbage collector takes it. */
    void give() {
        if (arena != null && arena.size() > MAX_KEPT_ARENA) {
            arena = null;
        }
        int at = slot;
        for (int i = 0; i < PROBES; i++) {
            if (POOL.getOpaque(at) == null) {
                POOL.setRelease(at, this);
                return;
            }
            at = at + STRIDE & SLOTS * STRIDE - 1;
        }
        // More calls at one time than slots: likewise.
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
