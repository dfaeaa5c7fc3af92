//go:build grate_static

package grate_test

const buildTags = "grate_static"
