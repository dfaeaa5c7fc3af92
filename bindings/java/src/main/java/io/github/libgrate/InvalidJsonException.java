package io.github.libgrate;

/** A JSON document is malformed, or has fields that do not exist; nothing was applied. The message has line and column. */
public final class InvalidJsonException extends InvalidConfigException {
    private static final long serialVersionUID = 1;

    InvalidJsonException(String message) {
        super(LibGrate.ERR_INVALID_JSON, message);
    }
}
