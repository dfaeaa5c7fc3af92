package io.github.libgrate;

/**
 * The names that an engine hands out, by their addresses, which stay the same as long as the engine: so each name becomes a
 * String once. Reading takes no lock and allocates nothing.
 */
final class Names {
    private static final class Entry {
        final long address;
        final String name;

        Entry(long address, String name) {
            this.address = address;
            this.name = name;
        }
    }

    // Open addressing, at most half full. Entries are immutable, so a reader that races a writer sees one or none.
    private volatile Entry[] table = new Entry[16];
    private int size;

    /** The name at {@code address}, null for NULL. The engine must be in use by the caller. */
    String get(long address) {
        Entry entry = find(table, address);
        return entry != null ? entry.name : add(address);
    }

    private static Entry find(Entry[] table, long address) {
        Entry entry;
        for (int i = hash(address); (entry = table[i & table.length - 1]) != null; i++) {
            if (entry.address == address) {
                return entry;
            }
        }
        return null;
    }

    private synchronized String add(long address) {
        Entry entry = find(table, address);
        if (entry == null && address != 0) {
            entry = new Entry(address, LibGrate.text(address));
            if (2 * ++size > table.length) {
                Entry[] larger = new Entry[2 * table.length];
                for (Entry old : table) {
                    if (old != null) {
                        insert(larger, old);
                    }
                }
                table = larger;
            }
            insert(table, entry);
        }
        return entry == null ? null : entry.name;
    }

    private static void insert(Entry[] table, Entry entry) {
        int i = hash(entry.address);
        while (table[i & table.length - 1] != null) {
            i++;
        }
        table[i & table.length - 1] = entry;
    }

    private static int hash(long address) {
        long mixed = address * 0x9E3779B97F4A7C15L;
        return (int) (mixed >>> 32);
    }
}
