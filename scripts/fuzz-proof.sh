#!/bin/sh
# Shows that the fuzz target `calls` finds bugs: plants some in a copy of the sources, one at a time, and runs it until it tells
# of a finding, once from the committed corpus, which must bring it, and once from nothing. Called by `make fuzz-proof`.
#
# From the environment: CARGO, TARGET (the build directory).
set -eu
cd "$(dirname "$0")/.."

CARGO=${CARGO:-cargo}
TARGET=${TARGET:-$PWD/target}/fuzz-proof
most=60
copy=$TARGET/tree
if ! $CARGO fuzz --version >/dev/null 2>&1; then
    echo 'fuzz-proof needs cargo-fuzz: cargo install cargo-fuzz --locked --version 0.13.2' >&2
    exit 1
fi
. scripts/fuzz-build.sh

# plant FILE TEXT OTHER: replaces a text in a file of the copy, which must be there once.
plant() {
    awk -v from="$2" -v to="$3" '
        i = index($0, from) { n++; $0 = substr($0, 1, i - 1) to substr($0, i + length(from)) }
        { print }
        END { exit n != 1 }' "$1" >"$copy/$1" || {
        echo "FAIL fuzz-proof: '$2' is not in $1, or more than once: the bug must be planted elsewhere" >&2
        exit 1
    }
}

# find_it CORPUS...: runs the target; prints the seconds until the finding. Fails if there is none.
find_it() {
    start=$(date +%s)
    fuzz_run "$TARGET" calls "-max_total_time=$most" "-artifact_prefix=$TARGET/artifacts/" "$@" >"$TARGET/run.log" 2>&1 || true
    grep -q ' panicked at \|^==.*ERROR: ' "$TARGET/run.log" || return 1
    echo "$(($(date +%s) - start)) s"
}

# proves NAME FILE TEXT OTHER: a finding within $most seconds, or a failure.
proves() {
    rm -rf "$copy"
    mkdir -p "$copy" "$TARGET/artifacts"
    # With new times: cargo must see that what was planted before is gone.
    tar -cf - Cargo.toml Cargo.lock build.rs src tools fuzz | tar -xmf - -C "$copy"
    plant "$2" "$3" "$4"
    fuzz_build "$copy" "$TARGET" >"$TARGET/build.log" 2>&1 || {
        cat "$TARGET/build.log"
        echo "FAIL fuzz-proof: with $1 it does not compile"
        exit 1
    }
    from_nothing=$(find_it) || from_nothing="not within $most s"
    from_corpus=$(find_it fuzz/corpus/calls) || {
        echo "FAIL fuzz-proof: $1 was not found within $most s"
        exit 1
    }
    echo "ok $1: found after $from_corpus; from nothing: $from_nothing"
    grep -A 1 -m 1 ' panicked at \|^==.*ERROR: ' "$TARGET/run.log"
}

proves 'one unit too many' src/quota/mod.rs \
    '_ => n <= ceiling.saturating_sub(self.used(now)),' '_ => n <= ceiling.saturating_sub(self.used(now)).saturating_add(1),'
proves 'a mark that leaves a nanosecond early' src/quota/marks.rs \
    'mark.time.saturating_add(q.window_ns())' 'mark.time.saturating_add(q.window_ns() - 1)'
proves 'a lease slot that is freed twice' src/lease.rs \
    'slot.generation.set(next_generation(slot.generation.get()));' '// Not ended.'
