# Sourced by the scripts that build and run the C tests: which there are, and what each is made of. Needs $CC, $warn, $lib
# (where libgrate is), $bin and $TARGET.
# shellcheck shell=sh disable=SC2034,SC2154 # what those scripts set and use

c_tests='design_example conformance bad_input first threads clocks signals extremes memory fork load'
# Of processes that share a state file; $shared is how far they go: empty, or `long`.
c_tests_shared='shared_limit shared_kills shared_steps shared_forks shared_exec shared_damage'
c_tests="$c_tests $c_tests_shared"
# Those that allocators, forks and loaders of the tools would change are left out.
c_tests_for_tools='design_example conformance bad_input first threads clocks signals extremes'

# Sets the sources of a test, its flags and its arguments.
c_test() {
    sources=c-tests/$1.c flags="-Iinclude -L$lib -lgrate -Wl,-rpath,$lib" arguments=''
    case $1 in
        conformance) sources='c-tests/conformance.c c-tests/json.c' arguments=$(echo conformance/*.json) ;;
        bad_input) arguments=include/grate.h ;;
        first) sources=c-tests/first/caller.c flags="-Ic-tests/first -L$lib -lgrate -Wl,-rpath,$lib" ;;
        shared_*)
            sources="c-tests/shared/${1#shared_}.c c-tests/shared/common.c" arguments=${shared:-}
            case $1 in
                shared_limit)
                    sources="$sources c-tests/shared/stopwatch.c tools/soak/recount.c" flags="-Itools/soak $flags"
                    ;;
                shared_kills) sources="$sources c-tests/shared/stopwatch.c" ;;
                shared_steps) sources="$sources c-tests/shared/trap.c" ;;
            esac
            ;;
        panic) flags="-Iinclude -L$TARGET/faults/debug -lgrate -Wl,-rpath,$TARGET/faults/debug" ;;
        load)
            flags='-Iinclude -ldl' arguments="$lib/libgrate.so $bin/libcopy.so"
            cp "$lib/libgrate.so" "$bin/libcopy.so"
            ;;
    esac
}

# c_program FLAG...: compiles a program.
c_program() {
    # shellcheck disable=SC2086 # lists of flags
    $CC -std=c99 -O1 -g $warn -Ic-tests "$@" -pthread
}

# built NAME OUTPUT FLAG...: compiles a test, and shows why if that fails.
built() {
    name=$1 output=$2
    shift 2
    c_test "$name"
    # shellcheck disable=SC2086 # lists of files and flags
    c_program "$@" $sources -o "$output" $flags >"$log" 2>&1 && return
    cat "$log"
    echo "FAIL C: $name does not compile"
    add 0 1 0
    return 1
}
