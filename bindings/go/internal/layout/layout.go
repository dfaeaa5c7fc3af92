// Package layout is the structs of grate.h as Go sees them, for a test that compares them with what a C compiler says. It is a
// package because tests cannot use cgo.
package layout

// #cgo pkg-config: grate
// #include <grate.h>
import "C"

import "reflect"

// Structs by their names in C.
var Structs = map[string]reflect.Type{
	"grate_error":               reflect.TypeOf(C.grate_error{}),
	"grate_engine_config":       reflect.TypeOf(C.grate_engine_config{}),
	"grate_quota_config":        reflect.TypeOf(C.grate_quota_config{}),
	"grate_provider_config":     reflect.TypeOf(C.grate_provider_config{}),
	"grate_capability_provider": reflect.TypeOf(C.grate_capability_provider{}),
	"grate_capability_config":   reflect.TypeOf(C.grate_capability_config{}),
	"grate_request":             reflect.TypeOf(C.grate_request{}),
	"grate_response":            reflect.TypeOf(C.grate_response{}),
	"grate_decision":            reflect.TypeOf(C.grate_decision{}),
	"grate_candidate":           reflect.TypeOf(C.grate_candidate{}),
	"grate_header":              reflect.TypeOf(C.grate_header{}),
	"grate_header_quota":        reflect.TypeOf(C.grate_header_quota{}),
	"grate_header_report":       reflect.TypeOf(C.grate_header_report{}),
	"grate_metrics":             reflect.TypeOf(C.grate_metrics{}),
	"grate_quota_state":         reflect.TypeOf(C.grate_quota_state{}),
	"grate_provider_state":      reflect.TypeOf(C.grate_provider_state{}),
}
