package grate_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	grate "github.com/libgrate/libgrate/bindings/go"
)

var background = context.Background()

// The example of the design, which every binding has as a test.
func TestDesignExample(t *testing.T) {
	engine, clock := newEngine(t, grate.Config{
		Providers: []grate.Provider{
			{Name: "primary", Priority: 10, Cooldown: 30 * time.Second, Quotas: []grate.Quota{perMinute(grate.DimensionRequests, 2)}},
			{Name: "backup", Priority: 5, Cooldown: 30 * time.Second, Quotas: []grate.Quota{perMinute(grate.DimensionRequests, 100)}},
		},
		Capabilities: []grate.Capability{{Name: "api", Providers: []grate.CapabilityProvider{{Provider: "primary"}, {Provider: "backup"}}}},
	})
	for i := 0; i < 3; i++ {
		clock.Advance(time.Second)
		ok(t, engine.Observe("primary", grate.Response{
			Outcome: grate.OutcomeRateLimited, Latency: 50 * time.Millisecond, Requests: 1,
		}))
	}
	equal(t, "provider", "backup", must(engine.Select("api", grate.Request{}))(t).Provider)
	equal(t, "in cooldown", true, must(engine.ProviderInCooldown("primary"))(t))
	clock.Advance(time.Minute)
	equal(t, "provider", "primary", must(engine.Select("api", grate.Request{}))(t).Provider)
	equal(t, "in cooldown", false, must(engine.ProviderInCooldown("primary"))(t))
}

func remaining(t *testing.T, engine *grate.Engine, dimension grate.Dimension) uint64 {
	t.Helper()
	return must(engine.RemainingQuota("a", dimension))(t)
}

func TestAcquireAndComplete(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	lease := must(engine.Acquire(background, "api", grate.Request{Tokens: 300}))(t)
	equal(t, "provider", "a", lease.Provider)
	equal(t, "held by", grate.HeldByNothing, lease.HeldBy)
	equal(t, "requests", 1, remaining(t, engine, grate.DimensionRequests))
	equal(t, "tokens", 700, remaining(t, engine, grate.DimensionTokens))
	equal(t, "bytes", grate.Unlimited, remaining(t, engine, grate.DimensionBytes))
	ok(t, lease.Complete(grate.Response{HTTPStatus: 200, Latency: 120 * time.Millisecond, Tokens: 280}))
	equal(t, "tokens", 720, remaining(t, engine, grate.DimensionTokens))
	state := must(engine.ProviderState("a"))(t)
	equal(t, "latency", 120*time.Millisecond, state.Latency)
	equal(t, "completions", 1, state.Completions)
}

func TestCancelGivesBack(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	lease := must(engine.Acquire(background, "api", grate.Request{Tokens: 300}))(t)
	ok(t, lease.Cancel())
	ok(t, engine.Cancel(must(engine.Acquire(background, "api", grate.Request{}))(t).ID()))
	equal(t, "requests", 2, remaining(t, engine, grate.DimensionRequests))
	equal(t, "tokens", 1000, remaining(t, engine, grate.DimensionTokens))
	equal(t, "cancellations", 2, must(engine.Metrics())(t).Cancellations)
}

func TestNotGivenAndTrueZero(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	settle := func(response grate.Response) {
		t.Helper()
		lease := must(engine.Acquire(background, "api", grate.Request{Tokens: 300}))(t)
		ok(t, lease.Complete(response))
	}
	settle(grate.Response{HTTPStatus: 200})
	equal(t, "tokens", 700, remaining(t, engine, grate.DimensionTokens))
	settle(grate.Response{HTTPStatus: 200, Tokens: grate.Zero, Requests: grate.Zero})
	equal(t, "tokens", 700, remaining(t, engine, grate.DimensionTokens))
	equal(t, "requests", 1, remaining(t, engine, grate.DimensionRequests))
	lease := must(engine.Acquire(background, "api", grate.Request{Tokens: grate.Zero}))(t)
	equal(t, "tokens", 700, remaining(t, engine, grate.DimensionTokens))
	ok(t, lease.Cancel())
}

