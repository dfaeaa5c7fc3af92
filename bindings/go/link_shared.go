//go:build !grate_static

package grate

// #cgo pkg-config: grate
import "C"
