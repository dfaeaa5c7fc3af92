#!/bin/sh
# Worker processes on one state file, and grate-top beside them.
#
#   scripts/demo-top.sh path/to/workers path/to/grate-top             in this terminal, until q is pressed
#   scripts/demo-top.sh path/to/workers path/to/grate-top SECOND...   what a terminal of 90 columns shows at these seconds:
#                                                                     so were the frames of the README made (needs tmux)
set -eu

fail() {
    echo "demo-top: $*" >&2
    exit 2
}

[ $# -ge 2 ] || fail "usage: $0 path/to/workers path/to/grate-top [SECOND...]"
[ -x "$1" ] && [ -x "$2" ] || fail "no program: $1 or $2"
workers=$(realpath -- "$1") top=$(realpath -- "$2")
shift 2
last=0
for second; do
    case $second in
        '' | *[!0-9]* | 0?*) fail "a frame is at a whole number of seconds, not at '$second'" ;;
    esac
    [ "$second" -ge "$last" ] || fail "frames are told in order: $second comes after $last"
    last=$second
done
[ $# -eq 0 ] || command -v tmux >/dev/null || fail 'tmux is missing; install it with: apt-get install tmux'

dir=$(mktemp -d)
# A socket of its own: no other session is touched.
session() {
    tmux -u -S "$dir/tmux" "$@"
}
quit() {
    [ ! -S "$dir/tmux" ] || session kill-server 2>/dev/null || true
    [ -z "$load" ] || kill "$load" 2>/dev/null || true
    rm -rf "$dir"
}
load=
trap quit EXIT
trap 'exit 1' HUP INT TERM

[ $# -gt 0 ] || last=3600
cd "$dir"
"$workers" app.grate 4 $((last + 5)) >workers.log 2>&1 &
load=$!
# The file is there at once, but not before the program has begun.
while [ ! -e app.grate ]; do
    kill -0 "$load" 2>/dev/null || fail "the workers have ended: $(cat workers.log)"
    sleep 0.1
done
if [ $# -eq 0 ]; then
    "$top" app.grate
    exit
fi
session -f /dev/null new-session -d -x 90 -y 24 "LC_ALL=C.UTF-8 '$top' app.grate"
now=0
for second; do
    sleep $((second - now))
    now=$second
    echo "# after $second s"
    session capture-pane -p
done
