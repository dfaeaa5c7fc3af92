#!/bin/sh
# Runs the HTTP demo against three real upstreams.
#
#   scripts/demo-http.sh path/to/demo_http [--seconds N] [--seed N] [...]
#   scripts/demo-http.sh --check            only tells whether everything it needs is installed
#
# Exit status: that of the demo (0 shown, 1 not shown, 2 it could not run), 2 if something is missing.
# SPDX-License-Identifier: Apache-2.0
set -u

fail() {
    echo "demo-http: $*" >&2
    exit 2
}

upstreams=$(dirname "$0")/with-upstreams.sh
"$upstreams" --check || exit 2
if ! { command -v curl-config || { command -v pkg-config && pkg-config --exists libcurl; }; } >/dev/null 2>&1; then
    fail 'the development files of libcurl are missing; install them with: apt-get install libcurl4-openssl-dev'
fi

[ $# -ge 1 ] || fail "usage: $0 path/to/demo_http [options of the demo] | --check"
[ "$1" != --check ] || exit 0
[ -x "$1" ] || fail "no such program: $1 (build it with: make demo-http)"

# The demo begins by asking each upstream whether it answers.
# shellcheck disable=SC2016 # expanded by the inner shell, which knows the upstreams
exec "$upstreams" sh -c 'exec "$@" "$GRATE_OUTAGE_FILE" $GRATE_UPSTREAMS' sh "$@"
