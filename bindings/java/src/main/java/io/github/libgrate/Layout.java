package io.github.libgrate;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/** Where the fields of a C struct are: each method adds one and returns its offset, by the rules of the 64-bit C ABIs. */
final class Layout {
    final String name;
    private final Map<String, Integer> offsets = new LinkedHashMap<>();
    private int end;
    private int alignment = 1;

    Layout(String name) {
        this.name = name;
    }

    /** A uint32_t or int32_t. */
    int int32(String field) {
        return add(field, 4, 4);
    }

    /** A uint64_t, int64_t, double or pointer. */
    int int64(String field) {
        return add(field, 8, 8);
    }

    /** A char array. */
    int chars(String field, int length) {
        return add(field, length, 1);
    }

    private int add(String field, int size, int align) {
        int at = aligned(end, align);
        offsets.put(field, at);
        end = at + size;
        alignment = Math.max(alignment, align);
        return at;
    }

    /** Size of the struct, once all fields are added. */
    int size() {
        return aligned(end, alignment);
    }

    /** Offsets by field, in order. */
    Map<String, Integer> offsets() {
        return Collections.unmodifiableMap(offsets);
    }

    private static int aligned(int at, int align) {
        return (at + align - 1) & -align;
    }
}
