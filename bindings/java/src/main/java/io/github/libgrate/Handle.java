package io.github.libgrate;

import java.lang.ref.Cleaner;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongConsumer;

/**
 * Owns something of the library's, so that it is freed once, after the last call under way with it, whatever thread closes it
 * meanwhile and in whatever order the garbage collector finds things.
 *
 * <p>Calls are counted only then, by the {@link Scratch} that each of them has: a counter would be one more thing that all threads
 * write to.
 */
final class Handle {
    private static final Cleaner CLEANER = Cleaner.create();
    private static final AtomicLong NUMBERS = new AtomicLong();

    final long address;
    private final String what;
    private final LongConsumer free;
    private final long number = NUMBERS.incrementAndGet();
    private final AtomicInteger left = new AtomicInteger(); // calls that were under way when it was closed
    private final Cleaner.Cleanable cleanable;
    private volatile boolean closed;

    /** {@code owner} is what closes it by becoming unreachable; {@code what} is its name in messages. */
    Handle(Object owner, String what, long address, LongConsumer free) {
        this.address = address;
        this.what = what;
        this.free = free;
        this.cleanable = CLEANER.register(owner, this::closed);
    }

    /** Before a call; each is followed by {@link #leave}. */
    Scratch enter() {
        Scratch scratch = Scratch.take(number);
        if (closed) {
            leave(scratch);
            throw new ClosedException("this " + what + " is closed");
        }
        return scratch;
    }

    void leave(Scratch scratch) {
        if (!scratch.give(number)) {
            add(-1);
        }
    }

    /** No call starts any more; the last one that is under way frees. Does nothing the second time. */
    void close() {
        cleanable.clean();
    }

    private void closed() {
        closed = true;
        add(Scratch.disown(number));
    }

    /** The sum is 0 once: while it lacks those that {@link #closed} found, it is less. */
    private void add(int calls) {
        if (left.addAndGet(calls) == 0) {
            free.accept(address);
        }
    }

    boolean isClosed() {
        return closed;
    }
}
