#!/bin/sh
# What an acquire and complete costs in each language, beside C, on one configuration (bindings/bench.json). The C program runs
# before and after each run of a language, and the figures are medians; where those of C lie far apart, something else was going
# on, and the table says so.
#
#   scripts/bench-bindings.sh [LANGUAGE...]      cpp, go, java, node, python, ruby; all of them by default
#
# From the environment: CC, TARGET (the build directory, in which the library is built already), ROUNDS (3 per language).
set -u
cd "$(dirname "$0")/.." || exit 1

CC=${CC:-cc}
TARGET=${TARGET:-$PWD/target}
ROUNDS=${ROUNDS:-3}
. scripts/prefix.sh

[ $# -gt 0 ] || set -- cpp go java node python ruby
bin=$TARGET/c
results=$TARGET/bench-bindings.tsv
mkdir -p "$bin"
: >"$results"
"$CC" -std=c99 -O2 -Wall -Wextra -Wpedantic -Werror -Iinclude bindings/bench.c -o "$bin/bench-call" -L"$GRATE_PREFIX/lib" -lgrate ||
    exit 1

# measure LANGUAGE COMMAND...: adds "LANGUAGE<TAB>C or other<TAB>empty<TAB>cycle" to the results: a line, or one for each empty
# call with which a cycle can be compared.
measure() {
    beside=$1
    shift
    lines=$("$@" 2>"$results.log" | grep '^bench	')
    if [ -z "$lines" ]; then
        cat "$results.log" >&2
        echo "bench-bindings.sh: $beside: no result" >&2
        exit 1
    fi
    echo "$lines"
    echo "$lines" | sed "s/^bench/$beside/" >>"$results"
}

for language; do
    if ! why=$("bindings/$language/test" --check 2>&1); then
        echo "skipped: $language: $why"
        continue
    fi
    measure "$language" "$bin/bench-call" bindings/bench.json
    round=0
    while [ $round -lt "$ROUNDS" ]; do
        round=$((round + 1))
        measure "$language" "bindings/$language/test" --bench
        measure "$language" "$bin/bench-call" bindings/bench.json
    done
done

echo
awk -F'\t' '
    # The median of the numbers in a list.
    function median(list,   n, v, i, j, t) {
        n = split(list, v, " ")
        for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j - 1] + 0 > v[j] + 0; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    $2 == "C" {
        c[$1] = c[$1] " " $4; c_empty = c_empty " " $3; c_all = c_all " " $4
        if (!($1 in least) || $4 < least[$1]) least[$1] = $4
        if ($4 > most[$1]) most[$1] = $4
        next
    }
    {
        if (!($2 in empty)) { order[++names] = $2; beside[$2] = $1 }
        empty[$2] = empty[$2] " " $3; cycle[$2] = cycle[$2] " " $4
    }
    END {
        if (!names) exit
        printf "%-11s %14s %20s %14s %18s %18s\n", "language", "empty call, ns", "acquire+complete, ns", "the same in C", "overhead per call",
            "overhead / empty"
        printf "%-11s %14.1f %20.1f\n", "C", median(c_empty), median(c_all)
        for (i = 1; i <= names; i++) {
            n = order[i]; l = beside[n]; e = median(empty[n]); over = (median(cycle[n]) - median(c[l])) / 2
            note = most[l] > 1.25 * least[l] ? sprintf("   C took %.0f to %.0f: repeat it on a quieter machine", least[l], most[l]) : ""
            printf "%-11s %14.1f %20.1f %14.1f %18.1f %18.2f%s\n", n, e, median(cycle[n]), median(c[l]), over, over / e, note
        }
        if ("Ruby, C ext" in empty)
            print "Ruby twice: its FFI is the gem ffi, on which the binding sits; a call of an extension in C is the cheapest there is."
    }' "$results"
