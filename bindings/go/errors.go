package grate

// #include "native.h"
import "C"

import (
	"errors"
	"fmt"
	"time"
)

// Code is a status of the library. Every error of the library has one in its chain, so that errors.Is finds it:
//
//	errors.Is(err, grate.ErrStaleLease)
type Code int32

// The codes, in words those of grate.h.
const (
	ErrNullPointer          Code = C.GRATE_ERR_NULL_POINTER          // an Engine that was not made by New
	ErrStructSize           Code = C.GRATE_ERR_STRUCT_SIZE           // a library that does not suit this package
	ErrInvalidName          Code = C.GRATE_ERR_INVALID_NAME          // not 1 to 128 bytes of UTF-8 without control characters
	ErrInvalidArgument      Code = C.GRATE_ERR_INVALID_ARGUMENT      // a value is out of its range
	ErrInvalidConfig        Code = C.GRATE_ERR_INVALID_CONFIG        // a configuration contradicts itself; nothing was applied
	ErrInvalidJSON          Code = C.GRATE_ERR_INVALID_JSON          // malformed, or unknown fields; nothing was applied
	ErrUnknownCapability    Code = C.GRATE_ERR_UNKNOWN_CAPABILITY    // no capability of that name is registered
	ErrUnknownProvider      Code = C.GRATE_ERR_UNKNOWN_PROVIDER      // no provider of that name is registered
	ErrNoAvailableProviders Code = C.GRATE_ERR_NO_PROVIDER_AVAILABLE // see NoAvailableProvidersError
	ErrStaleLease           Code = C.GRATE_ERR_STALE_LEASE           // settled before, expired, or never existed
	ErrBufferTooSmall       Code = C.GRATE_ERR_BUFFER_TOO_SMALL      // never returned: this package has the buffers
	ErrCapacity             Code = C.GRATE_ERR_CAPACITY              // too many providers, quotas or leases for one engine
	ErrPanic                Code = C.GRATE_ERR_PANIC                 // a bug of libgrate: please report it
	ErrStateFile            Code = C.GRATE_ERR_STATE_FILE            // damaged, not one, of another version, or cannot be opened
)

// ErrClosed is returned by every method of an engine that was closed, and of its leases.
var ErrClosed = errors.New("grate: the engine is closed")

// Name is the symbolic name, such as "GRATE_ERR_STALE_LEASE"; "GRATE_ERR_UNKNOWN" for a number that the library does
// not know.
func (c Code) Name() string {
	return C.GoString(C.grate_status_name(C.grate_status(c)))
}

// Error makes a Code the target of errors.Is and errors.As.
func (c Code) Error() string {
	return "grate: " + c.Name()
}

// Error is a failed call. Nothing has changed when one is returned.
type Error struct {
	Code    Code
	Message string // what is wrong and what to do about it
}

// Error is the message with the name of the code.
func (e *Error) Error() string {
	return fmt.Sprintf("grate: %s (%s)", e.Message, e.Code.Name())
}

// Unwrap is the Code.
func (e *Error) Unwrap() error {
	return e.Code
}

// NoAvailableProvidersError is returned when no provider can take the request now. Its decision names the one that frees
// first, and what holds it: Provider, HeldBy, RetryAfter and the rest.
type NoAvailableProvidersError struct {
	Decision
}

// Wait is how long until Provider can take the request, and true; or false if waiting does not help, because the request is
// larger than a limit, excludes the provider, or the capability has none.
func (e *NoAvailableProvidersError) Wait() (time.Duration, bool) {
	if e.RetryAfter == Never {
		return 0, false
	}
	return e.RetryAfter, true
}

// Code is ErrNoAvailableProviders.
func (e *NoAvailableProvidersError) Code() Code {
	return ErrNoAvailableProviders
}

// Unwrap is the Code.
func (e *NoAvailableProvidersError) Unwrap() error {
	return ErrNoAvailableProviders
}

// Error names the provider, the wait and the reason.
func (e *NoAvailableProvidersError) Error() string {
	if e.Provider == "" {
		return "grate: no provider available: the capability has none"
	}
	why := e.HeldBy.String()
	if e.HeldBy == HeldByQuota {
		why = fmt.Sprintf("quota of %v per %v", e.HeldDimension, e.HeldWindow)
	}
	wait, ends := e.Wait()
	if !ends {
		return fmt.Sprintf("grate: no provider available: %q is held by its %s, and waiting does not help", e.Provider, why)
	}
	return fmt.Sprintf("grate: no provider available: %q frees first, in %v (%s)", e.Provider, wait, why)
}
