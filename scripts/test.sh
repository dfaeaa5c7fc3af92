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
export STRICT

lib=$TARGET/release
bin=$TARGET/c
warn='-Wall -Wextra -Wpedantic -Werror'
link="-L$lib -lgrate -Wl,-rpath,$lib -pthread"
log=$TARGET/test.log
passed=0 failed=0 skipped=0
mkdir -p "$bin"

add() {
    passed=$((passed + $1))
    failed=$((failed + $2))
    skipped=$((skipped + $3))
}

skip() {
    echo "skipped: $1: $2"
    add 0 0 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# suite NAME COMMAND...: runs a command whose output has lines of "N passed" and "N failed", in cargo's, pytest's or the
# plain form, and adds them up. A command that fails without a failed test counts as one.
suite() {
    name=$1
    shift
    echo "== $name"
    "$@" >"$log" 2>&1
    status=$?
    cat "$log"
    # shellcheck disable=SC2046 # three numbers
    set -- $(awk '
        function before(word,   i) { for (i = 2; i <= NF; i++) if ($i ~ "^" word "[,;]?$") return $(i - 1) + 0; return 0 }
        / passed/ && (/^test result:/ || /[0-9]+ failed/ || /^=+ / || /^[0-9]+ passed/) {
            p += before("passed"); f += before("failed"); s += before("skipped") + before("ignored")
        }
        END { print p + 0, f + 0, s + 0 }' "$log")
    if [ $status -ne 0 ] && [ "$2" -eq 0 ]; then
        echo "FAIL $name: exit status $status"
        set -- "$1" 1 "$3"
    fi
    if [ $status -eq 0 ] && [ "$(($1 + $3))" -eq 0 ]; then
        echo "FAIL $name: it ran no test"
        set -- 0 1 0
    fi
    add "$1" "$2" "$3"
}

# one NAME COMMAND...: a command that is one test.
one() {
    name=$1
    shift
    if "$@" >"$log" 2>&1; then
        echo "ok $name"
        add 1 0 0
    else
        cat "$log"
        echo "FAIL $name"
        add 0 1 0
    fi
}

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

if has "$CXX"; then
    # shellcheck disable=SC2086 # lists of flags
    if $CXX -std=c++17 -O1 -g $warn -Iinclude -Ic-tests c-tests/cpp_test.cpp -o "$bin/cpp_test" $link >"$log" 2>&1; then
        suite 'C++: grate.hpp' "$bin/cpp_test"
    else
        cat "$log"
        echo 'FAIL C++: grate.hpp does not compile'
        add 0 1 0
    fi
else
    skip 'C++: grate.hpp' 'no C++ compiler'
fi

# Runs to its end; what it measures is no test.
one 'bench: runs' make -s bench QUICK=1

suite 'installed files' scripts/test-install.sh "$lib"

if has python3 && python3 -c 'import pytest' 2>/dev/null; then
    suite 'Python binding' env PYTHONPATH=bindings/python GRATE_LIBRARY="$lib/libgrate.so" \
        python3 -m pytest -q -p no:cacheprovider bindings/python/tests
else
    skip 'Python binding' 'python3 with pytest is not installed'
fi

if scripts/demo-http.sh --check >"$log" 2>&1; then
    one 'demo-http: fewer than 1 % 429s at equal or better goodput' make -s demo-http
else
    skip 'demo-http' "$(cat "$log")"
fi

echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] || exit 1
if [ -n "$STRICT" ] && [ "$skipped" -gt 0 ]; then
    echo 'STRICT: nothing may be skipped' >&2
    exit 1
fi
