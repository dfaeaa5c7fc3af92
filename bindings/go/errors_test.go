package grate_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	grate "github.com/libgrate/libgrate/bindings/go"
)

// fails checks an error three ways: as the target of errors.Is, of errors.As, and what it says.
func fails(t *testing.T, err error, code grate.Code, says string) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Errorf("want %v, got %v", code, err)
		return
	}
	if !strings.Contains(err.Error(), says) {
		t.Errorf("%q does not say %q", err, says)
	}
}

func TestErrorsHaveCodeNameAndMessage(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	_, err := engine.Acquire(background, "nope", grate.Request{})
	var failed *grate.Error
	if !errors.As(err, &failed) {
		t.Fatalf("%T", err)
	}
	equal(t, "code", grate.ErrUnknownCapability, failed.Code)
	equal(t, "code", 7, int(failed.Code))
	equal(t, "name", "GRATE_ERR_UNKNOWN_CAPABILITY", failed.Code.Name())
	equal(t, "message", true, strings.Contains(failed.Message, "nope"))
	equal(t, "name of no code", "GRATE_ERR_UNKNOWN", grate.Code(99).Name())
}

func TestUnknownNames(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	fails(t, engine.Observe("nope", grate.Response{HTTPStatus: 200}), grate.ErrUnknownProvider, "nope")
	fails(t, engine.RemoveProvider("nope"), grate.ErrUnknownProvider, "nope")
	fails(t, engine.RemoveCapability("nope"), grate.ErrUnknownCapability, "nope")
	_, err := engine.ProviderHealth("nope")
	fails(t, err, grate.ErrUnknownProvider, "nope")
	_, err = engine.ProviderInCooldown("nope")
	fails(t, err, grate.ErrUnknownProvider, "nope")
	_, err = engine.RemainingQuota("nope", grate.DimensionRequests)
	fails(t, err, grate.ErrUnknownProvider, "nope")
	_, err = engine.ProviderState("nope")
	fails(t, err, grate.ErrUnknownProvider, "nope")
}

func TestInvalidNames(t *testing.T) {
	engine, _ := newEngine(t, serving(grate.Provider{Name: "a"}, grate.Provider{Name: strings.Repeat("x", 128)}))
	ok(t, engine.RemoveProvider(strings.Repeat("x", 128)))
	for _, name := range []string{"", strings.Repeat("x", 129), strings.Repeat("x", 9999), "a\nb", "a\x00", "a\x00b", "a\xff"} {
		_, err := engine.Acquire(background, name, grate.Request{})
		fails(t, err, grate.ErrInvalidName, "")
		fails(t, engine.Observe(name, grate.Response{HTTPStatus: 200}), grate.ErrInvalidName, "")
		_, err = engine.ProviderState(name)
		fails(t, err, grate.ErrInvalidName, "")
		fails(t, engine.Configure(grate.Config{Providers: []grate.Provider{{Name: name}}}), grate.ErrInvalidName, "")
	}
	for _, name := range []string{strings.Repeat("x", 129), "a\xff"} {
		_, err := engine.Select("api", grate.Request{Exclude: []string{"b", name}})
		fails(t, err, grate.ErrInvalidName, "")
	}
	// Names to exclude that no provider can have are ignored, and are not cut to one that exists.
	equal(t, "provider", "a", must(engine.Select("api", grate.Request{Exclude: []string{"", "a\x00", "a\x00b", "a\n"}}))(t).Provider)
	equal(t, "acquires", 0, must(engine.Metrics())(t).Acquires)
}

func TestArgumentsOutOfRange(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	for _, headroom := range []float64{1, -0.1, math.NaN()} {
		_, err := engine.Select("api", grate.Request{Headroom: headroom})
		fails(t, err, grate.ErrInvalidArgument, "headroom")
	}
	_, err := engine.Select("api", grate.Request{Exclude: make([]string, 65)})
	fails(t, err, grate.ErrInvalidArgument, "")
	_, err = engine.RemainingQuota("a", 99)
	fails(t, err, grate.ErrInvalidArgument, "")
	lease := must(engine.Acquire(background, "api", grate.Request{}))(t)
	for _, response := range []grate.Response{{}, {HTTPStatus: 99}, {HTTPStatus: -200}, {Outcome: 99}} {
		fails(t, lease.Complete(response), grate.ErrInvalidArgument, "")
	}
	ok(t, lease.Complete(grate.Response{HTTPStatus: 200})) // it was still open
	ok(t, engine.Observe("a", grate.Response{HTTPStatus: 1<<32 + 200}))
	equal(t, "a failure", 1, must(engine.ProviderState("a"))(t).ConsecutiveFailures)
}

