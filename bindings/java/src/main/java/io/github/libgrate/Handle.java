package io.github.libgrate;

import java.lang.ref.Cleaner;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.LongConsumer;

/**
 * Owns something of the library's and counts the calls under way with it, so that it is freed once, after the last of them,
 * whatever thread closes it meanwhile and in whatever order the garbage collector finds things.
 */
final class Handle {
    private static final Cleaner CLEANER = Cleaner.create();
    private static final int CLOSED = Integer.MIN_VALUE;

    final long address;
    private final String what;
    private final LongConsumer free;
    private final AtomicInteger state = new AtomicInteger(); // calls under way, and CLOSED
    private final Cleaner.Cleanable cleanable;

    /** {@code owner} is what closes it by becoming unreachable; {@code what} is its name in messages. */
    Handle(Object owner, String what, long address, LongConsumer free) {
        this.address = address;
        this.what = what;
        this.free = free;
        this.cleanable = CLEANER.register(owner, this::closed);
    }

    /** Before a call; each is followed by {@link #leave}. */
    void enter() {
        int before;
        do {
            before = state.get();
            if (before < 0) {
                throw new ClosedException("this " + what + " is closed");
            }
        } while (!state.compareAndSet(before, before + 1));
    }

    void leave() {
        if (state.decrementAndGet() == CLOSED) {
            free.accept(address);
        }
    }

    /** No call starts any more; the last one that is under way frees. Does nothing the second time. */
    void close() {
        cleanable.clean();
    }

    private void closed() {
        if (state.getAndAccumulate(CLOSED, (calls, closed) -> calls | closed) == 0) {
            free.accept(address);
        }
    }

    boolean isClosed() {
        return state.get() < 0;
    }
}
