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
	mu      sync.Mutex // Advance reads and writes
	pointer *C.grate_clock
}

// NewMockClock makes a clock that shows start, to the millisecond; calendar windows depend on it.
func NewMockClock(start time.Time) *MockClock {
	c := &MockClock{pointer: C.grate_clock_mock_new(C.uint64_t(max(0, start.UnixMilli())))}
	runtime.SetFinalizer(c, func(c *MockClock) { C.grate_clock_free(c.pointer) })
	return c
}

// Advance moves the clock, monotonic and Unix time alike; it stops after 584 years. A negative duration moves it back, at
// most to its start.
func (c *MockClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := C.grate_clock_now_ns(c.pointer)
	then := now + C.uint64_t(d)
	if d > 0 && then < now {
		then = math.MaxUint64
	}
	if d < 0 && then > now {
		then = 0
	}
	C.grate_clock_set_ns(c.pointer, then)
}

// Set moves the clock to a time since its start. Going back counts as "no time has passed".
func (c *MockClock) Set(sinceStart time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	C.grate_clock_set_ns(c.pointer, C.uint64_t(max(0, sinceStart)))
}

// Now is the time since the clock's start; Never after more than 292 years.
func (c *MockClock) Now() time.Duration {
	now := duration(C.grate_clock_now_ns(c.pointer))
	runtime.KeepAlive(c)
	return now
}