func TestInvalidConfigurations(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	for _, document := range []string{"", "{", `{"nope": 1}`, "\xff"} {
		fails(t, engine.ConfigureJSON([]byte(document)), grate.ErrInvalidJSON, "")
	}
	with := func(quota grate.Quota) grate.Config {
		return grate.Config{Providers: []grate.Provider{{Name: "c", Quotas: []grate.Quota{quota}}}}
	}
	fails(t, engine.Configure(with(grate.Quota{Dimension: grate.DimensionRequests, Limit: 1})), grate.ErrInvalidConfig, "")
	fails(t, engine.Configure(with(grate.Quota{Dimension: grate.DimensionRequests, Limit: 1, Window: 1500 * time.Microsecond})),
		grate.ErrInvalidConfig, "Window is 1.5ms")
	fails(t, engine.Configure(with(grate.Quota{Limit: 1, Window: time.Second})), grate.ErrInvalidJSON, "dimension")
	fails(t, engine.Configure(grate.Config{Providers: []grate.Provider{{Name: "c", Weight: math.NaN()}}}), grate.ErrInvalidConfig, "NaN")
	fails(t, engine.Configure(grate.Config{Capabilities: []grate.Capability{{Name: "x", Providers: []grate.CapabilityProvider{{Provider: "nope"}}}}}),
		grate.ErrUnknownProvider, "nope")
	_, err := grate.New(grate.Config{Engine: &grate.Settings{EWMAAlpha: 7}})
	fails(t, err, grate.ErrInvalidConfig, "")
	_, err = grate.New(grate.Config{Engine: &grate.Settings{LeaseTTL: 1}})
	fails(t, err, grate.ErrInvalidConfig, "LeaseTTL")
	_, err = grate.New(grate.Config{Engine: &grate.Settings{LeaseTTL: -time.Second}})
	fails(t, err, grate.ErrInvalidConfig, "LeaseTTL is -1s")
	for _, nothing := range [][]byte{nil, {}} {
		_, err = grate.NewJSON(nothing)
		fails(t, err, grate.ErrInvalidJSON, "line 1")
	}
	_, err = grate.NewJSON([]byte("nonsense"))
	fails(t, err, grate.ErrInvalidJSON, "line 1")
	_, err = engine.ProviderHealth("c")
	fails(t, err, grate.ErrUnknownProvider, "") // nothing was applied
}

func TestStaleLease(t *testing.T) {
	engine, clock := newEngine(t, twoProviders())
	lease := must(engine.Acquire(background, "api", grate.Request{}))(t)
	ok(t, lease.Complete(grate.Response{HTTPStatus: 200}))
	fails(t, lease.Complete(grate.Response{HTTPStatus: 200}), grate.ErrStaleLease, "")
	fails(t, lease.Cancel(), grate.ErrStaleLease, "")
	fails(t, engine.Complete(lease.ID(), grate.Response{HTTPStatus: 200}), grate.ErrStaleLease, "")
	for _, forged := range []uint64{0, 12345, math.MaxUint64} {
		fails(t, engine.Cancel(forged), grate.ErrStaleLease, "")
	}
	expired := must(engine.Acquire(background, "api", grate.Request{}))(t)
	clock.Advance(time.Hour)
	fails(t, expired.Complete(grate.Response{HTTPStatus: 200}), grate.ErrStaleLease, "")
	fails(t, new(grate.Lease).Cancel(), grate.ErrStaleLease, "")
	fails(t, new(grate.Lease).Complete(grate.Response{HTTPStatus: 200}), grate.ErrStaleLease, "")

	other, _ := newEngine(t, twoProviders())
	foreign := must(other.Acquire(background, "api", grate.Request{}))(t)
	ok(t, other.Cancel(foreign.ID()))
	fails(t, foreign.Cancel(), grate.ErrStaleLease, "")
}