func TestEveryDimension(t *testing.T) {
	dimensions := []grate.Dimension{grate.DimensionTokens, grate.DimensionInputTokens, grate.DimensionOutputTokens,
		grate.DimensionBytes, grate.DimensionCostMicroUSD}
	a := grate.Provider{Name: "a", Quotas: []grate.Quota{
		perMinute(grate.DimensionRequests, 3), {Dimension: grate.DimensionConcurrency, Limit: 2}}}
	for i, d := range dimensions {
		a.Quotas = append(a.Quotas, perMinute(d, uint64(10*(i+1))))
	}
	engine, _ := newEngine(t, serving(a))
	lease := must(engine.Acquire(background, "api", grate.Request{Tokens: 1, InputTokens: 2, OutputTokens: 3, Bytes: 4, CostMicroUSD: 5}))(t)
	for i, d := range dimensions {
		equal(t, d.String(), uint64(9*(i+1)), remaining(t, engine, d))
	}
	equal(t, "slots", 1, remaining(t, engine, grate.DimensionConcurrency))
	ok(t, lease.Complete(grate.Response{
		Outcome: grate.OutcomeSuccess, Requests: 2, Tokens: 2, InputTokens: 4, OutputTokens: 6, Bytes: 8, CostMicroUSD: 10}))
	for i, d := range dimensions {
		equal(t, d.String(), uint64(8*(i+1)), remaining(t, engine, d))
	}
	equal(t, "requests", 1, remaining(t, engine, grate.DimensionRequests))
	equal(t, "slots", 2, remaining(t, engine, grate.DimensionConcurrency))
}

func TestExcludeAndHeadroom(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	for _, c := range []struct {
		request grate.Request
		want    string
	}{
		{grate.Request{}, "a"},
		{grate.Request{Exclude: []string{"a", "unknown"}}, "b"},
		{grate.Request{Tokens: 900}, "a"},
		{grate.Request{Tokens: 900, Headroom: 0.3}, "b"},
		{grate.Request{InputTokens: 600, OutputTokens: 600}, "b"},
		{grate.Request{}, "a"}, // nothing of an earlier request is left
	} {
		equal(t, fmt.Sprintf("%+v", c.request), c.want, must(engine.Select("api", c.request))(t).Provider)
	}
}

func TestExplain(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	ok(t, engine.Observe("b", grate.Response{Outcome: grate.OutcomeRateLimited, RetryAfter: 5 * time.Second}))
	ok(t, engine.Configure(grate.Config{
		Providers: []grate.Provider{{Name: "c"}},
		Capabilities: []grate.Capability{{Name: "api",
			Providers: []grate.CapabilityProvider{{Provider: "b"}, {Provider: "c"}, {Provider: "a"}}}},
	}))
	lease := must(engine.Acquire(background, "api", grate.Request{Explain: true}))(t)
	rows := lease.Candidates
	equal(t, "candidates", 3, len(rows))
	equal(t, "order", "a c b", rows[0].Provider+" "+rows[1].Provider+" "+rows[2].Provider)
	equal(t, "places", "2 1 0", fmt.Sprint(rows[0].Index, rows[1].Index, rows[2].Index))
	equal(t, "chosen", lease.Candidate, rows[0])
	equal(t, "held", grate.HeldByCooldown, rows[2].HeldBy)
	equal(t, "wait", 5*time.Second, rows[2].RetryAfter)
	equal(t, "exhaustion", math.Inf(1), rows[1].SecondsToExhaustion)
	b := rows[0].Breakdown
	if sum := 0.40*b.Quota + 0.35*b.Health + 0.20*b.Priority + 0.05*b.Latency; math.Abs(sum-rows[0].Score) > 1e-9 {
		t.Errorf("the score is %v, its components make %v", rows[0].Score, sum)
	}
	if d := must(engine.Select("api", grate.Request{}))(t); d.Candidates != nil {
		t.Errorf("candidates without Explain: %v", d.Candidates)
	}
}

