package io.github.libgrate;

/** What went wrong, as the library tells it. There is a subclass for each status. Nothing has changed when one is thrown. */
public abstract class GrateException extends Exception {
    private static final long serialVersionUID = 1;

    private final int code;

    GrateException(int code, String message) {
        super(message);
        this.code = code;
    }

    static GrateException of(int code, String message) {
        switch (code) {
            case LibGrate.ERR_INVALID_NAME:
                return new InvalidNameException(message);
            case LibGrate.ERR_INVALID_ARGUMENT:
                return new InvalidArgumentException(message);
            case LibGrate.ERR_INVALID_CONFIG:
                return new InvalidConfigException(message);
            case LibGrate.ERR_INVALID_JSON:
                return new InvalidJsonException(message);
            case LibGrate.ERR_UNKNOWN_CAPABILITY:
                return new UnknownCapabilityException(message);
            case LibGrate.ERR_UNKNOWN_PROVIDER:
                return new UnknownProviderException(message);
            case LibGrate.ERR_STALE_LEASE:
                return new StaleLeaseException(message);
            case LibGrate.ERR_CAPACITY:
                return new CapacityExceededException(message);
            case LibGrate.ERR_STATE_FILE:
                return new StateFileException(message);
            default:
                return new InternalErrorException(code, message);
        }
    }

    /**
     * The number of the status in {@code grate.h}.
     *
     * @return the number, not 0
     */
    public final int code() {
        return code;
    }

    /**
     * The symbolic name of the status.
     *
     * @return the name, such as {@code "GRATE_ERR_STALE_LEASE"}
     */
    public final String name() {
        return Grate.statusName(code);
    }
}
