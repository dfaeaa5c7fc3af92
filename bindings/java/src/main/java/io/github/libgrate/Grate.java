package io.github.libgrate;

import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** What the library does without an engine. Safe on any thread. */
public final class Grate {
    /** As many as the library tells of at most. */
    private static final int MAX_HEADER_QUOTAS = 16;

    private Grate() {}

    /**
     * The version of the library that is loaded.
     *
     * @return {@code major * 1000000 + minor * 1000 + patch}
     */
    public static int version() {
        return LibGrate.grate_version();
    }

    /**
     * The version of the library that is loaded, as text.
     *
     * @return the version, such as {@code "0.1.0"}
     */
    public static String versionString() {
        return LibGrate.text(LibGrate.grate_version_string());
    }

    /**
     * The symbolic name of a status.
     *
     * @param code a number of {@code grate.h}, as from {@link GrateException#code}
     * @return the name, such as {@code "GRATE_ERR_STALE_LEASE"}; {@code "GRATE_ERR_UNKNOWN"} for any other number
     */
    public static String statusName(int code) {
        return LibGrate.text(LibGrate.grate_status_name(code));
    }

    /**
     * Reads rate-limit headers as {@link Engine#complete} and {@link Engine#observe} do: {@code Retry-After},
     * {@code x-ratelimit-*}, {@code anthropic-ratelimit-*}, all drafts of the IETF {@code RateLimit} fields, and the forms of
     * single providers. What cannot be read is absent.
     *
     * @param fields values by name, as {@code HttpHeaders.map()}; an entry without a name is left out
     * @param receivedAt the time of receipt, 1970 or later, to which instants in the headers are made relative
     * @return what they tell
     * @throws GrateException if the library finds a bug in itself
     */
    public static HeaderReport parseHeaders(Map<String, ? extends Collection<String>> fields, Instant receivedAt)
            throws GrateException {
        HeaderFields headers = HeaderFields.of(fields);
        long unixMs = Units.notNegative(receivedAt.toEpochMilli(), "receivedAt");
        Scratch scratch = Scratch.take();
        try {
            int rows = MAX_HEADER_QUOTAS * Structs.HeaderQuota.SIZE;
            Memory arena = scratch.arena(Structs.HeaderReport.SIZE + rows + headers.arenaSize());
            int at = scratch.struct(Structs.HeaderReport.SIZE);
            int array = scratch.array(MAX_HEADER_QUOTAS, Structs.HeaderQuota.SIZE);
            arena.putLong(at + Structs.HeaderReport.QUOTAS, arena.address + array);
            arena.putLong(at + Structs.HeaderReport.QUOTAS_CAPACITY, MAX_HEADER_QUOTAS);
            scratch.check(LibGrate.grate_parse_headers(
                    headers.write(scratch, arena), headers.count(), unixMs, arena.address + at, scratch.error()));
            List<HeaderQuota> quotas = new ArrayList<>();
            for (int i = 0; i < arena.getLong(at + Structs.HeaderReport.QUOTAS_LEN); i++) {
                quotas.add(new HeaderQuota(arena, array + i * Structs.HeaderQuota.SIZE));
            }
            return new HeaderReport(arena, at, Collections.unmodifiableList(quotas));
        } finally {
            scratch.give();
        }
    }
}
