#!/bin/sh
# reproducible.sh LIB: builds the libraries a second time, in another directory and with another CARGO_HOME, and compares them
# with those in LIB byte for byte. Called by `make reproducible`, which builds the first ones.
set -eu
cd "$(dirname "$0")/.."
first=$1
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT

# What cargo needs of the sources, and what it has downloaded, under other paths.
copy=$elsewhere/a/deeper/copy
home=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$copy" "$elsewhere/cargo/registry"
cp -R Cargo.toml Cargo.lock Makefile build.rs src tools "$copy"
cp -R "$home/registry/cache" "$home/registry/index" "$elsewhere/cargo/registry"
env -u MAKEFLAGS CARGO_HOME="$elsewhere/cargo" CARGO_TARGET_DIR="$elsewhere/built" make -s -C "$copy" all

status=0
for file in libgrate.so libgrate.a; do
    if cmp "$first/$file" "$elsewhere/built/release/$file"; then
        sha256sum "$first/$file"
    else
        status=1
    fi
    # The paths of this machine are nobody's business.
    for path in "$PWD" "$elsewhere" "$home"; do
        if grep -qaF "$path/" "$elsewhere/built/release/$file" "$first/$file"; then
            echo "$file: contains the path $path" >&2
            status=1
        fi
    done
done
exit $status
