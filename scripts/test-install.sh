#!/bin/sh
# Installs libgrate into temporary directories, builds and runs programs against what was installed, and uninstalls.
#
#   scripts/test-install.sh [BUILD_DIR]
#
# BUILD_DIR has libgrate.so, libgrate.a and grate-top (default: target/release). One line per check: "ok", "FAIL" or "skipped".
# STRICT=1 makes a missing tool a failure.
set -u

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
build=${1:-$root/target/release}
case $build in /*) ;; *) build=$PWD/$build ;; esac
for file in libgrate.so grate-top; do
    [ -f "$build/$file" ] || { echo "test-install.sh: no $file in $build" >&2; exit 2; }
done

work=$(mktemp -d "${TMPDIR:-/tmp}/grate install.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

passed=0 failed=0 skipped=0

# check WHAT COMMAND...: its output is shown only if it fails.
check() {
    check_what=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        echo "ok $check_what"
        passed=$((passed + 1))
    else
        echo "FAIL $check_what"
        sed 's/^/    /' "$work/log"
        failed=$((failed + 1))
    fi
}

# needs WHAT TOOL...: whether all tools are there; if not, the check is skipped, or fails under STRICT=1.
needs() {
    needs_what=$1
    shift
    for tool; do
        command -v "$tool" >/dev/null && continue
        if [ "${STRICT:-0}" = 1 ]; then
            echo "FAIL $needs_what: no $tool"
            failed=$((failed + 1))
        else
            echo "skipped: $needs_what: no $tool"
            skipped=$((skipped + 1))
        fi
        return 1
    done
}

version=$(sed -n 's/^version *= *"\([^"]*\)".*/\1/p' "$root/Cargo.toml" | head -n 1)
soname=libgrate.so.${version%%.*}

# ---- Programs ----------------------------------------------------------------------------------------------------

cat >"$work/consumer.c" <<'END'
#include <grate.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_engine *engine = NULL;
    grate_decision decision = GRATE_DECISION_INIT;
    grate_response response = GRATE_RESPONSE_INIT;
    grate_quota_config quota = GRATE_QUOTA_CONFIG_INIT;
    grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;
    grate_capability_provider served_by = GRATE_CAPABILITY_PROVIDER_INIT;
    grate_capability_config capability = GRATE_CAPABILITY_CONFIG_INIT;
    quota.dimension = GRATE_DIMENSION_REQUESTS;
    quota.limit = 10;
    quota.window_ns = GRATE_WINDOW_MINUTE;
    provider.name = served_by.provider = "one";
    provider.quotas = &quota;
    provider.quotas_len = 1;
    capability.name = "api";
    capability.providers = &served_by;
    capability.providers_len = 1;
    response.http_status = 200;
    if (grate_version() != GRATE_VERSION || grate_engine_new(NULL, &engine, &err) != GRATE_OK ||
        grate_engine_upsert_provider(engine, &provider, &err) != GRATE_OK ||
        grate_engine_upsert_capability(engine, &capability, &err) != GRATE_OK ||
        grate_engine_acquire(engine, "api", NULL, &decision, &err) != GRATE_OK ||
        strcmp(decision.provider, "one") != 0 ||
        grate_engine_complete(engine, decision.lease, &response, &err) != GRATE_OK) {
        fprintf(stderr, "%s: %s\n", grate_status_name(err.code), err.message);
        return 1;
    }
    grate_engine_free(engine);
    puts(grate_version_string());
    return 0;
}
END

cat >"$work/consumer.cpp" <<'END'
#include <grate.hpp>
#include <cstdio>

int main()
{
    grate::Engine engine;
    grate::QuotaConfig quota;
    quota.limit = 10;
    quota.window = std::chrono::minutes(1);
    engine.upsert_provider({"one", 0, {quota}});
    engine.upsert_capability({"api", {{"one"}}});
    grate::Lease lease = engine.acquire("api");
    lease.complete(grate::Response::http(200));
    std::puts(grate_version_string());
}
END

cat >"$work/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.13)
project(consumer C CXX)
set(CMAKE_CXX_STANDARD 17)
find_package(grate ${VERSION} REQUIRED CONFIG)
add_executable(shared_c consumer.c)
target_link_libraries(shared_c PRIVATE grate::grate)
add_executable(shared_cpp consumer.cpp)
target_link_libraries(shared_cpp PRIVATE grate::grate)
add_executable(static_c consumer.c)
target_link_libraries(static_c PRIVATE grate::grate_static)
add_executable(static_cpp consumer.cpp)
target_link_libraries(static_cpp PRIVATE grate::grate_static)
END

# runs PROGRAM [LIBRARY_PATH]: prints the version and nothing else.
runs() {
    [ "$(LD_LIBRARY_PATH=${2:-} "$1")" = "$version" ]
}

