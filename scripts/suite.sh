# Sourced by the scripts that run tests of many kinds: runs them, shows what they say, and adds them up in passed, failed
# and skipped. Needs $log, a file to write to.
# shellcheck shell=sh

passed=0 failed=0 skipped=0

add() {
    passed=$((passed + $1))
    failed=$((failed + $2))
    skipped=$((skipped + $3))
}

skip() {
    echo "skipped: $1: $2"
    add 0 0 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# Lines of "N passed" and "N failed", in cargo's or the plain form, added up.
all_lines() {
    awk '
        function before(word,   i) { for (i = 2; i <= NF; i++) if ($i ~ "^" word "[,;]?$") return $(i - 1) + 0; return 0 }
        / passed/ && (/^test result:/ || /[0-9]+ failed/ || /^[0-9]+ passed/) {
            p += before("passed"); f += before("failed"); s += before("skipped") + before("ignored")
        }
        END { print p + 0, f + 0, s + 0 }'
}

# The last line alone, "N passed, N failed, N skipped".
last_line() {
    sed -n '$s/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p'
}

# count HOW NAME COMMAND...: runs a command and adds what HOW reads in its output. One that fails without a failed test, or
# that tells of no test, counts as a failed one.
count() {
    how=$1 name=$2
    shift 2
    echo "== $name"
    { "$@" 2>&1; echo $? >"$log.status"; } | tee "$log"
    status=$(cat "$log.status")
    # shellcheck disable=SC2046 # three numbers
    set -- $($how <"$log")
    [ $# -eq 3 ] || set -- 0 0 0
    if [ "$status" -ne 0 ] && [ "$2" -eq 0 ]; then
        echo "FAIL $name: exit status $status"
        set -- "$1" 1 "$3"
    fi
    if [ "$status" -eq 0 ] && [ "$(($1 + $2 + $3))" -eq 0 ]; then
        echo "FAIL $name: it ran no test"
        set -- 0 1 0
    fi
    add "$1" "$2" "$3"
}

# suite NAME COMMAND...: a command that prints the sums of its parts.
suite() {
    count all_lines "$@"
}

# total NAME COMMAND...: one whose last line is the sum of all.
total() {
    count last_line "$@"
}

# one NAME COMMAND...: a command that is one test.
one() {
    name=$1
    shift
    if "$@" >"$log" 2>&1; then
        echo "ok $name"
        add 1 0 0
    else
        cat "$log"
        echo "FAIL $name"
        add 0 1 0
    fi
}

# The last line, and the exit status.
summary() {
    echo
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ] || return 1
    if [ -n "${STRICT:-}" ] && [ "$skipped" -gt 0 ]; then
        echo 'STRICT: nothing may be skipped' >&2
        return 1
    fi
}
