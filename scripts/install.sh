#!/bin/sh
# Installs libgrate, or removes what it installed.
#
#   scripts/install.sh install|uninstall [BUILD_DIR]
#
# BUILD_DIR has libgrate.so and libgrate.a (default: target/release), and grate-top if that is to be installed. From the
# environment, with their defaults:
#   PREFIX=/usr/local  LIBDIR=$PREFIX/lib  INCLUDEDIR=$PREFIX/include  BINDIR=$PREFIX/bin
#   DESTDIR=           put in front of all, for packagers
#   STATIC_LIBS        what a static link needs besides libgrate.a, as `cargo rustc --release --lib --crate-type
#                      staticlib -- --print native-static-libs` tells; the defaults are those of the usual targets
set -eu

usage() {
    echo "usage: install.sh install|uninstall [BUILD_DIR]" >&2
    exit 2
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

[ $# -ge 1 ] && [ $# -le 2 ] || usage
action=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
build=${2:-$root/target/release}

version=$(sed -n 's/^version *= *"\([^"]*\)".*/\1/p' "$root/Cargo.toml" | head -n 1)
[ -n "$version" ] || fail "no version in Cargo.toml"
major=${version%%.*}

# An absolute path without slashes at its end.
directory() {
    case $2 in
        /*) ;;
        *) fail "$1 must be an absolute path: $2" ;;
    esac
    case $2 in
        *[\"\$\;\\\`]*) fail "$1 has a character that CMake or pkg-config would take for syntax: $2" ;;
    esac
    path=$2
    while [ "${path%/}" != "$path" ]; do path=${path%/}; done
    printf '%s\n' "$path"
}

PREFIX=$(directory PREFIX "${PREFIX:-/usr/local}")
LIBDIR=$(directory LIBDIR "${LIBDIR:-$PREFIX/lib}")
INCLUDEDIR=$(directory INCLUDEDIR "${INCLUDEDIR:-$PREFIX/include}")
BINDIR=$(directory BINDIR "${BINDIR:-$PREFIX/bin}")
DESTDIR=${DESTDIR:-}

lib=$DESTDIR$LIBDIR
include=$DESTDIR$INCLUDEDIR
bin=$DESTDIR$BINDIR
pkgconfig=$lib/pkgconfig
cmake=$lib/cmake/grate

case $(uname -s) in
    Darwin)
        # By the platform's conventions; not tested.
        built=libgrate.dylib
        shared=libgrate.$version.dylib
        soname=libgrate.$major.dylib
        link=libgrate.dylib
        system_libs="-lSystem -lc -lm"
        ;;
    *)
        built=libgrate.so
        shared=libgrate.so.$version
        soname=libgrate.so.$major
        link=libgrate.so
        # Without libgcc: the compiler adds the shared or the static one.
        system_libs="-lutil -lrt -lpthread -lm -ldl -lc"
        ;;
esac
STATIC_LIBS=${STATIC_LIBS:-$system_libs}

# Whether $1 lies below PREFIX, plainly written, so that the way back up can be counted.
below_prefix() {
    case $1/ in
        *//* | */./* | */../*) return 1 ;;
        "$PREFIX"/*) return 0 ;;
        *) return 1 ;;
    esac
}

# One "/.." for each directory between PREFIX and $1.
way_up() {
    rest=${1#"$PREFIX"}
    while [ -n "$rest" ]; do
        rest=${rest%/*}
        printf '/..'
    done
}

# Fills in a template: fill NAME.in TO VARIABLE VALUE ...
fill() {
    from=$root/packaging/$1
    to=$2
    shift 2
    script=
    while [ $# -gt 0 ]; do
        value=$(printf '%s\n' "$2" | sed 's/[&|\\]/\\&/g')
        script="$script
s|@$1@|$value|g"
        shift 2
    done
    sed "$script" "$from" >"$to"
    chmod 644 "$to"
}

escape_spaces() {
    printf '%s\n' "$1" | sed 's/ /\\ /g'
}

install_all() {
    for file in "$build/$built" "$build/libgrate.a"; do
        [ -f "$file" ] || fail "$file is missing: build it first with 'make'"
    done
    # Paths are written relative to the file they stand in, so that the whole tree can be moved.
    if below_prefix "$LIBDIR"; then
        pc_prefix="\${pcfiledir}$(way_up "$LIBDIR/pkgconfig")"
        pc_libdir="\${prefix}${LIBDIR#"$PREFIX"}"
        cmake_prefix="\${_grate_dir}$(way_up "$LIBDIR/cmake/grate")"
        cmake_libdir="\${_grate_prefix}${LIBDIR#"$PREFIX"}"
    else
        pc_prefix=$PREFIX pc_libdir=$LIBDIR cmake_prefix=$PREFIX cmake_libdir=$LIBDIR
    fi
    if below_prefix "$INCLUDEDIR"; then
        pc_includedir="\${prefix}${INCLUDEDIR#"$PREFIX"}"
        cmake_includedir="\${_grate_prefix}${INCLUDEDIR#"$PREFIX"}"
    else
        pc_includedir=$INCLUDEDIR cmake_includedir=$INCLUDEDIR
    fi

    install -d -m 755 "$lib" "$include" "$pkgconfig" "$cmake"
    install -m 755 "$build/$built" "$lib/$shared"
    ln -sf "$shared" "$lib/$soname"
    ln -sf "$soname" "$lib/$link"
    install -m 644 "$build/libgrate.a" "$lib/libgrate.a"
    install -m 644 "$root/include/grate.h" "$root/include/grate.hpp" "$include"
    if [ -f "$build/grate-top" ]; then
        install -d -m 755 "$bin"
        install -m 755 "$build/grate-top" "$bin"
    else
        echo "install.sh: without grate-top, which is not in $build: 'make top' builds it" >&2
    fi
    if [ "$(uname -s)" = Darwin ] && command -v install_name_tool >/dev/null; then
        install_name_tool -id "$LIBDIR/$soname" "$lib/$shared"
    fi

    # pkg-config wants a backslash before each space (and writes pcfiledir itself so).
    fill grate.pc.in "$pkgconfig/grate.pc" VERSION "$version" STATIC_LIBS "$STATIC_LIBS" \
        PC_PREFIX "$(escape_spaces "$pc_prefix")" PC_LIBDIR "$(escape_spaces "$pc_libdir")" \
        PC_INCLUDEDIR "$(escape_spaces "$pc_includedir")"
    fill grate-config.cmake.in "$cmake/grate-config.cmake" SHARED "$shared" SONAME "$soname" \
        CMAKE_STATIC_LIBS "$(printf '%s' "$STATIC_LIBS" | tr -s ' ' ';')" \
        CMAKE_PREFIX "$cmake_prefix" CMAKE_LIBDIR "$cmake_libdir" CMAKE_INCLUDEDIR "$cmake_includedir"
    fill grate-config-version.cmake.in "$cmake/grate-config-version.cmake" VERSION "$version" MAJOR "$major"
}

uninstall_all() {
    rm -f "$lib/$shared" "$lib/$soname" "$lib/$link" "$lib/libgrate.a" \
        "$include/grate.h" "$include/grate.hpp" "$pkgconfig/grate.pc" "$bin/grate-top" \
        "$cmake/grate-config.cmake" "$cmake/grate-config-version.cmake"
    # The one directory that is ours alone, unless somebody put something into it.
    [ ! -d "$cmake" ] || rmdir "$cmake" 2>/dev/null || true
}

case $action in
    install) install_all ;;
    uninstall) uninstall_all ;;
    *) usage ;;
esac
