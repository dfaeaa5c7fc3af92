#!/bin/sh
# Installs the library into a directory of its own, runs the tests of the language bindings against it, and adds them up: the
# last line is "N passed, N failed, N skipped". Every language must have replayed all scenarios in conformance.
#
#   scripts/test-bindings.sh [LANGUAGE...]      cpp, go, java, node, python, ruby; all of them by default
#
# A language whose tools are not installed is skipped. From the environment: TARGET (the build directory, in which the
# library is built already), STRICT=1 (a skip is a failure).
set -u
cd "$(dirname "$0")/.." || exit 1

TARGET=${TARGET:-$PWD/target}
log=$TARGET/test-bindings.log
. scripts/suite.sh
. scripts/prefix.sh

[ $# -gt 0 ] || set -- cpp go java node python ruby
for language; do
    [ -x "bindings/$language/test" ] || { echo "test-bindings.sh: no bindings/$language/test" >&2; exit 2; }
done

# One each, as tests/conformance.rs sees to.
scenarios=$(cat conformance/*.json | grep -c '"about":')
table=''

for language; do
    why=$("bindings/$language/test" --check 2>&1)
    status=$?
    # "bindings/cpp/test: with-upstreams: nginx is missing ..." without the names of scripts
    why=$(printf '%s\n' "$why" | sed -e ':again' -e 's/^[a-z/-]*: //' -e 't again')
    passed_before=$passed failed_before=$failed skipped_before=$skipped
    replayed=0
    case $status,$why in
        0,*)
            total "$language" "bindings/$language/test"
            # A line, or several that say the same, if it runs them in several ways.
            replayed=$(sed -n 's/^conformance: \([0-9]*\) scenarios$/\1/p' "$log" | sort -u | paste -s -d / -)
            if [ "$replayed" != "$scenarios" ]; then
                echo "FAIL $language: replayed ${replayed:-no} conformance scenarios, of $scenarios"
                add 0 1 0
            fi
            ;;
        # The library is there, so it is not found or does not load: no reason to skip.
        2,*libgrate* | [!2]*)
            echo "FAIL $language: $why"
            add 0 1 0
            ;;
        *) skip "$language" "$why" ;;
    esac
    table="$table$language $((passed - passed_before)) $((failed - failed_before)) $((skipped - skipped_before)) ${replayed:-0}
"
done

echo
printf '%s' "$table" | awk '
    BEGIN { printf "%-10s %8s %8s %8s %10s\n", "language", "passed", "failed", "skipped", "scenarios" }
    { printf "%-10s %8s %8s %8s %10s\n", $1, $2, $3, $4, $5 }'
summary