func TestMoreCandidatesThanFit(t *testing.T) {
	many := make([]grate.Provider, 1500)
	for i := range many {
		many[i].Name = fmt.Sprintf("p%04d", i)
	}
	config := serving(many...)
	for i := range config.Providers {
		config.Providers[i].Priority = 0
	}
	engine, _ := newEngine(t, config)
	equal(t, "candidates", 1024, len(must(engine.Select("api", grate.Request{Explain: true}))(t).Candidates))
}

func TestAcquireLooksAtItsContext(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	ctx, cancel := context.WithCancel(background)
	cancel()
	_, err := engine.Acquire(ctx, "api", grate.Request{})
	equal(t, "error", context.Canceled, err)
	equal(t, "acquires", 0, must(engine.Metrics())(t).Acquires)
}

// oneSlot is an engine on the system's clock.
func oneSlot(t *testing.T, quotas ...grate.Quota) *grate.Engine {
	t.Helper()
	engine, err := grate.New(serving(grate.Provider{Name: "a", Quotas: quotas}))
	ok(t, err)
	t.Cleanup(func() { engine.Close() })
	return engine
}

func TestAcquireWait(t *testing.T) {
	engine := oneSlot(t, grate.Quota{Dimension: grate.DimensionRequests, Limit: 1, Window: 200 * time.Millisecond})
	start := time.Now()
	for i := 0; i < 3; i++ {
		lease := must(engine.AcquireWait(background, "api", grate.Request{}))(t)
		ok(t, lease.Complete(grate.Response{HTTPStatus: 200}))
	}
	if waited := time.Since(start); waited < 400*time.Millisecond || waited > 5*time.Second {
		t.Errorf("three in %v", waited)
	}
}

func TestAcquireWaitForASlot(t *testing.T) {
	engine := oneSlot(t, grate.Quota{Dimension: grate.DimensionConcurrency, Limit: 1})
	first := must(engine.Acquire(background, "api", grate.Request{}))(t)
	time.AfterFunc(50*time.Millisecond, func() { first.Complete(grate.Response{HTTPStatus: 200}) })
	ctx, cancel := context.WithTimeout(background, 5*time.Second)
	defer cancel()
	ok(t, must(engine.AcquireWait(ctx, "api", grate.Request{}))(t).Cancel())
}

// Nobody knows when a lease ends. Those that wait for a quota profit from it, too: by what it gives back, or on another provider.
func TestAcquireWaitForALease(t *testing.T) {
	hourly := grate.Provider{Name: "a", Quotas: []grate.Quota{{Dimension: grate.DimensionRequests, Limit: 1, Window: time.Hour}}}
	slot := grate.Provider{Name: "b", Quotas: []grate.Quota{{Dimension: grate.DimensionConcurrency, Limit: 1}}}
	for _, providers := range [][]grate.Provider{{hourly}, {hourly, slot}} {
		engine, _ := newEngine(t, serving(providers...))
		var last *grate.Lease
		for range providers {
			last = must(engine.Acquire(background, "api", grate.Request{}))(t)
		}
		time.AfterFunc(20*time.Millisecond, func() { last.Cancel() })
		ctx, cancel := context.WithCancel(background)
		time.AfterFunc(10*time.Second, cancel)
		equal(t, "provider", last.Provider, must(engine.AcquireWait(ctx, "api", grate.Request{}))(t).Provider)
	}
}

