package io.github.libgrate;

/** A bug of libgrate or of this package. Please report it; the process and other engines are unharmed. */
public final class InternalErrorException extends GrateException {
    private static final long serialVersionUID = 1;

    InternalErrorException(int code, String message) {
        super(code, message);
    }
}
