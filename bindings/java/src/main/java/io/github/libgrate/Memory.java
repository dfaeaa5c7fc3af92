package io.github.libgrate;

import com.sun.jna.Native;
import com.sun.jna.Pointer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * Memory that the library can read and write, zeroed at first. Behind it is a direct buffer: the JIT compiles its accessors to
 * single instructions, where those of JNA's Pointer are native calls.
 */
final class Memory {
    final ByteBuffer bytes;
    final long address;

    Memory(int size) {
        bytes = ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder());
        address = Pointer.nativeValue(Native.getDirectBufferPointer(bytes));
    }

    int size() {
        return bytes.capacity();
    }

    void putInt(int at, int value) {
        bytes.putInt(at, value);
    }

    void putLong(int at, long value) {
        bytes.putLong(at, value);
    }

    void putDouble(int at, double value) {
        bytes.putDouble(at, value);
    }

    int getInt(int at) {
        return bytes.getInt(at);
    }

    long getLong(int at) {
        return bytes.getLong(at);
    }

    double getDouble(int at) {
        return bytes.getDouble(at);
    }

    void clear(int from, int to) {
        for (int at = from; at < to; at++) {
            bytes.put(at, (byte) 0);
        }
    }
}
