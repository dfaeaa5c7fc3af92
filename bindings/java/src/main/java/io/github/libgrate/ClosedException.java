package io.github.libgrate;

/** An engine or clock was used after it was closed. */
public final class ClosedException extends IllegalStateException {
    private static final long serialVersionUID = 1;

    ClosedException(String message) {
        super(message);
    }
}
