# Sourced by the scripts that run the language bindings: installs the library that is built in $TARGET below $TARGET/prefix,
# and tells the bindings where it is.
# shellcheck shell=sh

GRATE_PREFIX=$TARGET/prefix
PREFIX=$GRATE_PREFIX DESTDIR='' LIBDIR='' INCLUDEDIR='' scripts/install.sh install "$TARGET/release" || exit 1
GRATE_LIBRARY=$GRATE_PREFIX/lib/libgrate.so
PKG_CONFIG_PATH=$GRATE_PREFIX/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
LD_LIBRARY_PATH=$GRATE_PREFIX/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export GRATE_PREFIX GRATE_LIBRARY PKG_CONFIG_PATH LD_LIBRARY_PATH
