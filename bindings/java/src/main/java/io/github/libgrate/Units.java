package io.github.libgrate;

import java.time.Duration;
import java.util.Optional;
import java.util.OptionalLong;

/** Between the library's unsigned numbers and those of Java. */
final class Units {
    private Units() {}

    static long notNegative(long number, String what) {
        if (number < 0) {
            throw new IllegalArgumentException(what + " must not be negative: " + number);
        }
        return number;
    }

    /** A number where the library takes 0 for "not given". */
    static long given(long number, String what) {
        return number == 0 ? LibGrate.ZERO : notNegative(number, what);
    }

    static long nanos(Duration duration, String what) {
        try {
            return notNegative(duration.toNanos(), what);
        } catch (ArithmeticException error) {
            throw new IllegalArgumentException(what + " is too long: " + duration, error);
        }
    }

    static long givenNanos(Duration duration, String what) {
        return given(nanos(duration, what), what);
    }

    static double seconds(Duration duration, String what) {
        return nanos(duration, what) / 1e9;
    }

    /** Beyond 2^63 - 1 it is that: more than anyone counts to. */
    static long clamped(long unsigned) {
        return unsigned < 0 ? Long.MAX_VALUE : unsigned;
    }

    static OptionalLong known(long unsigned) {
        return unsigned == LibGrate.NONE ? OptionalLong.empty() : OptionalLong.of(clamped(unsigned));
    }

    static Optional<Duration> knownNanos(long unsigned) {
        return unsigned == LibGrate.NONE ? Optional.empty() : Optional.of(Duration.ofNanos(clamped(unsigned)));
    }

    static Optional<Duration> knownMillis(long unsigned) {
        return unsigned == LibGrate.NONE ? Optional.empty() : Optional.of(Duration.ofMillis(clamped(unsigned)));
    }
}
