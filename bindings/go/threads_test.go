package grate_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	grate "github.com/libgrate/libgrate/bindings/go"
)

const (
	goroutines = 16
	rounds     = 500
)

func together(work func(i int)) {
	var all sync.WaitGroup
	for i := 0; i < goroutines; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			work(i)
		}()
	}
	all.Wait()
}

func TestSlotsAndUsageAddUp(t *testing.T) {
	engine, _ := newEngine(t, serving(grate.Provider{Name: "a", Quotas: []grate.Quota{
		{Dimension: grate.DimensionConcurrency, Limit: 3},
		perMinute(grate.DimensionRequests, 1e6), perMinute(grate.DimensionTokens, 1e9)}}))
	var inFlight, most atomic.Int64
	together(func(i int) {
		for done := 0; done < rounds; {
			lease, err := engine.Acquire(background, "api", grate.Request{Tokens: uint64(i + 1)})
			var none *grate.NoAvailableProvidersError
			if errors.As(err, &none) {
				if none.HeldBy != grate.HeldByConcurrency {
					t.Errorf("held by %v", none.HeldBy)
				}
				runtime.Gosched()
				continue
			}
			if err != nil {
				t.Error(err)
				return
			}
			now := inFlight.Add(1)
			for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
			}
			inFlight.Add(-1)
			err = lease.Complete(grate.Response{HTTPStatus: 200, Tokens: uint64(10 * (i + 1)),
				Header: map[string][]string{"X-Goroutine": {fmt.Sprint(i)}}})
			if err != nil {
				t.Error(err)
			}
			done++
		}
	})
	if most.Load() > 3 {
		t.Errorf("%d in flight", most.Load())
	}
	for _, q := range must(engine.ProviderState("a"))(t).Quotas {
		switch q.Dimension {
		case grate.DimensionRequests:
			equal(t, "requests", goroutines*rounds, q.Used)
		case grate.DimensionTokens:
			equal(t, "tokens", rounds*10*goroutines*(goroutines+1)/2, q.Used)
		}
	}
	m := must(engine.Metrics())(t)
	equal(t, "completions", goroutines*rounds, m.Completions)
	equal(t, "in flight", 0, m.LeasesInFlight)
}

func TestDecisionsDoNotMix(t *testing.T) {
	var config grate.Config
	for i := 0; i < goroutines; i++ {
		config.Providers = append(config.Providers, grate.Provider{Name: fmt.Sprint("p", i)})
		config.Capabilities = append(config.Capabilities, grate.Capability{
			Name: fmt.Sprint("c", i), Providers: []grate.CapabilityProvider{{Provider: fmt.Sprint("p", i)}}})
	}
	engine, _ := newEngine(t, config)
	together(func(i int) {
		want := fmt.Sprint("p", i)
		for n := 0; n < rounds; n++ {
			lease, err := engine.Acquire(background, fmt.Sprint("c", i), grate.Request{Explain: true, Exclude: []string{"nobody"}})
			if err != nil || lease.Provider != want || len(lease.Candidates) != 1 || lease.Candidates[0].Provider != want {
				t.Errorf("want %s, got %+v, %v", want, lease, err)
				return
			}
			if err := lease.Cancel(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestALeaseIsSettledOnce(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	for n := 0; n < 50; n++ {
		lease := must(engine.Acquire(background, "api", grate.Request{Exclude: []string{"a"}}))(t)
		var settled atomic.Int64
		together(func(i int) {
			err := lease.Cancel()
			if err == nil {
				settled.Add(1)
			} else if !errors.Is(err, grate.ErrStaleLease) {
				t.Error(err)
			}
		})
		equal(t, "settled", 1, settled.Load())
	}
}

func TestClosingUnderLoad(t *testing.T) {
	for n := 0; n < 20; n++ {
		engine, _ := newEngine(t, twoProviders())
		together(func(i int) {
			if i < 2 {
				time.Sleep(time.Millisecond)
				engine.Close()
				return
			}
			for {
				lease, err := engine.Acquire(background, "api", grate.Request{Exclude: []string{"a"}, Explain: i%2 == 0})
				if err == nil && lease.Provider != "b" {
					t.Errorf("provider %q", lease.Provider)
				}
				if err == nil {
					err = lease.Complete(grate.Response{HTTPStatus: 200})
				}
				if err == nil {
					_, err = engine.ProviderState("b")
				}
				if errors.Is(err, grate.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
}

// Engines, clocks and leases that nobody closes, in whatever order the collector finds them.
func TestFinalizers(t *testing.T) {
	together(func(int) {
		for n := 0; n < 20; n++ {
			clock := grate.NewMockClock(newYear)
			engine, err := grate.New(twoProviders(), grate.WithClock(clock))
			if err != nil {
				t.Error(err)
				return
			}
			lease, err := engine.Acquire(background, "api", grate.Request{})
			if err != nil {
				t.Error(err)
				return
			}
			clock, engine = nil, nil
			runtime.GC()
			if err := lease.Complete(grate.Response{HTTPStatus: 200}); err != nil { // holds its engine
				t.Error(err)
			}
		}
	})
	runtime.GC()
}
