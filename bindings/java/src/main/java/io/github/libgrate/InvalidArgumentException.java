package io.github.libgrate;

/** A value is out of its range; the message says which. */
public final class InvalidArgumentException extends GrateException {
    private static final long serialVersionUID = 1;

    InvalidArgumentException(String message) {
        super(LibGrate.ERR_INVALID_ARGUMENT, message);
    }
}
