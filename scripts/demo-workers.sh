#!/bin/sh
# Runs servers of four worker processes each in front of three real upstreams with rate limits, once with quotas in each worker,
# once with those of all workers in one state file, and shows how many 429s the upstreams answered.
#
#   scripts/demo-workers.sh puma|gunicorn...
#   scripts/demo-workers.sh --check SERVER      only tells whether everything it needs is installed
#
# The servers are in examples/servers. From the environment: TARGET (the build directory, in which the library is built already).
# Exit status: 0 shown, 1 not shown, 2 if something is missing.
# SPDX-License-Identifier: Apache-2.0
set -u
cd "$(dirname "$0")/.." || exit 2

TARGET=${TARGET:-$PWD/target}
GRATE_LIBRARY=$TARGET/release/libgrate.so
export GRATE_LIBRARY

# What is sent: a little more than the upstreams' 38 requests per second, and for so long that their bursts do not matter.
rate=40 seconds=14

fail() {
    echo "demo-workers: $*" >&2
    exit 2
}

check() {
    scripts/with-upstreams.sh --check || exit 2
    command -v python3 >/dev/null || fail 'python3 is missing; install it with: apt-get install python3'
    case $1 in
    puma)
        command -v puma >/dev/null || fail 'puma is missing; install it with: apt-get install puma (or: gem install puma)'
        for gem in faraday ffi rack; do
            ruby -e "require '$gem'" 2>/dev/null ||
                fail "the gem $gem is missing; install it with: apt-get install ruby-$gem (or: gem install $gem)"
        done ;;
    gunicorn) bindings/python/test --check || exit 2 ;;
    *) fail "no such server: $1" ;;
    esac
}

case ${1:-} in
'') fail "usage: $0 puma|gunicorn... | --check SERVER" ;;
--check)
    check "${2:-}"
    exit ;;
esac

dir=$(mktemp -d "${TMPDIR:-/tmp}/grate-workers.XXXXXX") || fail 'cannot make a temporary directory'
own='' shared=''
trap 'rm -rf "$dir"' EXIT
# shellcheck disable=SC2086 # none, or one each
trap 'kill $own $shared 2>/dev/null; exit 130' HUP INT TERM

# Without the parts in C, of which there may be older ones.
GRATE_PURE_RUBY=1 GRATE_PURE_PYTHON=1 PYTHONDONTWRITEBYTECODE=1
RUBYLIB=$PWD/bindings/ruby/lib PYTHONPATH=$PWD/bindings/python
export GRATE_PURE_RUBY GRATE_PURE_PYTHON PYTHONDONTWRITEBYTECODE RUBYLIB PYTHONPATH

# measure NAME [VARIABLE=VALUE]: what examples/servers/measure.py says, into a file of this name. To be run in the background.
measure() {
    cd examples/servers || exit 2
    # shellcheck disable=SC2086 # words
    exec env ${2:+"$2"} ../../scripts/with-upstreams.sh python3 measure.py $rate $seconds $command >"$dir/$1" 2>"$dir/$1.log"
}

shown=0
for server; do
    check "$server"
    case $server in
    puma) command="puma -C puma.rb -b tcp://127.0.0.1" ;;
    gunicorn)
        python=$(bindings/python/test --python) || exit 2
        command="$python -m gunicorn -c gunicorn.conf.py app:app -b 127.0.0.1" ;;
    esac
    # Each has upstreams of its own.
    measure own & own=$!
    measure shared "STATE_PATH=$dir/$server" & shared=$!
    wait $own
    wait $shared
    for name in own shared; do
        [ -s "$dir/$name" ] || { cat "$dir/$name.log" >&2; fail "$server could not be measured"; }
    done
    echo "$server: $((rate * seconds)) requests in $seconds s, four workers"
    cat "$dir/own" "$dir/shared" | awk '
        BEGIN { printf "%-26s %8s %16s %6s %6s\n", "", "served", "asked upstreams", "429s", "" }
        { printf "%-26s %8d %16d %6d %4.1f %%\n", NR == 1 ? "quotas in each worker" : "one state file", $2, $3, $4, 100 * $4 / $3 }
        { served[NR] = $2; asked[NR] = $3; refused[NR] = $4 }
        END { exit !(refused[1] > asked[1] / 20 && refused[2] < asked[2] / 100 && served[2] >= served[1]) }' || shown=1
    echo
done
exit $shown