func TestAcquireWaitEnds(t *testing.T) {
	engine := oneSlot(t, perMinute(grate.DimensionRequests, 1), perMinute(grate.DimensionTokens, 10))
	ok(t, must(engine.Acquire(background, "api", grate.Request{}))(t).Complete(grate.Response{HTTPStatus: 200}))
	start := time.Now()

	ctx, cancel := context.WithTimeout(background, 10*time.Second)
	defer cancel()
	_, err := engine.AcquireWait(ctx, "api", grate.Request{})
	if !errors.Is(err, grate.ErrNoAvailableProviders) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before a deadline that is too early: %v", err)
	}
	_, err = engine.AcquireWait(background, "api", grate.Request{Tokens: 11})
	if !errors.Is(err, grate.ErrNoAvailableProviders) {
		t.Errorf("for what never fits: %v", err)
	}
	ctx, cancel = context.WithCancel(background)
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = engine.AcquireWait(ctx, "api", grate.Request{})
	if !errors.Is(err, grate.ErrNoAvailableProviders) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if waited := time.Since(start); waited > 5*time.Second {
		t.Errorf("it took %v", waited)
	}
}

func TestHeadersTakeEffect(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	ok(t, engine.Observe("b", grate.Response{HTTPStatus: 429, Header: http.Header{"Retry-After": {"45"}}}))
	equal(t, "cooldown", 45*time.Second, must(engine.ProviderState("b"))(t).CooldownRemaining)
	header := http.Header{}
	for i := 0; i < 200; i++ {
		header.Add(fmt.Sprintf("X-Filler-%d", i%50), strings.Repeat("x", i))
	}
	header.Set("X-Ratelimit-Limit-Tokens", "1000")
	header.Set("X-Ratelimit-Remaining-Tokens", "250")
	header.Set("X-Ratelimit-Reset-Tokens", "30s")
	header["X-Empty"] = nil
	lease := must(engine.Acquire(background, "api", grate.Request{Tokens: 100}))(t)
	ok(t, lease.Complete(grate.Response{HTTPStatus: 200, Header: header}))
	equal(t, "tokens", 250, remaining(t, engine, grate.DimensionTokens))
	ok(t, engine.Observe("a", grate.Response{HTTPStatus: 200, Requests: grate.Zero, Header: http.Header{"X-Empty": nil}}))
}

func TestParseHeaders(t *testing.T) {
	report := must(grate.ParseHeaders(http.Header{
		"Retry-After":                    {"Thu, 01 Jan 2026 00:00:07 GMT"},
		"X-Ratelimit-Limit-Requests":     {"60"},
		"X-Ratelimit-Remaining-Requests": {"59"},
		"X-Ratelimit-Reset-Requests":     {"1s"},
		"X-Ratelimit-Remaining-Tokens":   {"149984"},
	}, newYear))(t)
	equal(t, "retry after", 7*time.Second, report.RetryAfter)
	equal(t, "cached", false, report.Cached)
	equal(t, "quotas", 2, len(report.Quotas))
	quotas := map[grate.Dimension]grate.HeaderQuota{}
	for _, q := range report.Quotas {
		quotas[q.Dimension] = q
	}
	equal(t, "requests", grate.HeaderQuota{Dimension: grate.DimensionRequests, Limit: 60, Remaining: 59, ResetIn: time.Second, Window: -1},
		quotas[grate.DimensionRequests])
	equal(t, "tokens", grate.HeaderQuota{Dimension: grate.DimensionTokens, Limit: grate.Absent, Remaining: 149984, ResetIn: -1, Window: -1},
		quotas[grate.DimensionTokens])

	report = must(grate.ParseHeaders(nil, newYear))(t)
	equal(t, "quotas", 0, len(report.Quotas))
	equal(t, "absent", true, report.RetryAfter < 0)
	equal(t, "cached", true, must(grate.ParseHeaders(http.Header{"Age": {"9"}}, newYear))(t).Cached)
}

