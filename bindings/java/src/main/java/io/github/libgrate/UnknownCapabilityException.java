package io.github.libgrate;

/** No capability of that name is registered. */
public final class UnknownCapabilityException extends GrateException {
    private static final long serialVersionUID = 1;

    UnknownCapabilityException(String message) {
        super(LibGrate.ERR_UNKNOWN_CAPABILITY, message);
    }
}
