package io.github.libgrate;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;

/** How text becomes what the library reads. Each method returns the offset behind what it wrote. */
final class Text {
    /** Bytes that {@link #name} writes at most. */
    static final int NAME_SIZE = 136;

    /** One more than the library takes, so that it is the one to refuse a name that is too long. */
    private static final int LONGEST = 129;

    private Text() {}

    /** A name with its NUL. Names are ASCII nearly always: then this is a loop over their characters and allocates nothing. */
    static int name(String name, ByteBuffer to, int at) throws InvalidNameException {
        int length = Math.min(name.length(), LONGEST);
        for (int i = 0; i < length; i++) {
            char c = name.charAt(i);
            if (c >= 0x80) {
                return unicodeName(name, to, at);
            }
            if (c == 0) {
                throw new InvalidNameException("a name contains a NUL character");
            }
            to.put(at + i, (byte) c);
        }
        to.put(at + length, (byte) 0);
        return at + length + 1;
    }

    private static int unicodeName(String name, ByteBuffer to, int at) throws InvalidNameException {
        if (name.indexOf(0) >= 0) {
            throw new InvalidNameException("a name contains a NUL character");
        }
        ByteBuffer encoded;
        try {
            encoded = utf8(name);
        } catch (CharacterCodingException error) {
            throw new InvalidNameException("a name is not valid Unicode");
        }
        int length = Math.min(encoded.remaining(), LONGEST);
        for (int i = 0; i < length; i++) {
            to.put(at + i, encoded.get(i));
        }
        to.put(at + length, (byte) 0);
        return at + length + 1;
    }

    /** Strict, unlike {@link String#getBytes}, which makes half a surrogate pair a question mark. */
    static ByteBuffer utf8(String text) throws CharacterCodingException {
        return StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
    }

    /** A header's name or value, in the encoding of HTTP; what cannot have come over the wire becomes a question mark. */
    static int latin1(String text, ByteBuffer to, int at) {
        int length = text.length();
        for (int i = 0; i < length; i++) {
            char c = text.charAt(i);
            to.put(at + i, (byte) (c < 0x100 ? c : '?'));
        }
        return at + length;
    }
}
