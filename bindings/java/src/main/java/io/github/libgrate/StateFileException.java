package io.github.libgrate;

/** The state file cannot be used: it is damaged, not one, of another version, or cannot be opened. */
public final class StateFileException extends GrateException {
    private static final long serialVersionUID = 1;

    StateFileException(String message) {
        super(LibGrate.ERR_STATE_FILE, message);
    }
}
