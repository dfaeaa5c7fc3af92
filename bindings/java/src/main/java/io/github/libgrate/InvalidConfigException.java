package io.github.libgrate;

/** A configuration contradicts itself or the one in force; nothing was applied. */
public class InvalidConfigException extends GrateException {
    private static final long serialVersionUID = 1;

    InvalidConfigException(String message) {
        super(LibGrate.ERR_INVALID_CONFIG, message);
    }

    InvalidConfigException(int code, String message) {
        super(code, message);
    }
}
