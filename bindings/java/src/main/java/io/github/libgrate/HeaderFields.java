package io.github.libgrate;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/** Header fields on their way into the library. Not for several threads at once while it grows. */
final class HeaderFields {
    private final List<String> texts = new ArrayList<>(); // names and values in turn
    private int length;

    static HeaderFields of(Map<String, ? extends Collection<String>> fields) {
        HeaderFields made = new HeaderFields();
        made.add(fields);
        return made;
    }

    static HeaderFields copyOf(HeaderFields other) {
        HeaderFields made = new HeaderFields();
        made.texts.addAll(other.texts);
        made.length = other.length;
        return made;
    }

    void add(String name, String value) {
        length += name.length() + Objects.requireNonNull(value, "value").length();
        texts.add(name);
        texts.add(value);
    }

    void add(Map<String, ? extends Collection<String>> fields) {
        fields.forEach((name, values) -> {
            if (name != null) {
                values.forEach(value -> add(name, value));
            }
        });
    }

    int count() {
        return texts.size() / 2;
    }

    /** Bytes of a scratch's arena that {@link #write} claims. */
    int arenaSize() {
        return count() * Structs.Header.SIZE + length;
    }

    /** Writes an array of grate_header. The arena has room already. Returns its address. */
    long write(Scratch scratch, Memory arena) {
        int row = scratch.claim(arenaSize());
        long address = arena.address + row;
        int end = row + count() * Structs.Header.SIZE;
        for (int i = 0; i < texts.size(); i += 2, row += Structs.Header.SIZE) {
            int value = Text.latin1(texts.get(i), arena.bytes, end);
            arena.putLong(row + Structs.Header.NAME, arena.address + end);
            arena.putLong(row + Structs.Header.NAME_LEN, value - end);
            end = Text.latin1(texts.get(i + 1), arena.bytes, value);
            arena.putLong(row + Structs.Header.VALUE, arena.address + value);
            arena.putLong(row + Structs.Header.VALUE_LEN, end - value);
        }
        return address;
    }
}