# The library is named by its SONAME, or, with "none", not at all.
linked_to() {
    if [ "$2" = none ]; then
        ! readelf -d "$1" | grep NEEDED | grep libgrate
    else
        readelf -d "$1" | grep NEEDED | grep -F "[$2]"
    fi
}

with_pkg_config() {
    # eval, for pkg-config quotes what has spaces.
    eval "cc -Wall -Werror \"$work/consumer.c\" -o \"$work/a.out\" $(pkg-config --cflags --libs grate)" &&
        runs "$work/a.out" "$1" && linked_to "$work/a.out" "$soname" &&
        eval "c++ -std=c++17 -Wall -Werror \"$work/consumer.cpp\" -o \"$work/a.out\" $(pkg-config --cflags --libs grate)" &&
        runs "$work/a.out" "$1" && linked_to "$work/a.out" "$soname"
}

with_pkg_config_static() {
    flags=$(pkg-config --static --cflags --libs grate | sed 's/-lgrate/-l:libgrate.a/')
    # As a program with the system's shared libraries, and as one without any.
    for whole in '' -static; do
        eval "cc $whole -Wall -Werror \"$work/consumer.c\" -o \"$work/a.out\" $flags" &&
            runs "$work/a.out" && linked_to "$work/a.out" none || return 1
    done
}

cmake_configure() {
    rm -rf "$work/cmake build"
    cmake -S "$work" -B "$work/cmake build" -DCMAKE_BUILD_TYPE=Release -DVERSION="$version" "-Dgrate_DIR=$1/cmake/grate"
}

# with_cmake shared|static NEEDED: CMake gives the programs a run path to the library.
with_cmake() {
    for language in c cpp; do
        program=$1_$language
        cmake --build "$work/cmake build" --target "$program" && runs "$work/cmake build/$program" &&
            linked_to "$work/cmake build/$program" "$2" || return 1
    done
}

# A CMake build that asks for another major version, or for a newer one, finds nothing.
cmake_refuses() {
    ! cmake -S "$work" -B "$work/cmake refused" -DVERSION="$2" "-Dgrate_DIR=$1/cmake/grate" &&
        rm -rf "$work/cmake refused"
}

# ---- Install, use, uninstall -------------------------------------------------------------------------------------

modes_are_right() {
    [ -z "$(find "$1" -type d ! -perm 755)" ] &&
        [ -z "$(find "$1" -type f ! -name 'libgrate.so.*' ! -name grate-top ! -perm 644)" ] &&
        [ -z "$(find "$1" -type f \( -name 'libgrate.so.*' -o -name grate-top \) ! -perm 755)" ] &&
        [ "$(readlink "$2/libgrate.so")" = "$soname" ] &&
        [ "$(readlink "$2/$soname")" = "libgrate.so.$version" ]
}

nothing_is_left() {
    [ -z "$(find "$1" ! -type d)" ] && [ -z "$(find "$1" -name 'grate*')" ]
}

# A file with the path of the temporary directory in it could not be moved.
can_be_moved() {
    ! grep -rlF "$1" "$2/pkgconfig" "$2/cmake"
}

