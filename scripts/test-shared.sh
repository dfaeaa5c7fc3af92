#!/bin/sh
# Runs the tests of processes that share a state file, in their long form. Called by `make test-shared`, which builds the
# library first. The last line is "N passed, N failed, N skipped".
#
# From the environment: CC, TARGET (the build directory, with the library in it), STRICT=1 (a skipped test is a failure).
# shellcheck disable=SC2034,SC2154 # what c-tests.sh uses and sets
set -u
cd "$(dirname "$0")/.." || exit 1

CC=${CC:-cc}
TARGET=${TARGET:-$PWD/target}
lib=$TARGET/release
bin=$TARGET/c
warn='-Wall -Wextra -Wpedantic -Werror'
log=$TARGET/test-shared.log
shared=long
mkdir -p "$bin"
. scripts/suite.sh
. scripts/c-tests.sh

for test in $c_tests_shared; do
    # shellcheck disable=SC2086 # a list of arguments
    built "$test" "$bin/$test" && suite "C: $test" "$bin/$test" $arguments
done

summary
