package io.github.libgrate;

/** No provider of that name is registered. */
public final class UnknownProviderException extends GrateException {
    private static final long serialVersionUID = 1;

    UnknownProviderException(String message) {
        super(LibGrate.ERR_UNKNOWN_PROVIDER, message);
    }
}
