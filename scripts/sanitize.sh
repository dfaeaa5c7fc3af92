#!/bin/sh
# Runs the C tests, and those of grate.hpp, with address and undefined-behaviour sanitizer, with thread sanitizer, and under
# valgrind: no report, no byte lost, and nothing suppressed. Also the library is built with the sanitizers: by a stable
# compiler, which RUSTC_BOOTSTRAP lets take unstable flags. The last line is "N passed, N failed, N skipped".
#
# From the environment: CARGO, CC, CXX, TARGET (the build directory, with the library in it), STRICT=1.
# shellcheck disable=SC2086 # lists of files, flags and arguments
set -u
cd "$(dirname "$0")/.." || exit 1

CARGO=${CARGO:-cargo}
CC=${CC:-cc}
CXX=${CXX:-c++}
TARGET=${TARGET:-$PWD/target}

host=$(rustc -vV | sed -n 's/^host: //p')
sysroot=$(rustc --print sysroot)
warn='-Wall -Wextra -Wpedantic -Werror'
bin=$TARGET/sanitized
log=$TARGET/sanitize.log
mkdir -p "$bin"
. scripts/suite.sh
. scripts/c-tests.sh

# library SANITIZER FLAG...: libgrate with a sanitizer, and arithmetic that overflows a panic; sets $lib.
library() {
    sanitizer=$1
    shift
    lib=$TARGET/$sanitizer/$host/release
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$sanitizer -Cdebug-assertions=on" CARGO_PROFILE_RELEASE_LTO=false \
        "$CARGO" rustc -q --release --lib --crate-type cdylib --target "$host" --target-dir "$TARGET/$sanitizer" "$@" \
        && ln -sf libgrate.so "$lib/libgrate.so.0"
}

# reported PATTERN COMMAND...: a command that fails with a report.
reported() {
    pattern=$1
    shift
    "$@" && return 1
    grep -q "$pattern" "$log"
}

with_address() {
    one 'the library with address sanitizer compiles' library address || return
    sanitize='-fsanitize=address,undefined -fno-sanitize-recover=all'
    built mistakes "$bin/mistakes" $sanitize || return
    one 'address sanitizer: no mistake, no report' "$bin/mistakes" none
    one 'address sanitizer sees a use after free' reported 'heap-use-after-free' "$bin/mistakes" use-after-free
    one 'address sanitizer sees a leak' reported 'detected memory leaks' "$bin/mistakes" leak
    one 'undefined-behaviour sanitizer sees an overflow' reported 'signed integer overflow' "$bin/mistakes" overflow
    for test in $c_tests_for_tools; do
        built "$test" "$bin/$test" $sanitize && suite "C: $test with address sanitizer" "$bin/$test" $arguments
    done
    built shared_damage "$bin/shared_damage" $sanitize && suite 'C: shared_damage with address sanitizer' "$bin/shared_damage"
    if has "$CXX"; then
        one 'C++: grate.hpp with address sanitizer compiles' "$CXX" -std=c++17 -O1 -g $warn $sanitize -Iinclude -Ic-tests \
            c-tests/cpp_test.cpp -o "$bin/cpp_test" -L"$lib" -lgrate -Wl,-rpath,"$lib" -pthread
        suite 'C++: grate.hpp with address sanitizer' "$bin/cpp_test"
    else
        skip 'C++: grate.hpp with address sanitizer' "$CXX is not installed"
    fi
}

# Of the standard library, too: without, it reports races where atomics of that order what the library does. The runtime is
# Rust's, as older ones lack functions that its compiler calls.
with_thread() {
    one 'the library with thread sanitizer compiles' library thread -Zbuild-std || return
    for test in mistakes threads clocks; do
        c_test "$test"
        one "C: $test with thread sanitizer compiles" c_program -fsanitize=thread -Iinclude -c "$sources" -o "$bin/$test.o"
        one "C: $test with thread sanitizer links" $CC "$bin/$test.o" -o "$bin/$test.tsan" -Wl,--export-dynamic \
            -Wl,--whole-archive "$1" -Wl,--no-whole-archive $flags -pthread -lm -ldl -lrt
    done
    one 'thread sanitizer: no mistake, no report' "$bin/mistakes.tsan" none
    one 'thread sanitizer sees a race' reported 'data race' "$bin/mistakes.tsan" race
    for test in threads clocks; do
        suite "C: $test with thread sanitizer" "$bin/$test.tsan"
    done
}

under_valgrind() {
    lib=$TARGET/release
    # It runs one thread at a time: fairly, or one that waits for another may keep it out.
    checked='valgrind -q --fair-sched=try --suppressions=scripts/valgrind.supp --leak-check=full --show-leak-kinds=all
        --errors-for-leak-kinds=all --error-exitcode=1'
    built mistakes "$bin/mistakes" || return
    one 'valgrind: no mistake, no report' $checked "$bin/mistakes" none
    one 'valgrind sees a use after free' reported 'Invalid read' $checked "$bin/mistakes" use-after-free
    one 'valgrind sees a leak' reported 'definitely lost' $checked "$bin/mistakes" leak
    for test in $c_tests_for_tools; do
        built "$test" "$bin/$test" && one "C: $test under valgrind" $checked "$bin/$test" $arguments
    done
}

if echo 'int main(void) { return 0; }' >"$bin/can.c" && $CC -fsanitize=address,undefined "$bin/can.c" -o "$bin/can" \
    >"$log" 2>&1; then
    with_address
else
    skip 'address sanitizer' "$CC cannot link it; install gcc with: apt-get install build-essential"
fi

runtime=$(echo "$sysroot/lib/rustlib/$host/lib"/librustc-*_rt.tsan.a)
if [ ! -f "$runtime" ]; then
    skip 'thread sanitizer' "Rust has none for $host"
elif [ ! -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]; then
    skip 'thread sanitizer' 'the sources of the standard library are missing; install them with: rustup component add rust-src'
else
    with_thread "$runtime"
fi

if has valgrind; then
    under_valgrind
else
    skip 'valgrind' 'it is not installed; install it with: apt-get install valgrind'
fi

summary
