#!/bin/sh
# What an acquire and complete costs in each language, beside C, on one configuration (bindings/bench.json). The C program runs
# before and after each run of a language, and the run is compared with the mean of the two. The table shows the run with the
# median ratio; where the times of C before and after it lie far apart, something else was going on, and it says so.
#
#   scripts/bench-bindings.sh [LANGUAGE...]      cpp, go, java, node, python, ruby; all of them by default
#
# From the environment: CC, TARGET (the build directory, in which the library is built already), ROUNDS (5 per language).
set -u
cd "$(dirname "$0")/.." || exit 1

CC=${CC:-cc}
TARGET=${TARGET:-$PWD/target}
ROUNDS=${ROUNDS:-5}
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
    # The results in the order of the runs: C, then after each run of the language C again.
    $2 == "C" {
        for (i = 1; i <= runs; i++) pair(i, ($1 == language ? before : $4), $4)
        language = $1; before = $4; runs = 0
        if (!c_cycle || $4 < c_cycle) { c_empty = $3; c_cycle = $4 }
        next
    }
    { runs++; name[runs] = $2; empty[runs] = $3; cycle[runs] = $4 }
    # A run with C before and after it: a line of the table, and its ratio in front.
    function pair(i, before, after,   n, c, over, note) {
        n = name[i]; c = (before + after) / 2; over = (cycle[i] - c) / 2
        note = before > 1.25 * after || after > 1.25 * before ? sprintf("   C took %.0f and %.0f: repeat it", before, after) : ""
        if (!(n in count)) order[++names] = n
        ratio[n, ++count[n]] = over / empty[i]
        line[n, count[n]] = sprintf("%-11s %14.1f %20.1f %14.1f %18.1f %18.2f%s", n, empty[i], cycle[i], c, over, over / empty[i], note)
    }
    # The run of which half of the others have a lower ratio.
    function middle(n,   i, k, lower) {
        for (i = 1; i <= count[n]; i++) {
            lower = 0
            for (k = 1; k <= count[n]; k++) lower += ratio[n, k] < ratio[n, i] || (ratio[n, k] == ratio[n, i] && k < i)
            if (lower == int((count[n] - 1) / 2)) return i
        }
    }
    END {
        if (!names) exit
        printf "%-11s %14s %20s %14s %18s %18s\n", "language", "empty call, ns", "acquire+complete, ns", "the same in C", "overhead per call",
            "overhead / empty"
        printf "%-11s %14.1f %20.1f\n", "C", c_empty, c_cycle
        for (i = 1; i <= names; i++) print line[order[i], middle(order[i])]
        if (("Ruby, C ext", 1) in line)
            print "Ruby twice: its FFI is the gem ffi, on which the binding sits; a call of an extension in C is the cheapest there is."
    }' "$results"
