package io.github.libgrate;

import com.sun.jna.Native;
import com.sun.jna.NativeLibrary;
import com.sun.jna.Platform;
import com.sun.jna.Pointer;
import java.io.File;

/**
 * The functions of the C library, under their own names. Addresses are longs: JNA's direct mapping hands primitives over as
 * they are, without an object per argument.
 */
final class LibGrate {
    /** GRATE_VERSION of the header that {@link Structs} mirrors. */
    static final int HEADER_VERSION = 1000;

    static final int OK = 0;
    static final int ERR_INVALID_NAME = 3;
    static final int ERR_INVALID_ARGUMENT = 4;
    static final int ERR_INVALID_CONFIG = 5;
    static final int ERR_INVALID_JSON = 6;
    static final int ERR_UNKNOWN_CAPABILITY = 7;
    static final int ERR_UNKNOWN_PROVIDER = 8;
    static final int ERR_NO_PROVIDER_AVAILABLE = 9;
    static final int ERR_STALE_LEASE = 10;
    static final int ERR_BUFFER_TOO_SMALL = 11;
    static final int ERR_CAPACITY = 12;
    static final int ERR_STATE_FILE = 14;

    static final long STATE_REPLACE_UNUSABLE = 1;

    /** GRATE_ZERO: a true zero, where 0 means "default" or "not given". */
    static final long ZERO = -1;
    /** GRATE_PRIORITY_ZERO: the same for priorities. */
    static final int PRIORITY_ZERO = -1;
    /** GRATE_NEVER, GRATE_ABSENT, and the limit of what has none. */
    static final long NONE = -1;

    static {
        if (Native.POINTER_SIZE != 8) {
            throw new UnsatisfiedLinkError("libgrate for Java needs a 64-bit JVM");
        }
        NativeLibrary library = open();
        // Before the functions are looked up, of which another version may lack some.
        int version = library.getFunction("grate_version").invokeInt(new Object[0]);
        if (version < HEADER_VERSION || version / 1_000_000 != HEADER_VERSION / 1_000_000) {
            throw new UnsatisfiedLinkError(library.getFile() + " is libgrate version " + version + ", this package needs "
                    + HEADER_VERSION + " (0.1.0) or a later 0.x");
        }
        Native.register(LibGrate.class, library);
    }

    private LibGrate() {}

    private static NativeLibrary open() {
        String path = given(System.getProperty("grate.library"));
        if (path == null) {
            path = given(System.getenv("GRATE_LIBRARY"));
        }
        try {
            return NativeLibrary.getInstance(path != null ? new File(path).getAbsolutePath() : defaultName());
        } catch (UnsatisfiedLinkError error) {
            UnsatisfiedLinkError told = new UnsatisfiedLinkError("cannot load libgrate" + (path != null ? " from " + path : "")
                    + ": install it, or set the system property grate.library or the environment variable GRATE_LIBRARY to"
                    + " the path of the library");
            told.initCause(error);
            throw told;
        }
    }

    /** A setting, or null: one that is empty is not set. */
    private static String given(String setting) {
        return setting == null || setting.isEmpty() ? null : setting;
    }

    /** What programs link to: the name without a version comes with development files only. */
    private static String defaultName() {
        if (Platform.isWindows()) {
            return "grate";
        }
        return Platform.isMac() ? "libgrate.0.dylib" : "libgrate.so.0";
    }

    /** The NUL-terminated UTF-8 text at {@code address}; null for NULL. */
    static String text(long address) {
        return address == 0 ? null : new Pointer(address).getString(0, "UTF-8");
    }

    static native int grate_version();

    static native long grate_version_string();

    static native long grate_status_name(int status);

    static native long grate_clock_mock_new(long unixMs);

    static native void grate_clock_free(long clock);

    static native int grate_clock_advance_ms(long clock, long ms);

    static native int grate_clock_advance_secs(long clock, long secs);

    static native int grate_clock_set_ns(long clock, long ns);

    static native long grate_clock_now_ns(long clock);

    static native int grate_engine_new(long config, long out, long err);

    static native void grate_engine_free(long engine);

    static native int grate_engine_upsert_provider(long engine, long config, long err);

    static native int grate_engine_upsert_capability(long engine, long config, long err);

    static native int grate_engine_remove_provider(long engine, long name, long err);

    static native int grate_engine_remove_capability(long engine, long name, long err);

    static native int grate_engine_configure_json(long engine, long json, long len, long err);

    static native int grate_engine_select(long engine, long capability, long request, long out, long err);

    static native int grate_engine_acquire(long engine, long capability, long request, long out, long err);

    static native int grate_engine_complete(long engine, long lease, long response, long err);

    static native int grate_engine_cancel(long engine, long lease, long err);

    static native int grate_engine_observe(long engine, long provider, long response, long err);

    static native int grate_engine_provider_health(long engine, long provider, long out, long err);

    static native int grate_engine_provider_in_cooldown(long engine, long provider, long out, long err);

    static native int grate_engine_remaining_quota(long engine, long provider, int dimension, long out, long err);

    static native int grate_engine_provider_state(long engine, long provider, long out, long err);

    static native int grate_engine_metrics(long engine, long out, long err);

    static native int grate_engine_prometheus(long engine, long buffer, long capacity, long len, long err);

    static native int grate_parse_headers(long fields, long len, long receivedAtUnixMs, long out, long err);
}