func TestProviderState(t *testing.T) {
	pooled := perMinute(grate.DimensionRequests, 50)
	pooled.Pool = "account"
	engine, _ := newEngine(t, serving(grate.Provider{Name: "a", Quotas: []grate.Quota{
		pooled, {Dimension: grate.DimensionConcurrency, Limit: 4},
		{Dimension: grate.DimensionTokens, Limit: 9, Window: time.Second, Strategy: grate.StrategyTokenBucket, Burst: 20},
		{Dimension: grate.DimensionBytes, Limit: 7, Window: 24 * time.Hour, Strategy: grate.StrategyFixedWindow, Phase: 8 * time.Hour},
	}}))
	ok(t, engine.Observe("a", grate.Response{Outcome: grate.OutcomeTimeout, Latency: 700 * time.Millisecond, Requests: 3}))
	state := must(engine.ProviderState("a"))(t)
	equal(t, "circuit", grate.CircuitClosed, state.Circuit)
	equal(t, "failures", 1, state.ConsecutiveFailures)
	equal(t, "observations", 1, state.Observations)
	equal(t, "health", must(engine.ProviderHealth("a"))(t), state.Health)
	quotas := map[grate.Dimension]grate.QuotaState{}
	for _, q := range state.Quotas {
		quotas[q.Dimension] = q
	}
	rate, slots := quotas[grate.DimensionRequests], quotas[grate.DimensionConcurrency]
	equal(t, "strategy", grate.StrategyRolling, rate.Strategy)
	equal(t, "limit", 50, rate.Limit)
	equal(t, "limit in force", 50, rate.EffectiveLimit)
	equal(t, "source", grate.LimitConfigured, rate.LimitSource)
	equal(t, "used", 3, rate.Used)
	equal(t, "remaining", 47, rate.Remaining)
	equal(t, "pool", "account", rate.Pool)
	equal(t, "window", time.Minute, rate.Window)
	equal(t, "strategy", grate.StrategyConcurrency, slots.Strategy)
	equal(t, "pool", "", slots.Pool)
	equal(t, "burst", 20, quotas[grate.DimensionTokens].Remaining)
	equal(t, "strategy", grate.StrategyFixedWindow, quotas[grate.DimensionBytes].Strategy)
	equal(t, "no quotas", 0, len(must(engineWith(t, grate.Provider{Name: "x"}).ProviderState("x"))(t).Quotas))
}

func engineWith(t *testing.T, provider grate.Provider) *grate.Engine {
	engine, _ := newEngine(t, grate.Config{Providers: []grate.Provider{provider}})
	return engine
}

func TestPriorities(t *testing.T) {
	engine, _ := newEngine(t, grate.Config{
		Providers: []grate.Provider{{Name: "a", Priority: 10}, {Name: "b", Priority: 5}},
		Capabilities: []grate.Capability{
			{Name: "own", Providers: []grate.CapabilityProvider{{Provider: "b"}, {Provider: "a"}}},
			{Name: "other", Providers: []grate.CapabilityProvider{{Provider: "b", Priority: 11}, {Provider: "a"}}},
			{Name: "zero", Providers: []grate.CapabilityProvider{{Provider: "a", Priority: grate.PriorityZero}, {Provider: "b"}}},
			{Name: "empty"},
		},
	})
	for capability, want := range map[string]string{"own": "a", "other": "b", "zero": "b"} {
		equal(t, capability, want, must(engine.Select(capability, grate.Request{}))(t).Provider)
	}
}

// Each setting is seen by what it does.
func TestSettings(t *testing.T) {
	config := twoProviders()
	config.Engine = &grate.Settings{
		Weights: grate.Breakdown{Priority: 1}, CooldownTriggerCount: 1, RecoveryHalfLife: time.Hour, EWMAAlpha: 0.5,
		MinHealthForSelection: 0.1, CooldownThreshold: 0.1, CooldownMultiplier: 3, MaxCooldown: 80 * time.Second,
		LeaseTTL: 2 * time.Second, Skew: -1, EstimateQuantile: 0.9, MaxRetryAfter: time.Hour,
	}
	config.Providers[1].Cooldown = 20 * time.Second
	engine, clock := newEngine(t, config)
	equal(t, "score of the priority alone", 1, must(engine.Select("api", grate.Request{}))(t).Score)
	must(engine.Acquire(background, "api", grate.Request{}))(t)
	clock.Advance(3 * time.Second)
	must(engine.Acquire(background, "api", grate.Request{}))(t)
	equal(t, "expired", 1, must(engine.Metrics())(t).ExpiredLeases)
	for _, cooldown := range []time.Duration{20 * time.Second, 60 * time.Second, 80 * time.Second} {
		ok(t, engine.Observe("b", grate.Response{Outcome: grate.OutcomeServerError, Requests: grate.Zero}))
		equal(t, "cooldown", cooldown, must(engine.ProviderState("b"))(t).CooldownRemaining)
		clock.Advance(cooldown)
	}
	ok(t, engine.Observe("b", grate.Response{HTTPStatus: 429, RetryAfter: 48 * time.Hour}))
	equal(t, "cut wait", time.Hour, must(engine.ProviderState("b"))(t).CooldownRemaining)
	equal(t, "cut waits", 1, must(engine.Metrics())(t).CappedWaits)
}

