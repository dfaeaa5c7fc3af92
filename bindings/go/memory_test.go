//go:build !race

package grate_test

import (
	"fmt"
	"go/build"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	grate "github.com/libgrate/libgrate/bindings/go"
)

// The race detector has allocations of its own, so these tests are for builds without it.

func allocations(t *testing.T, what string, want float64, call func()) {
	t.Helper()
	if got := testing.AllocsPerRun(1000, call); got != want {
		t.Errorf("%s: want %v allocations, got %v", what, want, got)
	}
}

var kept *grate.Lease

func TestAllocations(t *testing.T) {
	engine, _ := newEngine(t, serving(grate.Provider{Name: "a"}, grate.Provider{Name: "b"}))
	header := http.Header{"Retry-After": {"1"}, "X-Ratelimit-Limit-Requests": {"60"}, "X-Filler": {"1", "2", "3"}}
	exclude := []string{"a", "unknown"}
	full := grate.Response{HTTPStatus: 200, Tokens: 100, Header: header}
	allocations(t, "a lease that is passed on", 1, func() {
		lease, err := engine.Acquire(background, "api", grate.Request{Tokens: 100, Exclude: exclude})
		if err != nil {
			t.Fatal(err)
		}
		kept = lease
		if err := kept.Complete(full); err != nil {
			t.Fatal(err)
		}
	})
	stays := 1.0
	if slices.Contains(build.Default.ReleaseTags, "go1.26") { // older compilers think that an atomic store lets it escape
		stays = 0
	}
	allocations(t, "a lease that stays", stays, func() {
		lease, err := engine.Acquire(background, "api", grate.Request{Tokens: 100, Exclude: exclude})
		if err != nil {
			t.Fatal(err)
		}
		if err := lease.Complete(full); err != nil {
			t.Fatal(err)
		}
	})
	allocations(t, "acquire and cancel", stays, func() {
		lease, err := engine.Acquire(background, "api", grate.Request{})
		if err != nil || lease.Cancel() != nil {
			t.Fatal(err)
		}
	})
	allocations(t, "observe", 0, func() { engine.Observe("a", full) })
	allocations(t, "select", 0, func() { engine.Select("api", grate.Request{}) })
	allocations(t, "none available: the error", 1, func() { engine.Select("api", grate.Request{Exclude: []string{"a", "b"}}) })
	allocations(t, "explained: the candidates", 1, func() { engine.Select("api", grate.Request{Explain: true}) })
	allocations(t, "health", 0, func() { engine.ProviderHealth("a") })
	allocations(t, "metrics", 0, func() { engine.Metrics() })
}

func TestLeak(t *testing.T) {
	engine, clock := newEngine(t, serving(grate.Provider{Name: "a", Quotas: []grate.Quota{perMinute(grate.DimensionTokens, 1e12)}}))
	header := http.Header{"Content-Type": {"application/json"}, "X-Ratelimit-Limit-Tokens": {"1000000000000"}}
	after := 0
	for i := 1; i <= 1_000_000; i++ {
		lease, err := engine.Acquire(background, "api", grate.Request{Tokens: 100, Explain: i%100 == 0})
		ok(t, err)
		response := grate.Response{HTTPStatus: 200, Tokens: 100}
		if i%4 == 0 {
			response.Header = header
		}
		ok(t, lease.Complete(response))
		if i%1000 == 0 {
			clock.Advance(1e9)
			if err := lease.Cancel(); err == nil {
				t.Fatal("settled twice")
			}
			if _, err := engine.Acquire(background, fmt.Sprint("unknown ", i), grate.Request{}); err == nil {
				t.Fatal("acquired for an unknown capability")
			}
		}
		if i == 100_000 {
			after = residentKiB(t)
		}
	}
	if grown := residentKiB(t) - after; grown >= 4<<10 {
		t.Errorf("grown by %d KiB", grown)
	}
}

// residentKiB is VmRSS, on Linux.
func residentKiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	ok(t, err)
	var kib int
	for _, line := range strings.Split(string(status), "\n") {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	t.Fatal("no VmRSS in /proc/self/status")
	return 0
}
