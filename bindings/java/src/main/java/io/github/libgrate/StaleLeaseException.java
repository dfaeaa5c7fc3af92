package io.github.libgrate;

/** The lease was settled already, has expired, or never existed. */
public final class StaleLeaseException extends GrateException {
    private static final long serialVersionUID = 1;

    StaleLeaseException(String message) {
        super(LibGrate.ERR_STALE_LEASE, message);
    }
}
