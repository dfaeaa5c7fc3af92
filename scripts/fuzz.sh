#!/bin/sh
# Runs the fuzz targets, as many at a time as there are processors, and tells how far each came. Called by `make fuzz`. What
# the last run found lies in $TARGET/fuzz/artifacts; what is kept of the inputs in $TARGET/fuzz/corpus, for the next one.
#
# From the environment: FUZZ_SECONDS (for each target), FUZZ_TARGET (this one only), CARGO, TARGET (the build directory),
# STRICT=1 (that nothing can be run is a failure).
set -eu
cd "$(dirname "$0")/.."

CARGO=${CARGO:-cargo}
TARGET=${TARGET:-$PWD/target}/fuzz
seconds=${FUZZ_SECONDS:-60}

if ! $CARGO fuzz --version >/dev/null 2>&1; then
    echo 'skipped: fuzz: cargo-fuzz is not installed: cargo install cargo-fuzz --locked --version 0.13.2'
    test -z "${STRICT:-}"
    exit
fi

targets=${FUZZ_TARGET:-$($CARGO fuzz list)}
. scripts/fuzz-build.sh
fuzz_build . "$TARGET"

# One target. What libFuzzer says goes to a log; it ends by itself, or at the first finding.
run() {
    mkdir -p "$TARGET/corpus/$1" "$TARGET/artifacts/$1"
    rm -f "$TARGET/artifacts/$1"/*
    fuzz_run "$TARGET" "$1" "-max_total_time=$seconds" "-artifact_prefix=$TARGET/artifacts/$1/" \
        "$TARGET/corpus/$1" "fuzz/corpus/$1" >"$TARGET/$1.log" 2>&1 || echo "exit status $?" >>"$TARGET/$1.log"
}

slots=$(getconf _NPROCESSORS_ONLN)
running=0
for target in $targets; do
    run "$target" &
    running=$((running + 1))
    if [ "$running" -ge "$slots" ]; then
        wait
        running=0
    fi
done
wait

status=0
printf '%-16s %12s %10s %8s %8s %8s %9s\n' target executions 'per second' edges features corpus findings
for target in $targets; do
    log=$TARGET/$target.log
    stat() {
        sed -n "s/^stat::$1: *//p" "$log"
    }
    # The last line of progress: "#N DONE cov: N ft: N corp: N/Nb ...".
    last() {
        sed -n "s/^#[0-9]*.* $1: \([0-9]*\).*/\1/p" "$log" | tail -n 1
    }
    findings=$(find "$TARGET/artifacts/$target" -type f | wc -l)
    printf '%-16s %12s %10s %8s %8s %8s %9s\n' "$target" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "$(last cov)" "$(last ft)" "$(last corp)" "$findings"
    if [ "$findings" -gt 0 ] || grep -q '^exit status' "$log"; then
        grep -v '^#' "$log" | tail -n 60
        echo "FAIL fuzz $target: see $TARGET/artifacts/$target and $log"
        status=1
    fi
done
exit "$status"
