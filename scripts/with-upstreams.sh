#!/bin/sh
# Runs a command while three real metered upstreams are up: nginx on free loopback ports, with its own configuration in a
# temporary directory. Always stops nginx (by its pid) and removes the directory. No root needed.
#
#   scripts/with-upstreams.sh COMMAND [ARGUMENT...]
#   scripts/with-upstreams.sh --check       only tells whether nginx is installed
#
# The command finds in its environment
#   GRATE_UPSTREAMS     the base URLs of gold, silver and bronze, separated by blanks; what each allows is in
#                       examples-c/http/nginx.conf.in, and GET /v1/answer is what they meter
#   GRATE_OUTAGE_FILE   while this file exists, silver fails
#   GRATE_UPSTREAMS_LOG what they answered, a line for each request: port and status
#
# Exit status: that of the command, 2 if something is missing.
# SPDX-License-Identifier: Apache-2.0
set -u

# nginx lives in sbin, which is often not in the path of a normal user.
PATH=$PATH:/usr/local/sbin:/usr/sbin
export PATH

fail() {
    echo "with-upstreams: $*" >&2
    exit 2
}

command -v nginx >/dev/null 2>&1 || fail "nginx is missing; install it with: apt-get install nginx-light"
[ $# -ge 1 ] || fail "usage: $0 COMMAND [ARGUMENT...] | --check"
[ "$1" != --check ] || exit 0

template=$(dirname "$0")/../examples-c/http/nginx.conf.in
[ -r "$template" ] || fail "cannot read $template"

dir=''
nginx_pid=''
command_pid=''

# Kills process $1 and waits for its end, in which a process that does not listen gets 5 seconds.
stop() {
    kill "$1" 2>/dev/null || return 0
    tries=0
    while kill -0 "$1" 2>/dev/null && [ $tries -lt 50 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -KILL "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}

cleanup() {
    trap '' HUP INT TERM
    [ -z "$command_pid" ] || stop "$command_pid"
    [ -z "$nginx_pid" ] || stop "$nginx_pid"
    [ -z "$dir" ] || rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

dir=$(mktemp -d "${TMPDIR:-/tmp}/grate-upstreams.XXXXXX") || fail "cannot make a temporary directory"
mkdir "$dir/html" || fail "cannot write to $dir"

# Which ports are free only bind() can tell without a race, so nginx itself is asked: three neighbours at
# random, below the range from which the kernel takes ports for outgoing connections, until they suit it.
attempt=0
started=no
while [ $started = no ]; do
    attempt=$((attempt + 1))
    [ $attempt -le 8 ] || fail "nginx does not start: $(cat "$dir/start.log" "$dir/error.log" 2>/dev/null)"
    random=$(od -An -N2 -tu2 /dev/urandom | tr -d ' ') || fail "cannot read /dev/urandom"
    gold=$((20000 + random % 4000 * 3))
    silver=$((gold + 1))
    bronze=$((gold + 2))
    sed -e "s/@PORT_GOLD@/$gold/" -e "s/@PORT_SILVER@/$silver/" -e "s/@PORT_BRONZE@/$bronze/" \
        "$template" >"$dir/nginx.conf" || fail "cannot write to $dir"
    nginx -t -p "$dir/" -c nginx.conf >"$dir/start.log" 2>&1 ||
        fail "this nginx does not take the configuration: $(cat "$dir/start.log")"
    rm -f "$dir/nginx.pid"
    nginx -p "$dir/" -c nginx.conf >"$dir/start.log" 2>&1 &
    nginx_pid=$!
    # It writes its pid once it listens, and ends by itself if it cannot. -s: the file is made empty.
    while kill -0 "$nginx_pid" 2>/dev/null; do
        if [ -s "$dir/nginx.pid" ]; then
            started=yes
            break
        fi
        sleep 0.1
    done
    if [ $started = no ]; then
        wait "$nginx_pid"
        nginx_pid=''
    fi
done

GRATE_UPSTREAMS="http://127.0.0.1:$gold http://127.0.0.1:$silver http://127.0.0.1:$bronze"
GRATE_OUTAGE_FILE=$dir/html/outage
GRATE_UPSTREAMS_LOG=$dir/access.log
export GRATE_UPSTREAMS GRATE_OUTAGE_FILE GRATE_UPSTREAMS_LOG

# In the background, because a shell that waits in the foreground runs its traps only afterwards.
"$@" &
command_pid=$!
wait "$command_pid"
status=$?
command_pid=''
exit $status
