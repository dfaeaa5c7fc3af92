#!/bin/sh
# Compares the tables of docs/dependencies.md with what cargo knows. Called by `make test`. From the environment: CARGO.
set -eu
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
tables=docs/dependencies.md

# The crates of a table, by its heading.
listed() {
    sed -n "/^## $1\$/,/^## /s/^| \`\([^\`]*\)\`.*/\1/p" $tables | sort
}
tree() {
    "$CARGO" tree --locked --prefix none --format '{p}' "$@" | sed 's/ .*//' | sort -u
}
members() {
    "$CARGO" tree --locked --workspace --depth 0 --prefix none --format '{p}' | sed 's/ .*//' | sort -u
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
members >"$work/members"
tree -p libgrate -e normal | comm -23 - "$work/members" >"$work/library"
# What tools and tests ask for themselves and the library does not have.
tree --workspace -e normal,dev,build --depth 1 --no-dedupe | comm -23 - "$work/members" | comm -23 - "$work/library" >"$work/tools"

{ listed 'In the library'; listed 'While compiling the library'; } | sort | diff - "$work/library" \
    || { echo "$tables: the crates of the library are others (<: listed, >: used)" >&2; exit 1; }
listed 'In tests and tools only' | diff - "$work/tools" \
    || { echo "$tables: the crates of tests and tools are others (<: listed, >: used)" >&2; exit 1; }
