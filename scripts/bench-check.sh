#!/bin/sh
# Counts the instructions of the hot calls and compares them with the committed counts: fails if one is more than 3 % off.
#
#   scripts/bench-check.sh PROGRAM      (tools/bench/count.c, linked with the shared library)
#
# From the environment: UPDATE=1 writes the counts as the new baseline; STRICT=1 makes a missing valgrind a failure.
#
# A count is the mean of 1000 calls on a mock clock, of instructions inside libgrate.so only. So neither the machine's load,
# its processor, its C library (which picks its memcpy and strlen by the processor) nor the C compiler moves it, and two
# runs of one build give the same. What does belong to the baseline: the Rust compiler (rustc below), its flags, and
# Cargo.lock. With another compiler, write the baseline of an unchanged checkout first. What the library spends in the C
# library, such as copying, is not counted: `make bench` times it.
set -eu
cd "$(dirname "$0")/.."

program=$1
baseline=tools/bench/baseline.txt
calls=1000

if ! command -v valgrind >/dev/null 2>&1; then
    echo 'skipped: valgrind is not installed'
    test -z "${STRICT:-}"
    exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A dump for each line that the program prints.
valgrind -q --tool=callgrind --callgrind-out-file="$work/dump" --compress-strings=no --compress-pos=no \
    --collect-atstart=no --toggle-collect=counted --dump-before=count_is_over "$program" >"$work/names"

# own_cost DUMP: what functions of the library cost themselves. The line after `calls=` is the cost of a callee.
own_cost() {
    awk -F '[= ]' '
        $1 == "ob" { ours = /libgrate\.so/ }
        $1 == "calls" { getline; next }
        /^[0-9]/ && ours { cost += $2 }
        END { printf "%.0f\n", cost }' "$1"
}

n=0
while read -r name; do
    n=$((n + 1))
    echo "$name $(own_cost "$work/dump.$n")"
done <"$work/names" | awk -v calls="$calls" '{ printf "%s %s %s %.1f\n", $1, $2, $3, $4 / calls }' >"$work/counts"

rustc=$(${RUSTC:-rustc} --version)
if [ -n "${UPDATE:-}" ]; then
    {
        echo "# Instructions of a call: written by \`make bench-check UPDATE=1\`, read by \`make bench-check\`."
        echo "# $rustc"
        echo '# call providers quotas instructions'
        cat "$work/counts"
    } >"$baseline"
fi

grep -qxF "# $rustc" "$baseline" || echo "the baseline is of $(sed -n 's/^# \(rustc .*\)/\1/p' "$baseline"), this is $rustc"
awk '
    /^#/ { next }
    { key = $1 " " $2 " " $3 }
    NR == FNR { expected[key] = $4; next }
    FNR == 1 { printf "%-10s%9s%8s%14s%10s%11s\n", "call", "providers", "quotas", "instructions", "baseline", "deviation" }
    {
        if (!(key in expected)) { printf "%s: not in the baseline\n", key; bad++; next }
        deviation = ($4 / expected[key] - 1) * 100
        off = deviation > 3 || deviation < -3
        printf "%-10s%9d%8d%14.1f%10.1f%+10.2f%%%s\n", $1, $2, $3, $4, expected[key], deviation, off ? "  <- off" : ""
        bad += off
        delete expected[key]
    }
    END {
        for (key in expected) { printf "%s: in the baseline only\n", key; bad++ }
        if (bad) print "If that is meant: make bench-check UPDATE=1"
        exit bad > 0
    }' "$baseline" "$work/counts"
