#!/bin/sh
# Runs all tests that the installed tools allow, and adds them up: the last line is "N passed, N failed, N skipped".
# Called by `make test`, which builds the library first.
#
# From the environment: CARGO, CC, CXX, TARGET (the build directory), STRICT=1 (a skipped test is a failure).
set -u
cd "$(dirname "$0")/.." || exit 1

CARGO=${CARGO:-cargo}
CC=${CC:-cc}
CXX=${CXX:-c++}
TARGET=${TARGET:-$PWD/target}
STRICT=${STRICT:-}
export CARGO STRICT

lib=$TARGET/release
bin=$TARGET/c
warn='-Wall -Wextra -Wpedantic -Werror'
link="-Iinclude -L$lib -lgrate -Wl,-rpath,$lib"
log=$TARGET/test.log
mkdir -p "$bin"
. scripts/suite.sh
. scripts/c-tests.sh

header_is_current() {
    $CARGO run -q -p header -- "$TARGET/grate.h" && diff -u include/grate.h "$TARGET/grate.h"
}

# What the README prints as an example, compiled as it stands.
readme_example() {
    awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' README.md >"$bin/readme.c"
    # shellcheck disable=SC2086 # a list of flags
    test -s "$bin/readme.c" && c_program "$bin/readme.c" -o "$bin/readme" $link && "$bin/readme"
}

# The quickstart runs to its end and shows a decision with its four components.
demo() {
    "$bin/quickstart" >"$log.demo" && cat "$log.demo" \
        && grep -q 'score .* = quota .*, health .*, priority .*, latency .* <- chosen' "$log.demo"
}

# The functions of the first header are those that its program calls.
first_uses_all() {
    scripts/abi-facts.sh c-tests/first/grate.h | sed -n 's/^function .*[ *]\(grate_[a-z_]*\)(.*/\1/p' | sort \
        >"$bin/first.declared"
    nm -u "$bin/first" | sed -n 's/^ *U \(grate_[a-z_]*\)$/\1/p' | sort | diff "$bin/first.declared" -
}

# One that panics on demand. That a release has no such function is scripts/abi-check.sh's to see.
library_with_faults() {
    "$CARGO" rustc -q --lib --crate-type cdylib --features fault-injection --target-dir "$TARGET/faults" \
        && ln -sf libgrate.so "$TARGET/faults/debug/libgrate.so.0"
}

suite 'cargo test' "$CARGO" test --workspace --no-fail-fast
one 'include/grate.h is what make header writes' header_is_current
one 'the example of the README compiles and runs' readme_example
# shellcheck disable=SC2086 # a list of flags
one 'quickstart compiles' c_program examples-c/quickstart.c -o "$bin/quickstart" $link
one 'quickstart shows a decision with its four components' demo

for test in $c_tests; do
    # shellcheck disable=SC2086 # a list of arguments
    built "$test" "$bin/$test" && suite "C: $test" "$bin/$test" $arguments
done
one 'the program of the first header uses all of it' first_uses_all
one 'the library with faults compiles' library_with_faults
if built panic "$bin/panic"; then
    suite 'C: panic' env RUST_BACKTRACE=0 "$bin/panic"
fi

total 'ABI' scripts/abi-check.sh "$lib/libgrate.so"

# What is skipped in scripts that add up is judged here.
total 'sanitizers' env STRICT= CARGO="$CARGO" CC="$CC" CXX="$CXX" TARGET="$TARGET" scripts/sanitize.sh

suite 'the locks, in all orders of steps' make -s model-check

# The soak in short; that its recount notices what is too much, in every kind of window and in the whole.
recount() {
    c_program tools/soak/recount_test.c tools/soak/recount.c -o "$bin/recount" && "$bin/recount"
}
planted_excess() {
    ! "$bin/soak" --minutes 0.05 --plant >"$log.planted" && grep 'units in the window' "$log.planted"
}
suite 'C: recount' recount
suite 'soak: 12 s of all calls on eight threads' make -s soak SOAK_MINUTES=0.2
one 'soak: a planted excess is noticed' planted_excess

# Runs to its end; what it measures is no test.
one 'bench: runs' make -s bench QUICK=1

one 'the libraries are the same, byte for byte, when they are built elsewhere' make -s reproducible
map_is_complete() {
    find src -name '*.rs' ! -name tests.rs | sed 's/^src.//' | sort >"$log.files"
    sed -n 's/^| `\([a-z_/]*\.rs\)`.*/\1/p' CONTRIBUTING.md | sort | diff - "$log.files"
}
one 'CONTRIBUTING.md has every file of src on its map' map_is_complete
one 'docs/dependencies.md lists the dependencies' scripts/dependencies.sh
if "$CARGO" deny --version >/dev/null 2>&1; then
    one 'dependencies: licences, sources and duplicates' make -s deny
else
    skip 'dependencies: licences, sources and duplicates' 'cargo-deny is not installed: cargo install cargo-deny --locked'
fi

# What the README prints of worker processes is in the program, line by line.
readme_workers() {
    sed -n '/^## Shared by worker processes/,/^## /p' README.md | awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' \
        | sed 's/^ *//' >"$bin/readme-workers"
    sed 's/^ *//' examples-c/workers.c >"$bin/workers-lines"
    test -s "$bin/readme-workers" && ! grep -vxFf "$bin/workers-lines" "$bin/readme-workers"
}
one 'the README shows worker processes as they are' readme_workers
frame_shown() {
    make -s demo-top FRAMES=3 >"$log.frame" && cat "$log.frame" && grep '^5 processes: ' "$log.frame" \
        && grep '^  requests/10s .*/600 .* configured$' "$log.frame" && grep '^q: quit$' "$log.frame"
}
if has tmux; then
    one 'demo-top: grate-top shows worker processes in a terminal' frame_shown
else
    skip 'demo-top' 'tmux is missing; install it with: apt-get install tmux'
fi

suite 'installed files' scripts/test-install.sh "$lib"

total 'bindings' env STRICT= TARGET="$TARGET" scripts/test-bindings.sh

# Without a web server and the like, a compiler can still tell whether grate.hpp works.
if grep -q '^skipped: cpp: ' "$log" && has "$CXX"; then
    # shellcheck disable=SC2086 # lists of flags
    if $CXX -std=c++17 -O1 -g $warn -Iinclude -Ic-tests c-tests/cpp_test.cpp -o "$bin/cpp_test" $link -pthread >"$log" 2>&1; then
        suite 'C++: grate.hpp' "$bin/cpp_test"
    else
        cat "$log"
        echo 'FAIL C++: grate.hpp does not compile'
        add 0 1 0
    fi
fi

if scripts/demo-http.sh --check >"$log" 2>&1; then
    one 'demo-http: fewer than 1 % 429s at equal or better goodput' make -s demo-http
else
    skip 'demo-http' "$(cat "$log")"
fi

for server in puma gunicorn; do
    if TARGET="$TARGET" scripts/demo-workers.sh --check $server >"$log" 2>&1; then
        one "demo-workers: fewer than 1 % 429s for four workers of $server that share a state file" \
            make -s demo-workers SERVERS=$server
    else
        skip "demo-workers: $server" "$(cat "$log")"
    fi
done

summary
