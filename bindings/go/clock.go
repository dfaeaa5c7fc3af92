package grate

// #include "native.h"
import "C"

import (
	"math"
	"runtime"
	"sync"
	"time"
)

// MockClock is a clock that stands still until it is moved, for tests and simulations: pass it to [New] with
// [WithClock]. It is freed by the garbage collector; engines that were made with it keep working.
type MockClock struct {
	mu      sync.Mutex // Advance is a read and a write
	pointer *C.grate_clock
}

// NewMockClock makes a clock that shows start, to the millisecond; calendar windows depend on it.
func NewMockClock(start time.Time) *MockClock {
	c := &MockClock{pointer: C.grate_clock_mock_new(C.uint64_t(max(0, start.UnixMilli())))}
	runtime.SetFinalizer(c, func(c *MockClock) { C.grate_clock_free(c.pointer) })
	return c
}

// Advance moves the clock, monotonic and Unix time alike. A negative duration moves it back, at most to its start.
func (c *MockClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Now()
	if d > math.MaxInt64-now {
		d = math.MaxInt64 - now
	}
	c.Set(now + d)
}

// Set moves the clock to a time since its start. Going back counts as "no time has passed".
func (c *MockClock) Set(sinceStart time.Duration) {
	C.grate_clock_set_ns(c.pointer, C.uint64_t(max(0, sinceStart)))
	runtime.KeepAlive(c)
}

// Now is the time since the clock's start.
func (c *MockClock) Now() time.Duration {
	now := duration(C.grate_clock_now_ns(c.pointer))
	runtime.KeepAlive(c)
	return now
}