func TestReconfigure(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	ok(t, engine.Observe("a", grate.Response{HTTPStatus: 200}))
	more := grate.Provider{Name: "a", Priority: 10, Quotas: []grate.Quota{perMinute(grate.DimensionRequests, 9)}}
	ok(t, engine.Configure(grate.Config{Providers: []grate.Provider{more}}))
	equal(t, "requests", 8, remaining(t, engine, grate.DimensionRequests))
	ok(t, engine.RemoveProvider("a"))
	equal(t, "provider", "b", must(engine.Select("api", grate.Request{}))(t).Provider)
	ok(t, engine.RemoveCapability("api"))
	ok(t, engine.Configure(grate.Config{Providers: []grate.Provider{more}, Replace: true}))
	_, err := engine.ProviderHealth("b")
	equal(t, "error", "GRATE_ERR_UNKNOWN_PROVIDER", nameOf(err))
}

func TestPrometheus(t *testing.T) {
	engine, _ := newEngine(t, twoProviders())
	for i := 0; i < 100; i++ {
		ok(t, engine.Configure(grate.Config{Providers: []grate.Provider{{Name: fmt.Sprintf("provider-%03d", i)}}}))
	}
	must(engine.Acquire(background, "api", grate.Request{}))(t)
	text := must(engine.Prometheus())(t)
	if len(text) <= 8<<10 { // needs a second call with a larger buffer
		t.Errorf("only %d bytes", len(text))
	}
	if !regexp.MustCompile(`(?m)^grate_acquires_total 1$`).MatchString(text) || !strings.Contains(text, "provider-099") ||
		!strings.HasSuffix(text, "\n") {
		t.Error(text)
	}
}

func TestMockClock(t *testing.T) {
	clock := grate.NewMockClock(newYear)
	clock.Advance(2*time.Second + 5)
	equal(t, "now", 2*time.Second+5, clock.Now())
	clock.Advance(-time.Second)
	equal(t, "back", time.Second+5, clock.Now())
	clock.Advance(-time.Hour)
	equal(t, "at the start", 0, clock.Now())
	clock.Set(7)
	equal(t, "set", 7, clock.Now())
	clock.Set(-7)
	equal(t, "not before the start", 0, clock.Now())
	for i := 0; i < 3; i++ {
		clock.Advance(grate.Never)
	}
	equal(t, "at the end", grate.Never, clock.Now())
}

func TestVersion(t *testing.T) {
	if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(grate.LibraryVersionString()) {
		t.Error(grate.LibraryVersionString())
	}
	if grate.LibraryVersion() < grate.HeaderVersion {
		t.Errorf("the library is %d, the header %d", grate.LibraryVersion(), grate.HeaderVersion)
	}
}

func TestNames(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{
		"cost_micro_usd": grate.DimensionCostMicroUSD, "concurrency": grate.StrategyConcurrency, "cancelled": grate.OutcomeCancelled,
		"exclusion": grate.HeldByExclusion, "ramping": grate.CircuitRamping, "told": grate.LimitTold,
		"99": grate.HeldBy(99), "-1": grate.Outcome(-1), "": grate.Dimension(0),
	} {
		equal(t, "name", want, got.String())
	}
}
