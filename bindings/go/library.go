package grate

// #include "native.h"
import "C"

import "fmt"

// HeaderVersion is the version of libgrate that this package was compiled for:
// major * 1000000 + minor * 1000 + patch.
const HeaderVersion = C.GRATE_VERSION

const oneMajor = 1_000_000

// LibraryVersion is the version of the libgrate that is linked, as a number like [HeaderVersion].
func LibraryVersion() int {
	return int(C.grate_version())
}

// LibraryVersionString is the version of the libgrate that is linked, such as "0.1.0".
func LibraryVersionString() string {
	return C.GoString(C.grate_version_string())
}

// checkVersion refuses a shared library that is older than the header, or of another major version: fields that this
// package uses might not exist there.
func checkVersion(library int) error {
	if library < HeaderVersion || library/oneMajor != HeaderVersion/oneMajor {
		return fmt.Errorf("grate: the linked libgrate has version %d, this package needs %d or a later one with the same major version",
			library, HeaderVersion)
	}
	return nil
}