func TestNoneAvailable(t *testing.T) {
	engine, clock := newEngine(t, twoProviders())
	only := grate.Request{Exclude: []string{"b"}, Explain: true}
	for i := 0; i < 2; i++ {
		ok(t, must(engine.Acquire(background, "api", only))(t).Complete(grate.Response{HTTPStatus: 200}))
		clock.Advance(12 * time.Second)
	}
	_, err := engine.Acquire(background, "api", only)
	fails(t, err, grate.ErrNoAvailableProviders, `"a" frees first, in 36`)
	fails(t, err, grate.ErrNoAvailableProviders, "(quota of requests per 1m0s)")
	var none *grate.NoAvailableProvidersError
	if !errors.As(err, &none) {
		t.Fatalf("%T", err)
	}
	wait, ends := none.Wait()
	equal(t, "ends", true, ends)
	if wait < 36*time.Second || wait > 36100*time.Millisecond {
		t.Errorf("a wait of %v", wait)
	}
	equal(t, "code", grate.ErrNoAvailableProviders, none.Code())
	equal(t, "provider", "a", none.Provider)
	equal(t, "held by", grate.HeldByQuota, none.HeldBy)
	equal(t, "dimension", grate.DimensionRequests, none.HeldDimension)
	equal(t, "window", time.Minute, none.HeldWindow)
	equal(t, "candidates", "quota exclusion", fmt.Sprint(none.Candidates[0].HeldBy, " ", none.Candidates[1].HeldBy))
	equal(t, "count", 1, must(engine.Metrics())(t).NoneAvailable)
}

func TestNoneEverAvailable(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	_, err := engine.Select("api", grate.Request{Tokens: 1001, Exclude: []string{"b"}})
	fails(t, err, grate.ErrNoAvailableProviders, "waiting does not help")
	var none *grate.NoAvailableProvidersError
	if errors.As(err, &none) {
		_, ends := none.Wait()
		equal(t, "ends", false, ends)
		equal(t, "wait", grate.Never, none.RetryAfter)
	}
	ok(t, engine.Configure(grate.Config{Capabilities: []grate.Capability{{Name: "empty"}}}))
	_, err = engine.Select("empty", grate.Request{})
	fails(t, err, grate.ErrNoAvailableProviders, "the capability has none")
}

// every calls each method once.
func every(engine *grate.Engine, lease *grate.Lease) map[string]error {
	errs := map[string]error{
		"Configure":        engine.Configure(grate.Config{}),
		"ConfigureJSON":    engine.ConfigureJSON([]byte("{}")),
		"RemoveProvider":   engine.RemoveProvider("a"),
		"RemoveCapability": engine.RemoveCapability("api"),
		"Observe":          engine.Observe("a", grate.Response{HTTPStatus: 200}),
		"Complete":         engine.Complete(1, grate.Response{HTTPStatus: 200}),
		"Cancel":           engine.Cancel(1),
		"Lease.Complete":   lease.Complete(grate.Response{HTTPStatus: 200}),
		"Lease.Cancel":     lease.Cancel(),
	}
	_, errs["Select"] = engine.Select("api", grate.Request{Explain: true, Exclude: []string{"x"}})
	_, errs["Acquire"] = engine.Acquire(background, "api", grate.Request{})
	_, errs["AcquireWait"] = engine.AcquireWait(background, "api", grate.Request{})
	_, errs["ProviderHealth"] = engine.ProviderHealth("a")
	_, errs["ProviderInCooldown"] = engine.ProviderInCooldown("a")
	_, errs["RemainingQuota"] = engine.RemainingQuota("a", grate.DimensionRequests)
	_, errs["ProviderState"] = engine.ProviderState("a")
	_, errs["Metrics"] = engine.Metrics()
	_, errs["Prometheus"] = engine.Prometheus()
	return errs
}

func TestClosed(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	lease := must(engine.Acquire(background, "api", grate.Request{}))(t)
	ok(t, engine.Close())
	ok(t, engine.Close())
	for method, err := range every(engine, lease) {
		if !errors.Is(err, grate.ErrClosed) {
			t.Errorf("%s: %v", method, err)
		}
	}
}

func TestEngineThatWasNotMade(t *testing.T) {
	for method, err := range every(new(grate.Engine), new(grate.Lease)) {
		if err == nil {
			t.Errorf("%s did not fail", method)
		}
	}
	ok(t, new(grate.Engine).Close())
	new(grate.MockClock).Advance(time.Second)
}

func TestErrorsOfAContextComeFirst(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	ctx, cancel := context.WithDeadline(background, newYear.AddDate(-10, 0, 0))
	defer cancel()
	_, err := engine.AcquireWait(ctx, "nope", grate.Request{})
	equal(t, "error", context.DeadlineExceeded, err)
}
