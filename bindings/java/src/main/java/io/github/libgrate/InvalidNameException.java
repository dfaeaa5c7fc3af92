package io.github.libgrate;

/** A name is empty, longer than 128 bytes, not valid Unicode, or contains control characters. */
public final class InvalidNameException extends GrateException {
    private static final long serialVersionUID = 1;

    InvalidNameException(String message) {
        super(LibGrate.ERR_INVALID_NAME, message);
    }
}
