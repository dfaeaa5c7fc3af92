//go:build grate_static

package grate

// pkg-config has no way to say "the archive", and would put the shared library first: so the archive is named here, and
// what the Rust standard library needs after it. Where it is not on the compiler's path, CGO_CFLAGS and CGO_LDFLAGS say so.

// #cgo LDFLAGS: -l:libgrate.a -lutil -lrt -lpthread -lm -ldl -lc
import "C"
