#!/bin/sh
# Checks that a program that was compiled before still runs: every fact of packaging/abi/baseline.txt is one of
# include/grate.h (a field behind the last one, another function or constant is none that was there before), and the shared
# library exports the functions of the header and nothing else. Then, on changed copies of the header, that the check sees
# what would break programs.
#
#   scripts/abi-check.sh LIBRARY     UPDATE=1 writes the baseline from the header
#
# From the environment: CC. The last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/.." || exit 2

header=include/grate.h
baseline=packaging/abi/baseline.txt
library=${1:?usage: scripts/abi-check.sh LIBRARY}
work=$(mktemp -d "${TMPDIR:-/tmp}/grate-abi.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT

if [ -n "${UPDATE:-}" ]; then
    scripts/abi-facts.sh "$header" >"$work/facts" && cp "$work/facts" "$baseline" || exit 1
    echo "wrote $baseline"
fi

log=$work/log
. scripts/suite.sh

# Whether all facts of the baseline are facts of a header.
keeps() {
    scripts/abi-facts.sh "$1" >"$work/facts" || return 2
    ! grep -vxF -f "$work/facts" "$baseline"
}

exports_what_is_declared() {
    scripts/abi-facts.sh "$header" | sed -n 's/^function .*[ *]\(grate_[a-z_0-9]*\)(.*/\1/p' | sort >"$work/declared"
    nm -D --defined-only "$library" | awk '{ print $3 }' | sort >"$work/exported"
    test -s "$work/declared" && diff "$work/declared" "$work/exported"
}

# edited SED_SCRIPT: whether a header that is changed so, and is changed at all, keeps the ABI.
edited() {
    mkdir -p "$work/edited"
    sed "$1" "$header" >"$work/edited/grate.h"
    ! cmp -s "$header" "$work/edited/grate.h" || { echo "the edit changes nothing: $1"; return 2; }
    keeps "$work/edited/grate.h"
}

breaks() {
    edited "$1"
    [ $? -eq 1 ]
}

one 'the header keeps what programs were compiled with' keeps "$header"
grep -vxF -f "$baseline" "$work/facts" | sed 's/^/new, until UPDATE=1 records it: /'
one 'the library exports what the header declares' exports_what_is_declared

last='s/^} grate_engine_config;/  uint64_t more;\n&/'
middle='s/^  uint64_t lease_ttl_ns;'
one 'allowed: a field behind the last one' edited "$last"
one 'allowed: another function' edited 's/^uint32_t grate_version(void);/&\nuint32_t grate_more(void);/'
one 'allowed: another constant' edited 's/^#define GRATE_OK 0/&\n#define GRATE_MORE 99/'
one 'seen: a field in the middle' breaks "$middle/  uint64_t more;\n&/"
one 'seen: a field in the middle, and one behind the last' breaks "$last;$middle/  uint64_t too;\n&/"
one 'seen: a field of another type' breaks "$middle/  int64_t lease_ttl_ns;/"
one 'seen: a field of another size' breaks "$middle/  uint32_t lease_ttl_ns;/"
one 'seen: a field of another name' breaks "$middle/  uint64_t lease_ttl;/"
one 'seen: a field that is gone' breaks "/^  uint64_t lease_ttl_ns;/d"
one 'seen: a field of a struct without struct_size' breaks 's/^  uint64_t value_len;/&\n  uint64_t more;/'
one 'seen: a function that is gone' breaks '/^uint32_t grate_version(void);/d'
one 'seen: a function with another parameter' breaks 's/^uint32_t grate_version(void);/uint32_t grate_version(int x);/'
one 'seen: a function with another result' breaks 's/^uint32_t grate_version(void);/uint64_t grate_version(void);/'
one 'seen: a constant of another value' breaks 's/^#define GRATE_ERR_PANIC 13/#define GRATE_ERR_PANIC 14/'
one 'seen: a constant that is gone' breaks '/^#define GRATE_ERR_PANIC 13/d'
one 'seen: a callback with another result' breaks 's/^typedef uint64_t (\*grate_unix_ms_fn)/typedef uint32_t (*grate_unix_ms_fn)/'
one 'seen: another type of status' breaks 's/^typedef int32_t grate_status;/typedef int64_t grate_status;/'

summary
