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
link="-L$lib -lgrate -Wl,-rpath,$lib -pthread"
log=$TARGET/test.log
mkdir -p "$bin"
. scripts/suite.sh

c_program() {
    # shellcheck disable=SC2086 # lists of flags
    $CC -std=c99 -O1 -g $warn -Iinclude -Ic-tests "$@" $link
}

header_is_current() {
    $CARGO run -q -p header -- "$TARGET/grate.h" && diff -u include/grate.h "$TARGET/grate.h"
}

# What the README prints as an example, compiled as it stands.
readme_example() {
    awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' README.md >"$bin/readme.c"
    test -s "$bin/readme.c" && c_program "$bin/readme.c" -o "$bin/readme" && "$bin/readme"
}

# The quickstart runs to its end and shows a decision with its four components.
demo() {
    "$bin/quickstart" >"$log.demo" && cat "$log.demo" \
        && grep -q 'score .* = quota .*, health .*, priority .*, latency .* <- chosen' "$log.demo"
}

suite 'cargo test' "$CARGO" test --workspace --no-fail-fast
one 'include/grate.h is what make header writes' header_is_current
one 'the example of the README compiles and runs' readme_example
one 'quickstart compiles' c_program examples-c/quickstart.c -o "$bin/quickstart"
one 'quickstart shows a decision with its four components' demo

# The C tests, plainly and under valgrind: no error, no byte lost.
for test in design_example conformance bad_input threads; do
    case $test in
        conformance) sources='c-tests/conformance.c c-tests/json.c' arguments=$(echo conformance/*.json) ;;
        bad_input) sources=c-tests/bad_input.c arguments=include/grate.h ;;
        *) sources=c-tests/$test.c arguments='' ;;
    esac
    # shellcheck disable=SC2086 # lists of files
    if c_program $sources -o "$bin/$test" >"$log" 2>&1; then
        suite "C: $test" "$bin/$test" $arguments
        if has valgrind; then
            one "C: $test under valgrind" valgrind -q --leak-check=full --show-leak-kinds=all --error-exitcode=1 \
                "$bin/$test" $arguments
        else
            skip "C: $test under valgrind" 'valgrind is not installed'
        fi
    else
        cat "$log"
        echo "FAIL C: $test does not compile"
        add 0 1 0
    fi
done

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

suite 'installed files' scripts/test-install.sh "$lib"

# What is skipped there is judged here.
total 'bindings' env STRICT= TARGET="$TARGET" scripts/test-bindings.sh

# Without a web server and the like, a compiler can still tell whether grate.hpp works.
if grep -q '^skipped: cpp: ' "$log" && has "$CXX"; then
    # shellcheck disable=SC2086 # lists of flags
    if $CXX -std=c++17 -O1 -g $warn -Iinclude -Ic-tests c-tests/cpp_test.cpp -o "$bin/cpp_test" $link >"$log" 2>&1; then
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

summary
