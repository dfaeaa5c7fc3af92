package io.github.libgrate;

/** Too many providers, quotas or leases in flight for one engine. */
public final class CapacityExceededException extends GrateException {
    private static final long serialVersionUID = 1;

    CapacityExceededException(String message) {
        super(LibGrate.ERR_CAPACITY, message);
    }
}