# layout NAME DESTDIR PREFIX LIBDIR INCLUDEDIR
layout() {
    name=$1 tree=${2:-$3} lib=$2$4
    DESTDIR=$2 PREFIX=$3 LIBDIR=$4 INCLUDEDIR=$5
    export DESTDIR PREFIX LIBDIR INCLUDEDIR
    PKG_CONFIG_PATH=$lib/pkgconfig
    export PKG_CONFIG_PATH

    # However tight the installer's own umask is.
    check "$name: install" sh -c 'umask 077 && exec "$0" install "$1"' "$here/install.sh" "$build"
    mkdir -p "$tree" && chmod 755 "$tree"
    check "$name: modes and links" modes_are_right "$tree" "$lib"
    check "$name: grate-top" [ "$("$2$3/bin/grate-top" --version)" = "grate-top $version" ]
    if needs "$name: pkg-config" pkg-config cc c++ readelf; then
        check "$name: pkg-config, version" [ "$(pkg-config --modversion grate)" = "$version" ]
        check "$name: pkg-config, shared" with_pkg_config "$lib"
        check "$name: pkg-config, static" with_pkg_config_static
    fi
    if needs "$name: CMake" cmake cc c++ readelf; then
        check "$name: CMake, configure" cmake_configure "$lib"
        check "$name: CMake, shared" with_cmake shared "$soname"
        check "$name: CMake, static" with_cmake static none
    fi
    if [ "$6" = movable ]; then
        check "$name: no absolute path in the files" can_be_moved "$work" "$lib"
        mv "$tree" "$work/elsewhere"
        moved=$work/elsewhere${lib#"$tree"}
        PKG_CONFIG_PATH=$moved/pkgconfig
        needs "$name: moved, pkg-config" pkg-config cc c++ readelf &&
            check "$name: moved, pkg-config, shared" with_pkg_config "$moved"
        if needs "$name: moved, CMake" cmake cc c++ readelf; then
            check "$name: moved, CMake, configure" cmake_configure "$moved"
            check "$name: moved, CMake, shared" with_cmake shared "$soname"
            check "$name: CMake refuses a newer minor version" cmake_refuses "$moved" "${version%%.*}.999"
            check "$name: CMake refuses another major version" cmake_refuses "$moved" "$((${version%%.*} + 1)).0"
        fi
        mv "$work/elsewhere" "$tree"
    fi
    # What others put there stays.
    : >"$lib/libother.so"
    check "$name: uninstall" "$here/install.sh" uninstall "$build"
    check "$name: uninstall leaves what is not ours" [ -f "$lib/libother.so" ]
    rm -f "$lib/libother.so"
    check "$name: uninstall leaves nothing of ours" nothing_is_left "$tree"
    check "$name: uninstall twice" "$here/install.sh" uninstall "$build"
    unset DESTDIR PREFIX LIBDIR INCLUDEDIR PKG_CONFIG_PATH
    rm -rf "$tree"
}

# -l:libgrate.a, readelf and SONAMEs are Linux's (and the BSDs').
layout "staged" "$work/dest dir" "/opt/my grate" "/opt/my grate/lib" "/opt/my grate/include" movable
layout "multiarch" "" "$work/usr" "$work/usr/lib/x86_64-linux-gnu" "$work/usr/include/sub dir" movable
mkdir -p "$work/apart"
layout "apart" "" "$work/apart" "$work/apart/../apart/lib 64" "$work/apart/headers" fixed

# ---- The shared library ------------------------------------------------------------------------------------------

declared() {
    cc -E -P "$root/include/grate.h" | tr -s ' \t\n' ' ' | grep -o 'grate_[a-z0-9_]*(' | tr -d '(' | sort -u
}

exports_are_the_header() {
    declared >"$work/declared" && [ -s "$work/declared" ] || return 1
    nm -D --defined-only "$build/libgrate.so" | awk '{ print $NF }' | sort -u >"$work/exported"
    echo "declared but not exported (<), exported but not declared (>):"
    diff "$work/declared" "$work/exported"
}

has_soname() {
    readelf -d "$build/libgrate.so" | grep SONAME | grep -F "[$soname]"
}

stays_mapped() {
    readelf -d "$build/libgrate.so" | grep FLAGS_1 | grep NODELETE
}

needs "SONAME is $soname" readelf && check "SONAME is $soname" has_soname
needs "-z nodelete" readelf && check "-z nodelete" stays_mapped
needs "exports are the header's functions" nm cc && check "exports are the header's functions" exports_are_the_header

# ---- The headers -------------------------------------------------------------------------------------------------

{
    echo '#include "grate.h"'
    echo '#include "grate.h"'
    echo 'int main(void) {'
    sed -n 's/^#define \(GRATE_[A-Z_]*_INIT\) GRATE_INIT_(\([a-z_]*\))$/    { \2 it = \1; if (it.struct_size != sizeof it) return 1; }/p' \
        "$root/include/grate.h"
    echo '    return 0; }'
} >"$work/header.c"
cp "$work/header.c" "$work/header.cpp"
{
    echo '#include "grate.hpp"'
    echo '#include "grate.hpp"'
    echo 'int main() {}'
} >"$work/headerpp.cpp"
# Two files that include it: an inline function that is not would be there twice.
echo '#include "grate.hpp"
int other() { return grate::Status().ok(); }' >"$work/other.cpp"

strict="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"

# header COMPILER STANDARD FILE EXTRA...
header() {
    compiler=$1 standard=$2 file=$3
    shift 3
    what="$file.h: $compiler -std=$standard${*:+ $*}"
    case $standard in
        c++*) sources="header.cpp" ;;
        *) sources="header.c" ;;
    esac
    if [ "$file" = grate.hpp ]; then
        what="$file: $compiler -std=$standard${*:+ $*}"
        sources="headerpp.cpp other.cpp"
    fi
    needs "$what" "$compiler" || return 0
    for source in $sources; do
        # shellcheck disable=SC2086 # a list of options
        check "$what ($source)" "$compiler" "-std=$standard" $strict "$@" "-I$root/include" -c "$work/$source" -o "$work/$source.o"
    done
}

for compiler in gcc clang; do
    for standard in c99 c11 c17; do header $compiler $standard grate; done
done
for compiler in g++ clang++; do
    for standard in c++11 c++17 c++20; do header $compiler $standard grate; done
    for standard in c++17 c++20; do
        header $compiler $standard grate.hpp
        header $compiler $standard grate.hpp -fno-exceptions -fno-rtti
    done
    if needs "grate.hpp: two files, $compiler" $compiler; then
        check "grate.hpp: two files, $compiler" $compiler -std=c++17 "-I$root/include" "$work/headerpp.cpp" "$work/other.cpp" \
            "-L$build" -lgrate -o "$work/a.out"
    fi
done

echo "install: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
