// Package grate picks, in your process, which metered upstream provider gets the next request, so that
// "429 Too Many Requests" is predicted and not received. It is the Go binding of libgrate, a library behind a C ABI, and
// needs cgo.
//
// An [Engine] knows providers with their quotas, and capabilities: what callers ask for, and who serves it.
// [Engine.Acquire] chooses a provider and reserves what the request will use; the [Lease] that it returns is settled
// with [Lease.Complete] once the request was sent, or with [Lease.Cancel] if it was not. Package gratehttp has an
// [net/http.RoundTripper] that does all of it.
//
// Zero values are defaults, or "not given". Where a true zero differs from that, it is [Zero] in a count, [PriorityZero]
// in a priority, and any negative value in a duration.
//
// All functions and methods may be called from any number of goroutines at once. No call waits for anything, but for
// [Engine.AcquireWait], which says so. With the build tag grate_static the library is linked statically.
package grate
